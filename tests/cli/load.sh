# Snapshots from outside at bad moments, of much at once, and seen from a terminal. The cases are in load.py,
# which prints lines like ours. ONE_INSTANT='COUNT MEGABYTES' takes more snapshots, of more memory, of threads
# that keep an invariant.
if has_tool load python3; then
  for program in keeps_invariant in_handler many_threads churn; do
    compile "$OUT/$program" "$here/$program.c" -O1 -pthread
  done
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 "${LOAD_TIMEOUT:-300}" python3 "$here/load.py" "$TMP" ${LOAD:-} ||
    fail load "its driver ended with status $?"
fi
