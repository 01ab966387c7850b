# Connections that go on in another process. The cases are in kept.py, which prints lines like ours.
if has_tool kept python3; then
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/kept.py" "$TMP" ||
    fail kept "its driver ended with status $?"
fi
