# Real programs snapshotted half-way, each resumed many times with the output that a native run has.

python=/usr/bin/python3
snapshot=$TMP/warm.kmsnap
resumed() { # NAME TIMES WANTED
  local i
  for ((i = 1; i <= $2; i++)); do
    status=0
    limited "$KM" "$snapshot" >"$TMP/.output" 2>&1 </dev/null || status=$?
    if [ $status != 0 ] || [ "$(cat "$TMP/.output")" != "$3" ]; then
      fail "$1-resumed" "resume $i of $2: $(status_name $status), or other output" "$TMP/.output"
      return
    fi
  done
  pass "$1-resumed"
}
written() { # NAME COMMAND...
  local name=$1 status=0
  shift
  rm -f "$snapshot"
  limited "$KM" --no-sync --snapshot="$snapshot" "$@" >"$TMP/.output" 2>&1 </dev/null || status=$?
  if [ $status = 0 ] && limited "$KMCTL" verify "$snapshot" >>"$TMP/.output" 2>&1; then pass "$name-written"
  else fail "$name-written" "$(status_name $status): $*" "$TMP/.output"; return 1; fi
}

if has_tool python3 "$python"; then
  written python3-warm "$python" payloads/python/warm.py &&
    resumed python3-warm 20 '{"key": "de650d61f5bd166a", "value": 4711, "resumed": true}'
  cat >"$TMP/threads.py" <<END
import hashlib, json, queue, sys, threading
sys.path.insert(0, "$ROOT/payloads/python")
import km
jobs, results = queue.Queue(), {}
def work():
    while (n := jobs.get()) is not None:
        results[n] = hashlib.sha256(b"%d" % n * 1000).hexdigest()
        jobs.task_done()
threads = [threading.Thread(target=work) for _ in range(6)]
for t in threads: t.start()
for n in range(100): jobs.put(n)
km.snapshot("busy threads")
for n in range(100, 200): jobs.put(n)
jobs.join()
for _ in threads: jobs.put(None)
for t in threads: t.join()
print(len(results), hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest())
END
  # What the same work gives without a snapshot.
  sed 's/^km.snapshot.*//' "$TMP/threads.py" >"$TMP/plain.py"
  written python3-threads "$python" "$TMP/threads.py" &&
    resumed python3-threads 5 "$("$python" "$TMP/plain.py")"
  cat >"$TMP/sqlite.py" <<END
import sqlite3, sys
sys.path.insert(0, "$ROOT/payloads/python")
import km
base = sqlite3.connect("$TMP/python.db")
base.execute("create table t(a)")
base.executemany("insert into t values (?)", ((n,) for n in range(1000)))
base.commit()
km.snapshot("an open database")
print(base.execute("select count(*), sum(a) from t").fetchone())
END
  written python3-sqlite "$python" "$TMP/sqlite.py" && resumed python3-sqlite 3 '(1000, 499500)'
fi
if has_tool perl perl; then
  written perl-warm perl -e 'my %h = map { $_ => $_ * $_ } 1 .. 50000; my ($l, $d) = ("warm", "squares");
    syscall(0x4b4d00, $l, $d, 0) == 1 or die "no resume: $!"; print $h{4711}, "\n"' && resumed perl-warm 5 22193521
fi
