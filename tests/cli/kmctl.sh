# kmctl on the golden snapshot: what it shows, what it finds damaged, what it refuses. Needs no KVM.

golden=tests/snapshot/golden/version-1.kmsnap

# kmctl_says NAME STATUS TEXT ARGUMENTS...: exits with STATUS, and TEXT is in what it prints: on standard
# output when all is well, else in one line on standard error.
kmctl_says() {
  local name=$1 wanted=$2 text=$3 status=0 shown=$TMP/.errors
  shift 3
  limited "$KMCTL" "$@" >"$TMP/.output" 2>"$TMP/.errors" </dev/null || status=$?
  [ "$wanted" = 0 ] && shown=$TMP/.output
  if [ $status != "$wanted" ]; then fail "$name" "$(status_name $status), not $wanted" "$TMP/.errors"
  elif ! grep -qF -e "$text" "$shown"; then fail "$name" "does not say '$text'" "$shown"
  elif [ "$wanted" != 0 ] && [ "$(wc -l <"$shown")" != 1 ]; then fail "$name" 'not one line' "$shown"
  else pass "$name"; fi
}

# flip FILE OFFSET: a copy of the golden file with one bit of one byte changed.
flip() {
  cp "$golden" "$1"
  local byte
  byte=$(od -An -tu1 -j"$2" -N1 "$1")
  printf "$(printf '\\%03o' $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

kmctl_says kmctl-help 0 'kmctl verify FILE' --help
kmctl_says kmctl-version 0 'kmctl 0.' --version
kmctl_says kmctl-no-command 2 '--help'
kmctl_says kmctl-unknown-command 2 'frobnicate' frobnicate "$golden"
kmctl_says kmctl-unknown-option 2 '--frob' inspect --frob "$golden"
kmctl_says kmctl-no-file 2 'one file' inspect
kmctl_says kmctl-two-files 2 'one file' verify "$golden" "$golden"
kmctl_says kmctl-missing-file 2 'No such file' inspect "$TMP/no-such-snapshot"
kmctl_says kmctl-directory 2 'directory' inspect "$TMP"
kmctl_says kmctl-not-elf 1 'not an ELF file' inspect Makefile
kmctl_says kmctl-program 1 'no core' verify "$KMCTL"

# The manual page of the file has every note of the header, and no other.
notes() { sed -n "s/^ *\(NT_KM_[A-Z]*\) = \(0x[0-9a-f]*\),.*/\1 \2/p" include/km/notes.h | sort; }
says km-snapshot-notes "$(notes)" sh -c 'sed -n "s/^\(NT_KM_[A-Z]*\);\(0x[0-9a-f]*\);.*/\1 \2/p" docs/man/km-snapshot.5 | sort'

kmctl_says kmctl-inspect 0 'snapshot of process 4242 (program)' inspect "$golden"
for text in 'label        label' 'km 0.1.0, format 1' '0102030405060708090a0b0c0d0e0f10' \
  'states       x87 sse avx opmask zmm_hi256 hi16_zmm (XCR0 0xe7)' \
  'command      program --with arguments' 'umask        027' 'Threads: 3' 'worker' \
  '0x10000000-10002000' '[heap]' '/var/lib/data, O_RDWR, at 123456789012, close on exec' \
  'SA_SIGINFO|SA_RESTART|SA_RESTORER, blocks SIGTERM'; do
  kmctl_says "kmctl-inspect-${text%% *}" 0 "$text" inspect "$golden"
done

kmctl_json() {
  limited "$KMCTL" inspect --json "$golden" | python3 -c '
import json, sys
it = json.load(sys.stdin)
mappings = it["mappings"]
assert all(m["size"] == m["touched"] + m["zero"] + m["file"] for m in mappings)
print(it["process"]["pid"], [t["tid"] for t in it["threads"]], len(mappings),
      it["snapshot"]["label"], it["descriptors"][2]["number"], it["threads"][0]["pending_signals"][1])'
}
says kmctl-json "4242 [4242, 4250, 7] 6 label 1000 {'signal': 'SIGUSR1', 'code': 2}" kmctl_json

kmctl_says kmctl-verify 0 'undamaged' verify "$golden"
size=$(stat -c %s "$golden")
flip "$TMP/flipped" 200
kmctl_says kmctl-damaged-header 1 'NT_KM_HEADER' verify "$TMP/flipped"
flip "$TMP/flipped" 5000
kmctl_says kmctl-damaged-notes 1 'damaged' inspect "$TMP/flipped"
flip "$TMP/flipped" $((size - 1))
kmctl_says kmctl-damaged-memory 1 'memory at 0x11000000' verify "$TMP/flipped"
head -c $((size - 4096)) "$golden" >"$TMP/cut"
kmctl_says kmctl-cut 1 'cut short' verify "$TMP/cut"
