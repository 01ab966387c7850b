# The standard tools read every snapshot, without a warning.

# quiet NAME COMMAND...: exits 0, and neither standard error nor a warning in the output.
quiet() {
  local name=$1 status=0
  shift
  run_limited "$@" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  if [ $status != 0 ]; then fail "$name" "$(status_name $status): $*" "$TMP/.errors"
  elif [ -s "$TMP/.errors" ]; then fail "$name" "on standard error of: $*" "$TMP/.errors"
  elif grep -aiE '^(.*: )?(warning|error)[: ]|corrupt|invalid' "$TMP/.output" >"$TMP/.errors"; then
    fail "$name" "a warning from: $*" "$TMP/.errors"
  else return 0; fi
  return 1
}
checked() { if quiet "$@"; then pass "$1"; fi; }

# The output of the command before has lines that match each pattern.
shows() {
  local name=$1 pattern
  shift
  for pattern in "$@"; do
    grep -qaE -- "$pattern" "$TMP/.output" && continue
    fail "$name" "nothing like '$pattern'" "$TMP/.output"
    return 1
  done
  pass "$name"
}

# elflint's complaints without names and places; our own note types (0x4b4d....) aside.
complaints() { eu-elflint "$1" | sed 's/^[^:]*: //; s/ at offset [0-9]*//' | grep -vE 'note type 12633[0-9]{5}$' | sort -u; }

# A core of the same program that is not ours: the kernel's when it leaves one here, else gdb's.
native_core() {
  local core
  # The braces take the shell's own "Segmentation fault".
  { (cd "$TMP" && ulimit -c unlimited && "$probe" crash); } </dev/null >/dev/null 2>&1
  core=$(ls "$TMP"/core* 2>/dev/null | head -n 1)
  if [ -n "$core" ]; then mv "$core" "$TMP/native.core"
  else
    gdb -nx -batch -ex run -ex "generate-core-file $TMP/native.core" --args "$probe" crash
  fi </dev/null >/dev/null 2>&1
  [ -s "$TMP/native.core" ]
}

gdb_quietly() {
  local program=$1 file=$2
  shift 2
  # No source lines: the libc's are not here, and gdb says so.
  limited gdb -nx -batch -iex 'set print frame-info short-location' "$@" "$program" "$file"
}

reads() {
  local name=$1 program=$2 file=$3 pc
  checked "$name-readelf" readelf -a -W "$file"
  checked "$name-eu-readelf" eu-readelf -a "$file"
  checked "$name-gdb" gdb_quietly "$program" "$file" -ex 'thread apply all bt' -ex 'info registers ymm0'
  quiet "$name-eu-stack" eu-stack --core "$file" -e "$program" && shows "$name-eu-stack" '^TID ' '^#0 '
  quiet "$name-file" file "$file" && shows "$name-file" 'ELF 64-bit LSB core file, x86-64'
  # A thread that asked stands behind its `syscall`.
  pc=$(field "$file" "d['threads'][0]['pc']['address']") &&
    quiet "$name-objdump" objdump -d --start-address=$((pc - 2)) --stop-address=$((pc)) "$file" &&
    shows "$name-objdump" 'syscall'
  if complaints "$file" >"$TMP/ours"; [ -s "$TMP/native" ]; then
    if comm -23 "$TMP/ours" "$TMP/native" | grep . >"$TMP/.errors"; then
      fail "$name-elflint" 'says more than of a core that is not ours' "$TMP/.errors"
    else pass "$name-elflint"; fi
  fi
  check "$name-verify" "$KMCTL" verify "$file"
  quiet "$name-inspect" "$KMCTL" inspect "$file" && shows "$name-inspect" 'snapshot of process' '^Threads' '^Memory'
  checked "$name-inspect-json" field "$file" "d['file']"
}

if native_core; then complaints "$TMP/native.core" >"$TMP/native"
else fail elflint 'no core that is not ours to compare with'; fi

python=/usr/bin/python3
if takes static "$TMP/static" "$probe_static" try; then reads static "$probe_static" "$TMP/static"; fi
if takes dynamic "$TMP/dynamic" "$probe" try; then
  reads dynamic "$probe" "$TMP/dynamic"
  checked dynamic-objdump-all objdump -d "$TMP/dynamic"
fi
if takes python "$TMP/python" "$python" payloads/python/warm.py 5000; then
  reads python "$python" "$TMP/python"
fi
for kind in threads threads-static; do
  program=$OUT/probe${kind#threads}
  takes_threads "$kind" "$TMP/threads" "$program" || continue
  reads $kind "$program" "$TMP/threads"
  quiet $kind-backtrace gdb_quietly "$program" "$TMP/threads" -ex 'thread apply all bt' &&
    shows $kind-backtrace '^Thread 5 ' 'in? ?BlockedInFutex' BlockedInNanosleep BlockedInPoll \
      BlockedInRead ' ThreadMain ' 'km_snapshot ' ' Threads ' ' main '
  quiet $kind-eu-stack-names eu-stack --core "$TMP/threads" -e "$program" &&
    shows $kind-eu-stack-names BlockedInFutex BlockedInNanosleep BlockedInPoll BlockedInRead ThreadMain
  if grep -qw avx /proc/cpuinfo; then
    quiet $kind-vectors gdb_quietly "$program" "$TMP/threads" \
      -ex 'thread apply all -q info registers ymm0' &&
      shows $kind-vectors '0x1000, 0x1001, 0x1002, 0x1003' '0x2000, 0x2001, 0x2002, 0x2003' \
        '0x3000, 0x3001, 0x3002, 0x3003' '0x4000, 0x4001, 0x4002, 0x4003'
  else skip $kind-vectors 'this processor has no AVX'; fi
  prints $kind-inspect-threads '5 futex nanosleep poll read' field "$TMP/threads" \
    "len(d['threads']), *sorted(t['name'] for t in d['threads'][1:])"
done
