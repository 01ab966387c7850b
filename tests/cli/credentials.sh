# A program that was started as root and gave that up: whoever resumes it, it stays what it had become.

credentials_of_a_service() {
  local folder=$TMP/service socket=$TMP/service.sock pid
  mkdir -m 777 "$folder"
  cat >"$folder/service.py" <<'EOF'
import os, resource, time
# It will not make another process, and cannot: so not for its snapshot either, as haproxy.
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setgroups([])
os.setresgid(24, 24, 24)
os.setresuid(14, 14, 14)
print("dropped", flush=True)
while not os.path.exists("go"):
    time.sleep(0.02)
capabilities = [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapPrm")]
print(os.getresuid(), os.getresgid(), os.getgroups(), capabilities)
EOF
  (cd "$folder" && exec timeout -k 5 "${TEST_TIMEOUT:-60}" "$KM" --control="$socket" /usr/bin/python3 service.py) \
    >"$folder/output" 2>&1 &
  pid=$!
  for ((i = 0; i < 600; i++)); do
    grep -q dropped "$folder/output" && break
    sleep 0.1
  done
  # Nor may km: its user has more processes than that already. So it writes the file itself.
  prlimit --nproc=0:0 --pid "$("$KMCTL" info --json "$socket" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' | head -n 1)"
  limited "$KMCTL" snapshot --stop -o "$folder/file" "$socket" >"$folder/kmctl" 2>&1 || cat "$folder/kmctl"
  wait $pid
  touch "$folder/go"
}

# An agent that lets nobody look at it, with nobody's rights, and a limit that it may not raise again.
undumpable() {
  local folder=$TMP/agent pid
  mkdir -m 777 "$folder"
  cat >"$folder/agent.py" <<'EOF'
import ctypes, os, resource, time
prctl = ctypes.CDLL(None).prctl
prctl(4, 0, 0, 0, 0)
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
open("begun", "w").close()
while not os.path.exists("go"):
    time.sleep(0.02)
print(prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_NOFILE))
EOF
  (cd "$folder" && exec timeout -k 5 "${TEST_TIMEOUT:-60}" "$@" "$KM" --control="$folder/socket" /usr/bin/python3 agent.py) &
  pid=$!
  for ((i = 0; i < 600; i++)); do
    [ -e "$folder/begun" ] && break
    sleep 0.1
  done
  limited "$KMCTL" snapshot -o "$folder/running" "$folder/socket" 2>&1 >/dev/null
  limited "$KMCTL" snapshot --stop -o "$folder/file" "$folder/socket" 2>&1 >/dev/null
  wait $pid
  (cd "$folder" && limited "$@" "$KM" --no-sync --test-snapshot-again --snapshot="$folder/again" "$folder/file")
  touch "$folder/go"
  for file in running file again; do (cd "$folder" && limited "$@" "$KM" "$folder/$file"); done
  (cd "$folder" && limited prlimit --nofile=100:200 "$@" "$KM" "$folder/again")
}
resumed() { (cd "$TMP/service" && limited "$@" "$KM" "$TMP/service/file"); }

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  credentials_of_a_service
  became="(14, 14, 14) (24, 24, 24) [] ['0000000000000000']"
  says credentials-as-root "$became" resumed env
  refused credentials-not-allowed 126 'the host refuses the users 14, 14, 14, 14' \
    setpriv --bounding-set -setuid "$KM" "$TMP/service/file"
  refused credentials-of-groups 126 'the host refuses an empty list of groups' \
    setpriv --groups 30 --bounding-set -setgid "$KM" "$TMP/service/file"
  as_itself=(setpriv --reuid 14 --regid 24 --clear-groups)
  if "${as_itself[@]}" test -w /dev/kvm && "${as_itself[@]}" test -x "$KM"; then
    says credentials-as-itself "$became" resumed "${as_itself[@]}"
    says undumpable $'0 (300, 300)\n0 (300, 300)\n0 (300, 300)\n0 (200, 200)' undumpable "${as_itself[@]}"
  else skip credentials-as-itself 'user 14 may not use /dev/kvm'; fi
else
  skip credentials 'for root to try'
fi
