# Snapshots in a file that the client made. The cases are in ownfile.py, which prints lines like ours.
if has_tool ownfile python3; then
  compile "$OUT/keeps_invariant" "$here/keeps_invariant.c" -O1 -pthread
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/ownfile.py" "$TMP" ||
    fail ownfile "its driver ended with status $?"
fi
