# What the kernel holds for a program is of the same instant as its memory. The cases are in instant.py,
# which prints lines like ours.
if has_tool instant python3; then
  compile "$OUT/instant" "$here/instant.c" -O1 -pthread
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/instant.py" "$TMP" ||
    fail instant "its driver ended with status $?"
fi
