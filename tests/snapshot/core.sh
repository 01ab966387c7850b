# A program that dies of a signal leaves a core dump that gdb reads, when the limit allows one.

# crash LIMIT [ARGUMENT]: in a fresh folder, whose `core` is a link to $TMP/crash-victim; its status.
crash() {
  rm -rf "$TMP/crash"
  mkdir "$TMP/crash"
  echo precious >"$TMP/crash-victim"
  ln -s ../crash-victim "$TMP/crash/core"
  { (cd "$TMP/crash" && ulimit -c "$1" && exec timeout --foreground 60 "$KM" "$probe" crash "${2:-}") </dev/null; } \
    >"$TMP/.output" 2>&1
}

crash unlimited
status=$?
core=$TMP/crash/core
if [ $status = 139 ]; then pass core-status
else fail core-status "$(status_name $status), not 139" "$TMP/.output"; fi
if [ "$(cat "$TMP/crash-victim")" = precious ]; then pass core-link
else fail core-link 'it was written to what a symbolic link names'; fi
if [ -s "$core" ] && [ ! -L "$core" ]; then
  limited gdb -nx -batch -ex 'thread apply all bt' "$probe" "$core" >"$TMP/gdb" 2>"$TMP/errors" </dev/null
  for wanted in 'terminated with signal SIGSEGV' 'CrashHere (' 'Crash (' 'main (' 'Thread 2 ' \
    'BlockedInFutex (' 'ThreadMain ('; do
    if grep -qF "$wanted" "$TMP/gdb"; then pass "core-gdb-${wanted%% *}"
    else fail "core-gdb-${wanted%% *}" "nothing like '$wanted'" "$TMP/gdb"; fi
  done
  if grep -qvE 'No such file or directory' "$TMP/errors"; then fail core-gdb-quiet 'on standard error' "$TMP/errors"
  else pass core-gdb-quiet; fi
  check core-eu-stack eu-stack --core "$core" -e "$probe"
  check core-readelf readelf -a "$core"
  expect_output core-signal 1 sh -c "gdb -nx -batch -ex 'print \$_siginfo.si_signo == 11 && \$_siginfo._sifields._sigfault.si_addr == (void*)16' '$probe' '$core' 2>/dev/null | sed -n 's/^\\\$1 = //p'"
  refused core-is-no-snapshot "$core" 'core dump' && pass core-is-no-snapshot
else fail core 'there is none' "$TMP/.output"; fi

crash 0
if [ -L "$core" ]; then pass core-limit-0; else fail core-limit-0 'there is one'; fi
crash unlimited secretly
if [ -L "$core" ]; then pass core-dumpable-0; else fail core-dumpable-0 'there is one'; fi
crash 8
if [ ! -L "$core" ] && [ "$(stat -c %s "$core")" -gt 8192 ]; then fail core-limit 'it is larger than the limit'
else pass core-limit; fi
