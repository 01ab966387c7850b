# What costs no exit, and as many threads as KVM has virtual processors for.

clocks=$OUT/clocks
if ! compile "$clocks" "$here/clocks.c"; then fail vdso 'does not compile'
else
  # How often the kernel was asked, natively: some of its clocks are of no use to a vDSO.
  natively=$(limited strace -f -e trace=clock_gettime,gettimeofday,time,getcpu "$clocks" 1000 2>&1 >/dev/null | grep -c '(')
  limited "$KM" --stats "$clocks" 1000 >"$TMP/out" 2>"$TMP/stats"
  exits=$(sed -n '/exits reason/,/ total$/s/^ *\([0-9]*\) total$/\1/p' "$TMP/stats")
  # On hardware KVM the processor's number is one of the host's that only a system call tells (docs/kvm.md).
  processor=$(sed -n 's/.* \([0-9][0-9]*\)  *getcpu$/\1/p' "$TMP/stats")
  if [ "$(<"$TMP/out")" != right ]; then fail vdso "$(<"$TMP/out")" "$TMP/stats"
  elif [ -n "$exits" ] && [ "$exits" -lt $((natively + ${processor:-0} + 1000)) ]; then pass vdso-makes-no-exit
  else fail vdso-makes-no-exit "7000 questions made ${exits:-no} exits, natively $natively calls" "$TMP/stats"; fi
fi

# As many as KVM says, unless something else allows fewer.
threads=$OUT/threads_limit
if ! compile "$threads" "$here/threads_limit.c" -pthread; then fail threads-limit 'does not compile'
else
  vcpus=$(/usr/bin/python3 -c 'import fcntl
print(min(fcntl.ioctl(open("/dev/kvm"), 0xAE03, 66), 4096))')  # KVM_CHECK_EXTENSION: KVM_CAP_MAX_VCPUS
  limited "$KM" "$threads" >"$TMP/out" 2>&1
  read -r made error again <"$TMP/out"
  if [ "$error $again" != 'EAGAIN again' ]; then fail threads-limit 'not EAGAIN, and as many again' "$TMP/out"
  elif [ "$made" = $((vcpus - 1)) ]; then pass threads-limit
  elif [ "$made" -gt 100 ] && [ "$made" -lt "$vcpus" ]; then skip threads-limit "$made of $vcpus: something else allows no more"
  else fail threads-limit "$made threads with $vcpus virtual processors" "$TMP/out"; fi
fi
