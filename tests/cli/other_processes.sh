# The links of other processes in /proc lead where the host's lead, but never to the monitor; and what the
# host does not follow km does not follow either.

cat=$(command -v cat)
echo deleted >"$TMP/gone"
exec 7<"$TMP/gone" 8> >(exec cat >"$TMP/piped")
rm "$TMP/gone"
sleep 600 &
other=$!
exec 7<&- 8>&-
deleted_file() { limited "$KM" "$cat" "/proc/$other/fd/7"; }
says other-deleted-file deleted deleted_file
into_pipe() {
  limited "$KM" /bin/sh -c 'echo through the pipe >"$1"' sh "/proc/$other/fd/8"
  for _ in {1..50}; do [ -s "$TMP/piped" ] || sleep 0.1; done
  cat "$TMP/piped"
}
says other-pipe 'through the pipe' into_pipe
kill $other

# A process that has the monitor's memory open, and its directory as the working directory.
reach() {
  limited /usr/bin/python3 -c 'import os, subprocess, sys
program = """import os, sys
input()
known = b"known bytes"
for path in sys.argv[1:]:
    try: print(os.pread(os.open(path, os.O_RDWR), len(known), id(known) + 32))
    except OSError as error: print(error)
"""
here = f"/proc/{os.getpid()}/"
child = subprocess.Popen(sys.argv[1:] + ["/usr/bin/python3", "-c", program, here + "fd/60", here + "fd/61/mem",
                                         here + "cwd/mem"], stdin=subprocess.PIPE)
os.dup2(os.open(f"/proc/{child.pid}/mem", os.O_RDWR), 60)
os.dup2(os.open(f"/proc/{child.pid}", os.O_RDONLY), 61)
os.fchdir(61)
child.communicate(b"\n")' "$@"
}
says other-reaches-monitor "$(reach env)" reach "$KM"

# In another mount namespace the names are other files.
mkdir "$TMP/mounted"
unshare -m sh -c 'mount -t tmpfs none "$1" && echo inside >"$1/file" && exec sleep 600' sh "$TMP/mounted" \
  2>"$TMP/unshare" &
other=$!
until [ -s "/proc/$other/root$TMP/mounted/file" ] || ! kill -0 $other 2>/dev/null; do sleep 0.1; done
in_namespace() { limited "$KM" "$cat" "/proc/$other/root$TMP/mounted/file"; }
if kill -0 $other 2>/dev/null; then
  says other-namespace inside in_namespace
  own_in_namespace() {
    limited "$KM" /usr/bin/python3 -c 'import errno, os, sys
try: os.open(f"{sys.argv[1]}/proc/{os.getpid()}/mem", os.O_RDWR)
except OSError as error: print(errno.errorcode[error.errno])' "/proc/$other/root"
  }
  says other-namespace-monitor ELOOP own_in_namespace
  kill $other
else skip other-namespace 'no mount namespace may be made here'; fi

# A file system where links are not followed.
if mount -t tmpfs -o nosymfollow none "$TMP/mounted" 2>/dev/null; then
  ln -s "$ROOT/README.md" "$TMP/mounted/link"
  check_status 1 no-links-followed "$KM" "$cat" "$TMP/mounted/link"
  check_status 1 no-links-followed-by-proc "$KM" "$cat" "/proc/self/root$TMP/mounted/link"
  umount "$TMP/mounted"
else skip no-links-followed 'nothing may be mounted here'; fi
