# OpenJDK: compiled code that traps, each collector under load, an HTTP server with its client.

jdk=$(ls -d /usr/lib/jvm/java-17-openjdk-* 2>/dev/null | head -n 1)
if has_tool java "${jdk:-/nowhere}/bin/java" && has_tool javac "$jdk/bin/javac"; then
  classes=$OUT/java
  if ! [ "$classes/JavaWork.class" -nt "$here/JavaWork.java" ]; then
    "$jdk/bin/javac" -d "$classes" "$here/JavaWork.java" || fail javac 'JavaWork.java does not compile'
  fi
  same java-version "$jdk/bin/java" -version
  for collector in G1 Parallel Serial Z Shenandoah; do
    TEST_TIMEOUT=300 same "java-$collector" "$jdk/bin/java" -Xmx400m "-XX:+Use${collector}GC" -cp "$classes" JavaWork
  done
  same java-interpreted "$jdk/bin/java" -Xint -Xmx200m -cp "$classes" JavaWork short
fi
