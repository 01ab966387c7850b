# Snapshots built on others. The cases are in bases.py, which prints lines like ours.
if has_tool bases python3 && has_tool bases gdb; then
  compile "$OUT/keeps_invariant" "$here/keeps_invariant.c" -O1 -pthread
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/bases.py" "$TMP" ||
    fail bases "its driver ended with status $?"
fi
