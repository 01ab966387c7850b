# The same program, linked in every way.

while read -r kind compiler flags; do
  if [ $compiler = musl-gcc ] && ! has_tool "hello-$kind" musl-gcc; then continue; fi
  read -ra flags <<<"$flags"
  if ! CC=$compiler compile "$OUT/hello-$kind" payloads/hello.c "${flags[@]}" ||
    ! CC=$compiler compile "$OUT/probe-$kind" "$here/probe.c" "${flags[@]}"; then
    fail "hello-$kind" 'does not link'
    continue
  fi
  same "hello-$kind" "$OUT/hello-$kind" you
  same "auxv-$kind" "$OUT/probe-$kind" auxv
done <<'END'
static cc -static
static-pie cc -static-pie -fPIE
dynamic-pie cc -pie -fPIE
dynamic-no-pie cc -no-pie
musl-static musl-gcc -static
musl-dynamic musl-gcc
musl-dynamic-no-pie musl-gcc -no-pie
aligned-2mib cc -pie -fPIE -Wl,-z,max-page-size=0x200000
aligned-2mib-static-pie cc -static-pie -fPIE -Wl,-z,max-page-size=0x200000
executable-stack cc -static -Wl,-z,execstack
code-with-headers cc -static -Wl,-z,noseparate-code
END

# The dynamic linker as a program.
linker=$(readelf -l "$OUT/hello-dynamic-pie" | sed -n 's,.*interpreter: \(.*\)\],\1,p')
same linker-runs-pie "$linker" "$OUT/hello-dynamic-pie" you
same linker-runs-no-pie "$linker" "$OUT/hello-dynamic-no-pie" you

# No libc at all: the registers and the stack as the kernel leaves them.
cat >"$TMP/start.S" <<'END'
.globl _start
_start: mov %rsp, %rax
  and $15, %eax                # 0: aligned
  add (%rsp), %rax             # argc
  add %rdx, %rax               # 0: nothing for atexit
  mov %eax, %edi
  mov $60, %eax
  syscall
END
gcc -nostdlib -static -o "$TMP/start" "$TMP/start.S"
check_status 3 no-libc "$KM" "$TMP/start" 1 2

# A program found in PATH, and one with a relative name.
expect_output in-path 'Hello, world!' env PATH="$OUT" "$KM" hello
relative() { cd "$OUT" && limited "$KM" ./hello; }
says relative-name 'Hello, world!' relative
