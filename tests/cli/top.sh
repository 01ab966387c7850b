# kmctl top. The cases are in top.py, which prints lines like ours.
if has_tool top python3; then
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/top.py" "$TMP" ||
    fail top "its driver ended with status $?"
fi
