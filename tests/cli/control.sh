# The control socket: kmctl's verbs for running programs, and clients that mean no good. The cases are
# in control.py, which prints lines like ours.
if has_tool control python3; then
  compile "$OUT/keeps_invariant" "$here/keeps_invariant.c" -O1 -pthread
  KM=$KM KMCTL=$KMCTL OUT=$OUT timeout -k 5 300 python3 "$here/control.py" "$TMP" ||
    fail control "its driver ended with status $?"
fi

# In a namespace of its own; kernels before 6.7 have one list of formats for the whole machine.
binfmt() {
  "$KM" --no-sync --snapshot="$TMP/runnable" "$BUILD/payloads/hello_snapshot" &&
    chmod +x "$TMP/runnable" && unshare -Urm bash -c '
      mount -t binfmt_misc none /proc/sys/fs/binfmt_misc &&
        "$1" binfmt --register && "$1" binfmt --register && "$2" &&
        "$1" binfmt --unregister && ! "$2" 2>/dev/null' binfmt "$KMCTL" "$TMP/runnable"
}
if unshare -Urm mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null; then
  if binfmt >"$TMP/.output" 2>&1; then pass binfmt; else fail binfmt 'see' "$TMP/.output"; fi
else skip binfmt 'no binfmt_misc in a namespace of its own'; fi

completed() { # NAME WANTED WORD...: what bash offers for the last word
  local name=$1 wanted=$2
  shift 2
  expect_output "completion-$name" "$wanted" bash -c '. tools/completion/kmctl; COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1)); _kmctl; echo "${COMPREPLY[*]}"' completion "$@"
}
completed verb snapshot kmctl sn
completed top "--interval" kmctl top --in
completed option --stop kmctl snapshot 17 --st
completed supplied tools/completion/kmctl kmctl supply 17 3 = tools/completion/km
completed signal 'SIGUSR1 SIGUSR2' kmctl signal 17 SIGUSR
