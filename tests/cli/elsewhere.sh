# Snapshots resumed elsewhere and later. The cases are in elsewhere.py, which prints lines like ours.
if has_tool elsewhere python3; then
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/elsewhere.py" "$TMP" ||
    fail elsewhere "its driver ended with status $?"
fi
