# Descriptors above 2 that the shell hands on are the program's too.

echo three >"$TMP/three"
cat=$(command -v cat)
from_file() { limited "$KM" "$cat" /dev/fd/3 3<"$TMP/three"; }
says inherited-file three from_file
from_pipe() { limited "$KM" "$cat" <(echo hi); }
says inherited-pipe hi from_pipe
high_number() { limited "$KM" "$cat" /proc/self/fd/200 200<"$TMP/three"; }
says inherited-high-number three high_number
# Whatever the limit is by now.
above_the_limit() { (exec 300<"$TMP/three"; ulimit -n 256; limited "$KM" "$cat" /proc/self/fd/300); }
says inherited-above-the-limit three above_the_limit
# Just those: none of the monitor's own.
listed() {
  limited "$@" "$(command -v ls)" /proc/self/fd 3<"$TMP/three" 5</dev/null 0<&3
}
says inherited-list "$(listed env)" listed "$KM"
# One description: the offset moves for the shell as well.
shared_position() {
  exec 7<<<'1234rest'
  limited "$KM" "$(command -v dd)" if=/dev/stdin bs=4 count=1 status=none <&7
  "$cat" <&7
  exec 7<&-
}
says inherited-position 1234rest shared_position
# The limit is the program's: what the monitor needs comes on top, where it may raise its own.
to_the_limit() {
  (ulimit -n 40
  limited "$@" /usr/bin/python3 -c 'import os
last = 0
try:
    while True: last = os.dup(0)
except OSError as error: print(error.errno, last)')
}
if (ulimit -n 40 && ulimit -n 41) 2>/dev/null; then says descriptors-up-to-the-limit "$(to_the_limit env)" to_the_limit "$KM"
else skip descriptors-up-to-the-limit 'the limit cannot be raised here (CAP_SYS_RESOURCE)'; fi
# What was ignored stays ignored, libc's own signals too: posix_spawn(3) hands those on so.
ignored() {
  limited /usr/bin/python3 -c 'import os, signal, sys
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
command = sys.argv[1:] + ["/bin/grep", "SigIgn", "/proc/self/status"]
os.waitpid(os.posix_spawnp(command[0], command, os.environ), 0)' "$@"
}
says inherited-ignored "$(ignored env)" ignored "$KM"
# What is open in the monitor's own directory in /proc is the program's own, by whatever way it comes.
own_proc() {
  limited bash -c 'exec 5<"/proc/$$/fd" 6<"/proc/$$/status" 7<"/proc/$$" 8<"/proc/$$/comm"; exec "$@"' \
    bash "$@" /usr/bin/python3 -c 'import os
print(sorted(os.listdir(5)), os.read(8, 99), os.readlink("exe", dir_fd=7))
print([l for l in os.read(6, 9999).decode().splitlines() if l.startswith(("Name", "Threads"))])
print(os.stat("fd/6", dir_fd=7).st_ino == os.fstat(6).st_ino)'
}
says inherited-own-proc "$(own_proc env)" own_proc "$KM"
passed() { limited /usr/bin/python3 "$here/passed.py" "$@"; }
says passed-own-proc "$(passed env 2>/dev/null)" passed "$KM"
passed_kvm() { passed "$KM" 2>&1 >/dev/null; }
says passed-kvm 'kvm 0 truncated' passed_kvm
standard_kvm() { limited "$KM" /usr/bin/python3 -c 'import os
print(os.readlink("/proc/self/fd/0"), os.readlink("/proc/self/fd/9"))' 0</dev/kvm 9</dev/kvm; }
says inherited-kvm '/dev/null /dev/null' standard_kvm
