# What the parts share: a guest program, snapshots of it, comparisons.

probe=$OUT/probe
probe_static=$OUT/probe-static
# -Og and no sibling calls: backtraces show every function.
probe_flags=(-Og -fno-optimize-sibling-calls "$BUILD/libkm.a")
compile "$probe" "$here/probe.c" "${probe_flags[@]}" &&
  compile "$probe_static" "$here/probe.c" "${probe_flags[@]}" -static ||
  { fail probe 'does not compile'; summary; }

# takes NAME FILE COMMAND...: COMMAND under km writes the snapshot FILE and succeeds.
takes() {
  local name=$1 file=$2 status=0
  shift 2
  rm -f "$file"
  limited "$KM" --no-sync --snapshot="$file" "$@" >"$TMP/.output" 2>&1 || status=$?
  if [ $status = 0 ] && [ -s "$file" ]; then return 0; fi
  fail "$name" "no snapshot of: $* ($(status_name $status))" "$TMP/.output"
  return 1
}

# The four blocked threads: standard input stays open while they are caught.
takes_threads() { takes "$1" "$2" "${3:-$probe}" threads < <(sleep 30); }
threads_output='woken 1
futex: 0, vector intact
nanosleep: 0, vector intact
poll: 0, vector intact
read: 6, vector intact
read '\''hello'\'

# With the time limit; a shell function limits what it runs itself.
run_limited() { if [ "$(type -t "$1")" = function ]; then "$@"; else limited "$@"; fi; }

# prints NAME WANTED COMMAND...: what a command or shell function prints; it exits 0. Standard error
# must stay empty.
prints() {
  local name=$1 wanted=$2 status=0
  shift 2
  run_limited "$@" >"$TMP/.output" 2>"$TMP/.errors" || status=$?
  if [ $status != 0 ]; then fail "$name" "$(status_name $status)" "$TMP/.errors"
  elif [ -s "$TMP/.errors" ]; then fail "$name" 'something on standard error' "$TMP/.errors"
  elif [ "$(cat "$TMP/.output")" != "$wanted" ]; then
    diff <(echo "$wanted") "$TMP/.output" >"$TMP/.diff"
    fail "$name" 'output differs (< wanted, > got)' "$TMP/.diff"
  else pass "$name"; fi
}

# refused NAME FILE TEXT [OPTIONS]: `km FILE` exits with 126 and one line that has TEXT, changing nothing beside.
refused() {
  local name=$1 file=$2 text=$3 status=0 before lines
  shift 3
  before=$(stat -c '%n %s %y' "$(dirname "$file")"/*)
  limited "$KM" "$@" "$file" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  mapfile -t lines <"$TMP/.errors"
  if [ $status != 126 ]; then fail "$name" "$(status_name $status), not 126" "$TMP/.errors"
  elif [ -s "$TMP/.output" ]; then fail "$name" 'printed something' "$TMP/.output"
  elif [ ${#lines[@]} != 1 ] || [[ ${lines[0]} != 'km: '* ]]; then
    fail "$name" "not one line 'km: ...' on standard error" "$TMP/.errors"
  elif [[ ${lines[0],,} != *"${text,,}"* ]]; then
    fail "$name" "the message does not say '$text'" "$TMP/.errors"
  elif [ "$before" != "$(stat -c '%n %s %y' "$(dirname "$file")"/*)" ]; then fail "$name" 'a file was changed'
  else return 0; fi
  return 1
}

# field FILE PYTHON-EXPRESSION: of the snapshot's description `d`.
field() {
  "$KMCTL" inspect --json "$1" | /usr/bin/python3 -c "import json, sys; d = json.load(sys.stdin); print($2)"
}
