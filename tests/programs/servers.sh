# Servers with their clients outside: the server runs natively, then under km; the client always natively.
# SERVER_SECONDS: how long each is under load (60; with CI set 15).

load_seconds=${SERVER_SECONDS:-$([ -n "${CI:-}" ] && echo 15 || echo 60)}
python=/usr/bin/python3
# /usr/sbin is not in everybody's PATH.
nginx=$(command -v nginx || echo /usr/sbin/nginx)

# start_server COMMAND...: in a folder of its own; waits until it takes connections at $port.
start_server() {
  local i
  (cd "$TMP/served" && exec "$@") >"$TMP/server.log" 2>&1 </dev/null &
  server=$!
  for ((i = 0; i < 300; i++)); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && return 0
    kill -0 "$server" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

# Its end, which was asked for: the status, or "does not end".
server_status() {
  local i status=0
  for ((i = 0; i < 100; i++)); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  if kill -KILL "$server" 2>/dev/null; then status='does not end'; wait "$server" 2>/dev/null
  else wait "$server" || status=$?; fi
  echo "status $status"
}

# serve NAME COMMAND...: natively and under km, each time with the functions NAME_session (what it prints is
# compared), and under km NAME_load, which prints what is wrong. $port is a free port, PORT in COMMAND.
serve() {
  local name=$1 under mode
  shift
  echo 'does not start' >"$TMP/load"
  : >"$TMP/figures"
  for mode in native km; do
    under=$([ $mode = km ] && echo "$KM")
    rm -rf "$TMP/served"
    mkdir "$TMP/served"
    port=$("$python" "$here/free_port.py")
    if [ "$name" = nginx ]; then sed "s/@PORT@/$port/g" "$TMP/nginx.template" >"$TMP/nginx.conf"; fi
    if start_server $under "${@//PORT/$port}"; then
      "${name}_session" >"$TMP/session.$mode" 2>&1 </dev/null
      : >"$TMP/load"
      if [ $mode = km ]; then "${name}_load" >"$TMP/load" 2>"$TMP/figures" </dev/null; fi
      "${name}_stop"
    else
      echo 'does not start' >"$TMP/session.$mode"
      kill -KILL "$server" 2>/dev/null
    fi
    server_status >>"$TMP/session.$mode"
    # Ports differ.
    sed -i "s/\b$port\b/PORT/g" "$TMP/session.$mode"
  done
  if ! diff -a "$TMP/session.native" "$TMP/session.km" >"$TMP/.diff"; then
    cat "$TMP/server.log" >>"$TMP/.diff"
    fail "$name-session" 'differs from the native run (< native, > km, then what the server said)' "$TMP/.diff"
  else pass "$name-session"; fi
  if [ -s "$TMP/load" ]; then fail "$name-load" "under load for $load_seconds s" "$TMP/load"
  else pass "$name-load"; fi
  sed "s/^/# $name: /" "$TMP/figures"
}

# ---- redis ----

redis() { timeout 60 redis-cli -h 127.0.0.1 -p "$port" "$@"; }
redis_session() {
  {
    echo 'SET a 1'; echo 'INCRBY a 41'; echo 'APPEND a xyz'; echo 'GETRANGE a 1 3'
    echo 'EXPIRE a 1000'; echo 'TTL a'; echo 'LPUSH l 3 1 2'; echo 'SORT l'; echo 'LRANGE l 0 -1'
    echo 'HSET h f 1 g 2'; echo 'HGETALL h'; echo 'ZADD z 3 c 1 a 2 b'; echo 'ZRANGE z 0 -1 WITHSCORES'
    echo 'MULTI'; echo 'INCR n'; echo 'INCR n'; echo 'EXEC'; echo 'PFADD p a b c d'; echo 'PFCOUNT p'
    echo 'EVAL "local s = 0 for i = 1, 100000 do s = s + i end return s" 0'; echo 'XADD x 1-1 k v'
    echo 'XRANGE x - +'; echo 'SETRANGE big 3000000 end'; echo 'STRLEN big'; echo 'GET missing'; echo 'NONSENSE'
    echo 'BLPOP nothing 0.1'; echo 'OBJECT ENCODING l'; echo 'DBSIZE'; echo 'CONFIG GET maxclients'
    echo 'DEBUG SLEEP 0.05'; echo 'SAVE'; echo 'DEBUG RELOAD NOSAVE'; echo 'DBSIZE'
    echo 'FLUSHALL ASYNC'
  } | redis
}
redis_load() {
  local requests=0 end=$((SECONDS + load_seconds)) counter
  redis DEL counter:__rand_int__ >/dev/null
  while [ $SECONDS -lt $end ]; do
    timeout 300 redis-benchmark -h 127.0.0.1 -p "$port" -n 20000 -c 50 -t incr,get,lpush,mset --csv 2>&1 >"$TMP/benchmark" |
      grep -v '^WARNING'
    grep -E 'rror|efused' "$TMP/benchmark"
    requests=$((requests + 20000))
  done
  sed -n 's/^"\([A-Z]*[^"]*\)","\([0-9.]*\)".*/\1 \2 requests\/s/p' "$TMP/benchmark" >&2
  counter=$(redis GET counter:__rand_int__)
  [ "$counter" = $requests ] || echo "counted $counter of $requests INCRs"
}
redis_stop() { redis SHUTDOWN NOSAVE; }
if has_tool redis redis-server && has_tool redis redis-benchmark; then
  serve redis redis-server --port PORT --bind 127.0.0.1 --save '' --appendonly no --dir . \
    --enable-debug-command yes
fi

# ---- memcached ----

memcached_session() { timeout 120 "$python" "$here/memcached_client.py" "$port" 0 2>/dev/null; }
memcached_load() {
  timeout $((load_seconds + 120)) "$python" "$here/memcached_client.py" "$port" "$load_seconds" >"$TMP/.client"
  diff "$TMP/session.native" "$TMP/.client" | grep '^>'
}
memcached_stop() { kill -INT "$server"; }
if has_tool memcached memcached; then
  serve memcached memcached -u "$(id -un)" -p PORT -U 0 -l 127.0.0.1 -t 4 -m 64
fi

# ---- nginx ----

nginx_session() { timeout 60 "$python" "$here/http_session.py" "$port"; }
nginx_load() {
  local end=$((SECONDS + load_seconds)) seconds path
  for path in small large.bin text.txt; do
    seconds=$(((end - SECONDS) / 2 > 3 ? (end - SECONDS) / 2 : 3))
    timeout $((seconds + 60)) wrk -t 2 -c 30 -d "$seconds" "http://127.0.0.1:$port/$path" >"$TMP/wrk" 2>&1 ||
      cat "$TMP/wrk"
    grep -E 'Non-2xx|Socket errors|unable' "$TMP/wrk"
    sed -n "s|^Requests/sec: *|$path, requests/s: |p" "$TMP/wrk" >&2
  done
}
nginx_stop() { kill -QUIT "$server"; }
if has_tool nginx "$nginx" && has_tool nginx wrk; then
  www=$TMP/www
  mkdir -p "$www/folder"
  head -c 3000000 /bin/bash >"$www/large.bin"
  seq 20000 >"$www/text.txt"
  cat >"$TMP/nginx.template" <<END
daemon off; master_process off; pid pid; error_log stderr;
events { worker_connections 512; }
http {
  access_log off; sendfile on; tcp_nopush on; gzip on; gzip_types text/plain; default_type text/plain;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {
    listen 127.0.0.1:@PORT@;
    root $www; autoindex on; autoindex_format json;
    location = /small { return 200 "small\n"; }
    location = /up { client_max_body_size 20m; client_body_buffer_size 16k; proxy_pass http://127.0.0.1:@PORT@/sink; }
    location = /sink { client_max_body_size 20m; client_body_in_file_only clean; proxy_pass http://127.0.0.1:@PORT@/small; }
    location /moved { return 301 /text.txt; }
  }
}
END
  serve nginx "$nginx" -p . -c "$TMP/nginx.conf"
fi
