# Programs at a terminal: keys, job control, screens. terminal.py is the shell and the person; what it
# sees must be the same natively and under km.

at_terminal() { # CASE TOOL
  local case=$1 run status=0
  if ! has_tool "terminal-$case" "$2"; then return; fi
  for run in native km; do
    local monitor=()
    [ $run = km ] && monitor=(--km "$KM" "$KMCTL")
    rm -rf "$TMP/terminal" && mkdir "$TMP/terminal"
    (cd "$TMP/terminal" && exec timeout -k 5 "${TEST_TIMEOUT:-120}" /usr/bin/python3 \
      "$ROOT/$here/terminal.py" "${monitor[@]}" "$case") >"$TMP/terminal.$run" 2>&1 </dev/null || status=$?
    if [ $status != 0 ]; then
      fail "terminal-$case" "$run: $(status_name $status)" "$TMP/terminal.$run"
      return
    fi
  done
  if cmp -s "$TMP/terminal.native" "$TMP/terminal.km"; then pass "terminal-$case"
  else
    diff -a "$TMP/terminal.native" "$TMP/terminal.km" >"$TMP/.diff"
    fail "terminal-$case" 'differs from the native run (< native, > km)' "$TMP/.diff"
  fi
}

for case in keys background orphan python3 moved_python3; do at_terminal $case /usr/bin/python3; done
for case in vi moved_vi; do at_terminal $case vim.tiny; done
for case in less moved_less; do at_terminal $case less; done
at_terminal top top
