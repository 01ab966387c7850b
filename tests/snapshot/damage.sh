# Damaged snapshots are refused with one clear line, and `kmctl verify` sees the damage.

kmctl_says() { # NAME STATUS FILE
  local status=0
  limited "$KMCTL" verify "$3" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status != "$2" ]; then fail "$1-verify" "kmctl verify: $(status_name $status), not $2" "$TMP/.errors"
  elif [ "$2" = 1 ] && [ "$(wc -l <"$TMP/.errors")" != 1 ]; then
    fail "$1-verify" 'kmctl verify: not one line on standard error' "$TMP/.errors"
  else return 0; fi
  return 1
}
resumes() { # NAME FILE
  local status=0
  limited "$KM" "$2" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status = 0 ] && [ "$(cat "$TMP/.output")" = resumed ] && ! [ -s "$TMP/.errors" ]; then return 0; fi
  fail "$1" "does not resume ($(status_name $status))" "$TMP/.errors"
  return 1
}

mkdir "$TMP/damaged"
if takes damage "$TMP/good" "$probe" try && $here/damage_copies "$TMP/good" "$TMP/damaged" >"$TMP/copies"; then
  while IFS=$'\t' read -r name wanted text; do
    file=$TMP/damaged/$name
    case $wanted in
      # The script's own checksums are right: it depends on no code of km's.
      same) cmp "$TMP/good" "$file" && resumes "$name" "$file" && kmctl_says "$name" 0 "$file" ;;
      resume) resumes "$name" "$file" && kmctl_says "$name" 0 "$file" ;;
      lacks) refused "$name" "$file" "$text" && kmctl_says "$name" 0 "$file" ;;
      refuse) refused "$name" "$file" "$text" && kmctl_says "$name" 1 "$file" ;;
      verify) kmctl_says "$name" 1 "$file" ;;
    esac && pass "$name"
    rm -f "$file"
  done <"$TMP/copies"
else fail damage 'no damaged copies'; fi

# The newest km reads every older version.
for golden in "$here"/golden/*.kmsnap; do
  check "golden-$(basename "$golden")" "$KMCTL" verify "$golden"
  check "golden-$(basename "$golden")-inspect" "$KMCTL" inspect "$golden"
done
