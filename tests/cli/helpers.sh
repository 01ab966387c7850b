# What the parts share: a guest program that does as it is told, and comparisons.

probe=$OUT/probe
compile "$probe" "$here/probe.c" || { fail probe 'does not compile'; summary; }
hello=$OUT/hello
compile "$hello" payloads/hello.c -static

# refused NAME STATUS TEXT COMMAND...: exits with STATUS, prints nothing, and says TEXT in one line of
# its own on standard error.
refused() {
  local name=$1 wanted=$2 text=$3 status=0
  shift 3
  limited "$@" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status != "$wanted" ]; then fail "$name" "$(status_name $status), not $wanted" "$TMP/.errors"
  elif [ -s "$TMP/.output" ]; then fail "$name" 'printed something' "$TMP/.output"
  elif [ "$(wc -l <"$TMP/.errors")" != 1 ] || ! grep -q '^km: ' "$TMP/.errors"; then
    fail "$name" "not one line 'km: ...' on standard error" "$TMP/.errors"
  elif ! grep -qF -- "$text" "$TMP/.errors"; then
    fail "$name" "the message does not say '$text'" "$TMP/.errors"
  else pass "$name"; fi
}

# record RESULT COMMAND...: runs it in a fresh folder and keeps all that can be seen of it in RESULT.
# The folder has the same name each time, because programs print paths. What is different each time can be
# replaced in the output by the sed script $NORMALIZE.
record() {
  local result=$1 status=0 folder=$TMP/folder
  shift
  rm -rf "$folder"
  mkdir "$folder"
  # The outer redirection takes the shell's own "Killed".
  { (cd "$folder" && exec timeout -k 5 "${TEST_TIMEOUT:-60}" "$@") >"$result" 2>"$result.errors" <"${INPUT:-/dev/null}"; } 2>/dev/null
  status=$?
  if [ -n "${NORMALIZE:-}" ]; then sed -i "$NORMALIZE" "$result" "$result.errors"; fi
  {
    echo "== errors"
    cat "$result.errors"
    echo "== files"
    (cd "$folder" && find . -type f -exec sha256sum {} + | sort -k2)
    echo "== status $status"
  } >>"$result"
}

# same NAME COMMAND...: natively and under km: the same output, errors, files left behind and status.
# Standard input comes from $INPUT.
same() {
  local name=$1
  shift
  record "$TMP/native" "$@"
  record "$TMP/under-km" "$KM" "$@"
  if cmp -s "$TMP/native" "$TMP/under-km"; then pass "$name"
  else
    diff -a "$TMP/native" "$TMP/under-km" >"$TMP/.diff"
    fail "$name" "differs from the native run (< native, > km): $*" "$TMP/.diff"
  fi
}

# says NAME WANTED FUNCTION...: what a shell function prints (it limits the time of what it runs).
says() {
  local name=$1 wanted=$2 got
  shift 2
  got=$("$@" 2>"$TMP/.errors" </dev/null | tr -d "\000")
  if [ "$got" = "$wanted" ]; then pass "$name"
  else
    diff <(echo "$wanted") <(echo "$got") >"$TMP/.diff"
    cat "$TMP/.errors" >>"$TMP/.diff"
    fail "$name" 'output differs (< wanted, > got, then standard error)' "$TMP/.diff"
  fi
}
