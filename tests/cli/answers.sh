# Answers of monitors, and kmctl --json. The cases are in answers.py, which prints lines like ours.
if /usr/bin/python3 -c 'import jsonschema' 2>/dev/null; then
  compile "$OUT/keeps_invariant" "$here/keeps_invariant.c" -O1 -pthread
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 /usr/bin/python3 -W ignore "$here/answers.py" "$TMP" ||
    fail answers "its driver ended with status $?"
else skip answers 'python3-jsonschema is not installed (tools/setup test)'; fi
