# What the host has of a process beside files: System V objects, message queues, settings, sessions.

state=$OUT/state
compile "$state" "$here/state.c" -O1 -Iinclude || fail state 'does not compile'
key=0x4b4d$(printf %04x $((RANDOM)))
queue=/km-state-$$
remove_objects() {
  ipcrm -M $key -S $key -Q $key 2>/dev/null
  perl -e 'syscall(241, $ARGV[0])' "${queue#/}"  # mq_unlink
}
objects() { ipcs -m -s -q | awk '$1 ~ /^0x/' | wc -l; }
# warned NAME WANTED: what the resumed process prints, with a warning for each of its four objects.
warned() {
  local name=$1 wanted=$2 status=0
  limited "$KM" "$TMP/keyed" >"$TMP/out" 2>"$TMP/err" </dev/null || status=$?
  if [ $status != 0 ] || [ "$(cat "$TMP/out")" != "$wanted" ]; then
    fail "$name" "$(status_name $status), not '$wanted'" "$TMP/err"
  elif [ "$(grep -c 'is another than when the snapshot was taken' "$TMP/err")" != 4 ]; then
    fail "$name" 'not four warnings' "$TMP/err"
  else pass "$name"; fi
}

if has_tool state-keyed ipcs && has_tool state-keyed perl &&
  takes state-keyed "$TMP/keyed" "$state" keyed $key $queue; then
  # They are as it left them; the semaphore that it held it holds again.
  prints state-keyed-there 'memory 0 7 1 1' limited "$KM" --files=strict "$TMP/keyed"
  # Another process has it now.
  perl -e 'use IPC::SysV qw(SEM_UNDO); $s = semget(hex(shift), 2, 0600); semop($s, pack("s!3", 0, -1, SEM_UNDO)) or die; $| = 1; print "held\n"; sleep 20' $key >"$TMP/holder" &
  holder=$!
  until [ -s "$TMP/holder" ]; do sleep 0.1; done
  refused state-keyed-held "$TMP/keyed" 'is held by another process' && pass state-keyed-held
  kill $holder; wait $holder 2>/dev/null
  # Gone, they are made anew, and stay.
  remove_objects
  before=$(objects)
  prints state-keyed-anew 'memory 0 7 1 1' limited "$KM" --files=strict "$TMP/keyed"
  [ "$(objects)" = $((before + 3)) ] && pass state-keyed-stay || fail state-keyed-stay "$(objects) objects"
  # Those are others than the snapshot's.
  refused state-keyed-strict "$TMP/keyed" 'is another than when the snapshot was taken' --files=strict &&
    pass state-keyed-strict
  prints state-keyed-ignored 'memory 0 7 1 1' limited "$KM" --files=ignore "$TMP/keyed"
  warned state-keyed-warned 'memory 0 7 1 1'
  # One that does not fit; and nothing is left of those that were made before it failed.
  remove_objects
  before=$(objects)
  perl -e 'semget(hex(shift), 3, 01600) // die' $key
  refused state-keyed-unfit "$TMP/keyed" 'has 3 semaphores on this host, not 2' && pass state-keyed-unfit
  [ "$(objects)" = $((before + 1)) ] && pass state-keyed-undone || fail state-keyed-undone "$(objects) objects"
  remove_objects
fi

if has_tool state-private ipcs; then
  before=$(objects)
  if takes state-private "$TMP/private" "$state" private; then
    [ "$(objects)" = "$before" ] && pass state-private-taken || fail state-private-taken "$(objects), not $before"
    prints state-private-one a limited "$KM" --no-sync --snapshot="$TMP/private-2" "$TMP/private"
    [ "$(objects)" = "$before" ] && pass state-private-moved || fail state-private-moved "$(objects), not $before"
    for i in 1 2; do prints state-private-$i ab limited "$KM" "$TMP/private-2"; done
    [ "$(objects)" = "$before" ] && pass state-private-gone || fail state-private-gone "$(objects), not $before"
  fi
fi

# What it set, and what it was given. Some are of one started with the nice value 0.
if takes state-nice "$TMP/nice" "$state" nice 5; then
  prints state-nice 'nice 5' limited "$KM" "$TMP/nice"
  prints state-nice-set 'nice 5' limited nice -n 2 "$KM" "$TMP/nice"
fi
if [ "$(nice)" != 0 ]; then skip state-given "the tests' nice value is $(nice)"
elif takes state-given "$TMP/given" "$state" given-nice; then
  prints state-given 'nice 7' limited nice -n 7 "$KM" "$TMP/given"
fi
if [ "$(nice)" != 0 ]; then skip state-privilege "the tests' nice value is $(nice)"
elif [ "$(id -u)" = 0 ] && has_tool state-privilege setpriv && takes state-privilege "$TMP/less" "$state" nice -5; then
  prints state-privileged 'nice -5' limited "$KM" "$TMP/less"
  printf '#!/bin/sh\nexec setpriv --bounding-set -sys_nice "%s" "$@"\n' "$KM" >"$TMP/without"
  chmod +x "$TMP/without"
  if ! prlimit --nice=40:40 true 2>/dev/null; then skip state-limit 'limits cannot be raised here'
  else prints state-limit 'nice -5' limited prlimit --nice=40:40 "$TMP/without" "$TMP/less"; fi
  KM=$TMP/without refused state-privilege "$TMP/less" 'nice value -5' && pass state-privilege
fi

# A command of an interactive shell leads a group, and cannot make a session at once.
if has_tool state-session perl && takes state-session "$TMP/session" "$state" session; then
  prints state-session leads limited "$KM" "$TMP/session"
  prints state-session-of-shell leads limited perl -e 'setpgrp; exec @ARGV' "$KM" "$TMP/session"
fi
