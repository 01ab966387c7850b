# Programs that cannot be run: 127 not found, 126 found but cannot be executed.

refused not-found 127 'PATH' "$KM" no-such-program-anywhere
refused not-found-path 127 'no such file' "$KM" ./no/such/program
refused below-a-file 126 "$hello/x" "$KM" "$hello/x"
refused empty-name 127 'empty' "$KM" ''
refused directory 126 'it is a directory' "$KM" "$TMP"
refused device 126 'not a regular file' "$KM" /dev/null
cp "$hello" "$TMP/plain"
chmod 644 "$TMP/plain"
refused not-executable 126 'not marked as executable' "$KM" "$TMP/plain"
mkdir -p "$TMP/bin"
cp "$TMP/plain" "$TMP/bin/only-here"
refused not-executable-in-path 126 'not marked as executable' env PATH="$TMP/bin" "$KM" only-here

# Files that are damaged or of another kind: tests/cli/damaged writes them, and says what km should.
compile "$OUT/hello-dynamic" payloads/hello.c -pie -fPIE
mkdir -p "$TMP/damaged"
while IFS=$'\t' read -r name text; do
  refused "damaged-$name" 126 "$text" "$KM" "$TMP/damaged/$name"
done < <("$here/damaged" "$OUT/hello-dynamic" "$TMP/damaged")

# A real 32-bit program, and a real core dump.
if as --32 -o "$TMP/32.o" - <<<'.globl _start; _start: ret' && ld -m elf_i386 -o "$TMP/32" "$TMP/32.o"
then refused 32-bit 126 '32-bit' "$KM" "$TMP/32"
else skip 32-bit 'the assembler or linker has no 32-bit x86'; fi
if has_tool core-dump gdb; then
  gdb -batch -ex 'break main' -ex run -ex "generate-core-file $TMP/core" "$hello" >"$TMP/gdb" 2>&1
  refused core-dump 126 'core dump' "$KM" "$TMP/core"
  chmod +x "$TMP/core"
  refused core-dump-executable 126 'core dump' "$KM" "$TMP/core"
fi
if [ "$(id -u)" = 0 ] && has_tool unreadable setpriv; then
  cp "$hello" "$TMP/unreadable"
  cp "$KM" "$TMP/km"
  chmod 711 "$TMP/unreadable"
  chmod 755 "$TMP"
  setpriv --reuid=65534 --regid=65534 --clear-groups "$TMP/unreadable" >/dev/null &&
    refused unreadable 126 'read' setpriv --reuid=65534 --regid=65534 --clear-groups "$TMP/km" \
      "$TMP/unreadable"
fi
