# Servers that are warmed, snapshotted by themselves or from outside, and resumed, with their clients outside;
# databases in a transaction.

if has_tool resumed /usr/bin/python3 && has_tool resumed go; then
  compile "$OUT/epoll_server" "$here/resumed/epoll_server.c"
  go_program "$OUT/http_server" "$here/services/http_server.go" "$here/services/http_snapshot.go"
  BUILD=$BUILD /usr/bin/python3 "$here/resumed.py" "$OUT" ${RESUMED:-} || failed_count=$((failed_count + 1))
fi
