# A snapshot that cannot be written: the guest gets the errno and goes on, an older file stays, and
# nothing else is left behind.

# fails NAME FOLDER FILE WANTED COMMAND...: the guest prints WANTED, FOLDER stays as it is.
fails() {
  local name=$1 folder=$2 wanted=$3 status=0 before after
  shift 3
  before=$(listing "$folder")
  limited "$@" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  after=$(listing "$folder")
  if [ $status != 0 ]; then fail "$name" "$(status_name $status)" "$TMP/.errors"
  elif [ "$(cat "$TMP/.output")" != "no snapshot: $wanted" ]; then fail "$name" "not '$wanted'" "$TMP/.output"
  elif [ "$(wc -l <"$TMP/.errors")" != 1 ] || ! grep -q '^km: no snapshot was taken: ' "$TMP/.errors"; then
    fail "$name" 'not one line about it on standard error' "$TMP/.errors"
  elif [ "$before" != "$after" ]; then
    diff <(echo "$before") <(echo "$after") >"$TMP/.diff"
    fail "$name" 'something was changed or left behind' "$TMP/.diff"
  else pass "$name"; fi
}
listing() { (cd "$1" 2>/dev/null && ls -A && cat -- * | sha256sum) 2>/dev/null; }

folder=$TMP/failures
mkdir -p "$folder/directory"
echo 'an older file' >"$folder/old"
tried() { echo "$KM" --snapshot="$1" "$probe" try; }
fails missing-directory "$folder" 'No such file or directory' $(tried "$folder/none/file")
fails file-as-directory "$folder" 'Not a directory' $(tried "$folder/old/file")
fails directory-as-file "$folder" 'Is a directory' $(tried "$folder/directory")
fails long-name "$folder" 'File name too long' $(tried "$folder/$(printf '%0300d' 1)")
# The guest can have set the limit itself; the signal that comes with it is not the guest's.
fails file-size-limit "$folder" 'File too large' sh -c "ulimit -f 64; exec $(tried "$folder/old")"

if unshare -m true 2>/dev/null; then
  read_only='mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" --snapshot="$1/old" "$3" try'
  fails read-only-directory "$folder" 'Read-only file system' \
    unshare -m sh -c "$read_only" sh "$folder" "$KM" "$probe"
  full='mount -t tmpfs -o size=1m none "$1" && echo old >"$1/old" && "$2" --snapshot="$1/old" "$3" try &&
    [ "$(ls -A "$1")" = old ] && [ "$(cat "$1/old")" = old ]'
  fails full-directory "$folder" 'No space left on device' \
    unshare -m sh -c "$full" sh "$folder" "$KM" "$probe"
else skip read-only-directory 'no right to mount'; skip full-directory 'no right to mount'; fi

# An older snapshot survives, and is replaced by one that succeeds.
if takes older "$folder/snapshot" "$probe" try; then
  older=$(sha256sum "$folder/snapshot")
  fails older-snapshot "$folder" 'File too large' sh -c "ulimit -f 64; exec $(tried "$folder/snapshot")"
  prints older-resumes resumed limited "$KM" "$folder/snapshot"
  prints older-replaced 'went on' limited "$KM" --no-sync --snapshot="$folder/snapshot" "$probe" try
  if [ "$(sha256sum "$folder/snapshot")" != "$older" ]; then pass older-is-new
  else fail older-is-new 'the file is the old one'; fi
  prints older-mode 600 stat -c %a "$folder/snapshot"
fi

# What no snapshot carries is refused by number and kind, and the guest goes on.
in_folder() { (cd "$folder" && exec timeout -k 5 60 "$@"); }
while read -r kind text; do
  rm -f "$folder/refused"
  status=0
  in_folder "$KM" --no-sync --max-unnamed=1000000 --snapshot="$folder/refused" \
    "$probe" refused $kind 7< <(exec sleep 60) >"$TMP/.output" 2>"$TMP/.errors" || status=$?
  if [ $status = 2 ]; then skip "refused-$kind" "$(head -n 1 "$TMP/.output")"
  elif [ $status != 0 ]; then fail "refused-$kind" "$(status_name $status)" "$TMP/.output"
  elif ! grep -q '^no snapshot: ' "$TMP/.output" || grep -q LOST "$TMP/.output"; then
    fail "refused-$kind" 'the guest did not see it' "$TMP/.output"
  elif ! grep -qE "^km: .*descriptor 7, a .*$text" "$TMP/.errors"; then
    fail "refused-$kind" "the message does not name descriptor 7 and '$text'" "$TMP/.errors"
  elif ! [ -s "$folder/refused" ]; then fail "refused-$kind" 'the second snapshot is missing'
  else pass "refused-$kind"; fi
done <<'END'
directory directory, was deleted
pipe pipe, leads to another process
memfd memfd, has no name, and its 3145728 bytes are more
END
