# OpenJDK: compiled code that traps, each collector under load, an HTTP server with its client.

if has_tool java "${jdk:-/nowhere}/bin/java" && has_tool javac "$jdk/bin/javac"; then
  java_program JavaWork "$here/JavaWork.java"
  same java-version "$jdk/bin/java" -version
  for collector in G1 Parallel Serial Z Shenandoah; do
    TEST_TIMEOUT=300 same "java-$collector" "$jdk/bin/java" -Xmx400m "-XX:+Use${collector}GC" -cp "$classes" JavaWork
  done
  same java-interpreted "$jdk/bin/java" -Xint -Xmx200m -cp "$classes" JavaWork short
fi
