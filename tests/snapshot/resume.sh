# One file resumes any number of times, at once and in chains, and is never changed by it.

python=/usr/bin/python3
answer='{"key": "de650d61f5bd166a", "value": 4711, "resumed": true}'
resume() { limited "$KM" "$@" </dev/null; }
resume_threads() { (sleep 0.3; echo hello; sleep 1) | limited "$KM" "$1"; }

mkdir -p "$TMP/files" "$TMP/elsewhere"
takes_threads threads "$TMP/files/threads" &&
  takes python "$TMP/files/python" "$python" payloads/python/warm.py 5000 &&
  takes static "$TMP/files/static" "$probe_static" try || summary
sums=$(sha256sum "$TMP"/files/*)

for i in 1 2 3; do
  prints "resume-python-$i" "$answer" resume "$TMP/files/python"
  prints "resume-threads-$i" "$threads_output" resume_threads "$TMP/files/threads"
  prints "resume-static-$i" resumed resume "$TMP/files/static"
done

for i in {1..10}; do resume "$TMP/files/python" >"$TMP/parallel.$i" 2>&1 & done
for i in {1..10}; do resume_threads "$TMP/files/threads" >"$TMP/parallel-threads.$i" 2>&1 & done
wait
for i in {1..10}; do
  prints "resume-parallel-$i" "$answer" cat "$TMP/parallel.$i"
  prints "resume-parallel-threads-$i" "$threads_output" cat "$TMP/parallel-threads.$i"
done

# From another directory, by another name, and from a file that may not be written.
from_elsewhere() { (cd "$TMP/elsewhere" && limited "$KM" ../files/python </dev/null); }
prints resume-elsewhere "$answer" from_elsewhere
ln "$TMP/files/python" "$TMP/elsewhere/python"
ln -s ../files/python "$TMP/elsewhere/link"
from_path() { PATH=$TMP/elsewhere:$PATH limited "$KM" python </dev/null; }
prints resume-hard-link "$answer" resume "$TMP/elsewhere/python"
prints resume-symbolic-link "$answer" resume "$TMP/elsewhere/link"
rm -f "$TMP/elsewhere/"*
read_only() { unshare -m sh -c 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" "$1/python"' \
  sh "$TMP/files" "$KM" </dev/null; }
if unshare -m true 2>/dev/null; then prints resume-read-only "$answer" run_limited read_only
else skip resume-read-only 'no right to mount'; fi

discards=$OUT/discards
if [ -n "${GUEST_EMULATED:-}" ]; then skip resume-discards 'too much for an emulated machine'
elif compile "$discards" "$here/discards.c" -pthread -I include "$BUILD/libkm.a" &&
  takes discards "$TMP/discards" "$discards"; then
  prints resume-discards '0 pages are wrong' resume "$TMP/discards"
  rm -f "$TMP/discards"
fi

# On a file system that lets no file be executed, nor mapped to be.
executes=$OUT/executes
noexec() { unshare -m sh -c 'mount -t tmpfs -o noexec km "$1" && cp "$2" "$1/file" && exec "$3" "$1/file"' \
  sh "$TMP/elsewhere" "$1" "$KM" </dev/null; }
if ! unshare -m true 2>/dev/null; then skip resume-noexec 'no right to mount'
elif compile "$executes" "$here/executes.c" -I include "$BUILD/libkm.a" &&
  takes executes "$TMP/executes" "$executes"; then
  prints resume-executes '4711, 1 2 144 144' resume "$TMP/executes"
  prints resume-noexec-executes '4711, 1 2 144 144' run_limited noexec "$TMP/executes"
  prints resume-noexec-python "$answer" run_limited noexec "$TMP/files/python"
fi

prints resume-changes-nothing "$sums" sha256sum "$TMP"/files/*
if [ -z "$(ls -A "$TMP/elsewhere")" ]; then pass resume-leaves-nothing
else fail resume-leaves-nothing "$(ls -A "$TMP/elsewhere")"; fi

# A snapshot of a resumed process: to the path that it came from, and to another each time.
if takes chain "$TMP/chain.1" "$probe" chain 5; then
  cp "$TMP/chain.1" "$TMP/same"
  for i in 1 2 3 4 5; do
    prints "chain-same-path-$i" "link $i of 5" resume --no-sync --snapshot="$TMP/same" "$TMP/same"
    prints "chain-other-path-$i" "link $i of 5" resume --no-sync --snapshot="$TMP/chain.$((i + 1))" "$TMP/chain.$i"
  done
  for i in 1 2 3 4; do
    prints "chain-parent-$i" "$(field "$TMP/chain.$i" "d['snapshot']['id']")" \
      field "$TMP/chain.$((i + 1))" "d['snapshot']['parent']"
    check "chain-verify-$i" "$KMCTL" verify "$TMP/chain.$((i + 1))"
  done
  prints chain-again 'link 3 of 5' resume --no-sync --snapshot="$TMP/other" "$TMP/chain.3"
fi

# The file is replaced while a process runs from it.
if takes chain-replaced "$TMP/replaced" "$probe" chain 2; then
  cp "$TMP/files/threads" "$TMP/replaced.threads"
  resume_threads "$TMP/replaced.threads" >"$TMP/slow" 2>&1 &
  sleep 0.1
  resume --no-sync --snapshot="$TMP/replaced.threads" "$TMP/replaced" >/dev/null
  wait
  prints replaced-goes-on "$threads_output" cat "$TMP/slow"
  prints replaced 'link 2 of 2' resume "$TMP/replaced.threads"
fi
