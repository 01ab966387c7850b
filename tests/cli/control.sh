# The control socket: kmctl's verbs for running programs, and clients that mean no good. The cases are
# in control.py, which prints lines like ours.
if has_tool control python3; then
  compile "$OUT/keeps_invariant" "$here/keeps_invariant.c" -O1 -pthread
  KM=$KM KMCTL=$KMCTL OUT=$OUT limited_to=300 timeout -k 5 300 python3 "$here/control.py" "$TMP" ||
    fail control "its driver ended with status $?"
fi
