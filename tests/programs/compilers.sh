# A compiler's own programs, one process each: gcc as such starts them by fork.

source=$TMP/sieve.c
cat >"$source" <<'END'
#include <stdio.h>
#include <string.h>
int main(void) {
  static char composite[2000000];
  int count = 0;
  for (int i = 2; i < (int)sizeof(composite); ++i) {
    if (composite[i]) continue;
    ++count;
    for (long j = (long)i * i; j < (long)sizeof(composite); j += i) composite[j] = 1;
  }
  printf("%d primes\n", count);
  return 0;
}
END
if has_tool gcc gcc; then
  cc1=$(gcc -print-prog-name=cc1)
  same cc1 "$cc1" -quiet -O2 "$source" -o sieve.s
  cc1plus=$(g++ -print-prog-name=cc1plus 2>/dev/null)
  if [ -x "$cc1plus" ]; then
    same cc1plus "$cc1plus" -quiet -std=c++20 -O1 -I"$ROOT" -I"$ROOT/include" -D_GNU_SOURCE \
      "$ROOT/km/signals/frame.cc" -o frame.s
  fi
  gcc -O2 -S "$source" -o "$TMP/sieve.s"
  same as "$(gcc -print-prog-name=as)" "$TMP/sieve.s" -o sieve.o
  gcc -c "$TMP/sieve.s" -o "$TMP/sieve.o"
  # The linker's command line as gcc gives it; collect2 would start ld.
  read -ra link <<<"$(gcc -### -static "$TMP/sieve.o" -o sieve 2>&1 | grep collect2 | tr -d '"' |
    sed 's/-plugin[^ ]* *[^ ]*//g')"
  same ld "$(gcc -print-prog-name=ld)" "${link[@]:1}"
  gcc -O2 "$source" -o "$TMP/sieve"
  same compiled "$TMP/sieve"
fi
same readelf readelf -aW /bin/bash
same objdump objdump -d --no-show-raw-insn "$OUT/probe"
same nm nm -D /lib/x86_64-linux-gnu/libc.so.6
same strings strings -n 8 /bin/bash
if has_tool gdb gdb; then same gdb gdb -nx -batch -ex 'disassemble main' -ex 'info line main' "$OUT/probe"; fi
if has_tool eu-readelf eu-readelf; then same eu-readelf eu-readelf --debug-dump=line "$OUT/probe"; fi
if has_tool clang-format clang-format; then same clang-format clang-format --style=Google "$ROOT/km/main.cc"; fi
