# Services under load that are snapshotted from outside and go on, and ten processes resumed from each file.

if has_tool outside /usr/bin/python3 && has_tool outside go && has_tool outside "${jdk:-/nowhere}/bin/javac"; then
  go_program "$OUT/http_service" "$here/services/http_server.go"
  java_program HttpServer "$here/services/HttpServer.java"
  JDK=$jdk BUILD=$BUILD /usr/bin/python3 "$here/outside.py" "$OUT" ${OUTSIDE:-} ||
    failed_count=$((failed_count + 1))
fi
