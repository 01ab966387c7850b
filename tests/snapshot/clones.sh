# Clones of one file: where they differ, and what they share.

clones=$OUT/clones
if compile "$clones" "$here/clones.c" -I include "$BUILD/libkm.a" && KM_GENERATION=yes takes clones "$TMP/clones" "$clones"; then
  limited "$KM" "$TMP/clones" >"$TMP/clone.1" &
  limited "$KM" "$TMP/clones" >"$TMP/clone.2"
  wait $!
  value() { sed -n "s/^$1 //p" "$TMP/clone.$2"; }
  for name in generation getrandom; do
    first=$(value $name 1)
    if [ ${#first} = 32 ] && [ "$first" != "$(value $name 2)" ] && [ "$first" != $(printf '0%.0s' {1..32}) ]; then pass "clones-$name-differs"
    else fail "clones-$name-differs" "'$first' twice, or nothing" "$TMP/clone.2"; fi
  done
  # The manual says so.
  for name in drawn-before at-random; do
    first=$(value $name 1)
    if [ ${#first} = 32 ] && [ "$first" = "$(value $name 2)" ]; then pass "clones-$name-repeats"
    else fail "clones-$name-repeats" "'$first', then another" "$TMP/clone.2"; fi
  done
  for clone in 1 2; do
    prints "clones-memory-$clone" 'same generation 0, callbacks 1, then 0
in the environment 1, then 1
plain 7, wiped 0, droppable 0' tail -n 3 "$TMP/clone.$clone"
  done
fi

# The variable is there if it was asked for, and what the program made of it is its own.
cat >"$TMP/variable.py" <<'END'
import ctypes, sys
sys.path.insert(0, "payloads/python")
import km
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_void_p
where = libc.getenv(b"KM_GENERATION")
if where: ctypes.memmove(where, b"mine", 4)
km.snapshot()
print(open("/proc/self/environ").read().split("\0")[0][:18])
END
if has_tool clones-variable /usr/bin/python3; then
  for first in HOME=/here KM_GENERATION=; do
    limited "$KM" --clear-env --env "$first" --snapshot="$TMP/variable" /usr/bin/python3 "$TMP/variable.py"
    name=${first%%=*}
    prints "clones-variable-$name" "${first/%N=/N=mine}" limited "$KM" "$TMP/variable"
  done
fi

# A snapshot from outside: the descriptor tells of the resume.
cat >"$TMP/waits.py" <<'END'
import os, select, sys
sys.path.insert(0, "payloads/python")
import km
first, fd = km.generation(), km.generation_fd()
print("ready", flush=True)
select.select([fd], [], [])
print("resumed", int.from_bytes(os.read(fd, 8), "little"), km.generation() != first)
END
if has_tool clones-from-outside /usr/bin/python3; then
  limited "$KM" --control="$TMP/waits.sock" /usr/bin/python3 "$TMP/waits.py" >"$TMP/waits" 2>&1 &
  waiter=$!
  for ((i = 0; i < 300; i++)); do grep -q ready "$TMP/waits" && break; sleep 0.1; done
  limited "$KMCTL" snapshot "$TMP/waits.sock" --stop -o "$TMP/waits.kmsnap" >/dev/null
  wait "$waiter"
  for clone in 1 2; do prints "clones-from-outside-$clone" 'resumed 1 True' limited "$KM" "$TMP/waits.kmsnap"; done
fi
