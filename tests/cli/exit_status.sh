# What km exits with, or dies of, is what the program exits with, or dies of.

for status in 0 1 2 42 125 126 127 128 139 255; do
  check_status $status exit-$status "$KM" "$probe" exit $status
done
check_status 0 ignored-signal "$KM" "$probe" kill "$(kill -l CHLD)"

# ends NAME SIGNAL-TO-SEND OUTPUT ARGS...: the probe's output, then its status or -signal. A shell cannot
# tell exit status 139 from SIGSEGV, so this does not ask one.
ends() {
  local name=$1 signal=$2 wanted=$3
  shift 3
  (ulimit -c 0; limited "$here/signal_to" "$signal" "$KM" "$probe" "$@") >"$TMP/.output" \
    2>"$TMP/.errors"
  if [ "$(<"$TMP/.output")" = "$wanted" ]; then pass "$name"
  else fail "$name" "'$(<"$TMP/.output")', not '$wanted'" "$TMP/.errors"; fi
}
for signal in HUP INT QUIT ILL ABRT FPE KILL SEGV PIPE ALRM TERM USR1 USR2 BUS SYS XCPU RTMIN; do
  number=$(kill -l $signal)
  ends "dies-of-$signal" 0 -$number kill $number
done
for thing in read:SEGV jump:SEGV illegal:ILL divide:FPE abort:ABRT; do
  ends "crash-${thing%:*}" 0 "-$(kill -l ${thing#*:})" crash ${thing%:*}
done

# Signals that come to km from outside.
for signal in HUP INT QUIT USR1 USR2 TERM CHLD WINCH RTMIN RTMAX; do
  number=$(kill -l $signal)
  ends "handles-$signal" $number "signal $(printf %02d $number)"$'\n7' await $number
done
for signal in HUP INT TERM USR1 KILL; do
  number=$(kill -l $signal)
  ends "killed-while-blocked-$signal" $number -$number await "$(kill -l ALRM)"
  ends "killed-while-running-$signal" $number -$number spin
done

# Who waits for a robust mutex that it had, in memory that they share, is told.
compile "$OUT/robust" "$here/robust.c" -pthread
waits_for() { # HOW [KM]
  local how=$1 holder
  shift
  rm -f "$TMP/robust"
  (ulimit -c 0; limited "$@" "$OUT/robust" "$TMP/robust" "$how") >/dev/null 2>&1 &
  holder=$!
  limited "$OUT/robust" "$TMP/robust" take
  wait $holder
}
for how in exit other last signal crash; do
  says "robust-natively-$how" 'the owner died' waits_for $how
  says "robust-$how" 'the owner died' waits_for $how "$KM"
done

# The word of set_tid_address(2) stays where nobody is left who could look at it.
compile "$OUT/clear_tid" "$here/clear_tid.c"
word_of() { # HOW [KM]
  local how=$1
  shift
  rm -f "$TMP/word"
  limited "$@" "$OUT/clear_tid" "$TMP/word" "$how" && head -c 4 "$TMP/word"
}
for how in exit exit_group; do
  says "clear-tid-natively-$how" AAAA word_of $how
  says "clear-tid-$how" AAAA word_of $how "$KM"
done
