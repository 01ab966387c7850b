# Servers that are warmed, snapshotted by themselves or from outside, and resumed, with their clients outside;
# databases in a transaction.

if has_tool resumed /usr/bin/python3 && has_tool resumed go; then
  compile "$OUT/epoll_server" "$here/resumed/epoll_server.c"
  if ! [ "$OUT/http_server" -nt "$here/resumed/http_server.go" ]; then
    GOCACHE=$OUT/go-cache GOFLAGS=-mod=mod go build -o "$OUT/http_server" "$here/resumed/http_server.go" ||
      fail go-build 'http_server.go does not compile'
  fi
  BUILD=$BUILD /usr/bin/python3 "$here/resumed.py" "$OUT" ${RESUMED:-} || failed_count=$((failed_count + 1))
fi
