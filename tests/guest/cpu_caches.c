// variants: dynamic static
// What programs choose the sizes of their blocks by, and divide by.
#include <unistd.h>

#include "tests/guest/guest.h"

int main(void) {
  Say("data %ld, lines of %ld", sysconf(_SC_LEVEL1_DCACHE_SIZE),
      sysconf(_SC_LEVEL1_DCACHE_LINESIZE));
  Say("code %ld, lines of %ld", sysconf(_SC_LEVEL1_ICACHE_SIZE),
      sysconf(_SC_LEVEL1_ICACHE_LINESIZE));
  Say("second %ld, lines of %ld", sysconf(_SC_LEVEL2_CACHE_SIZE),
      sysconf(_SC_LEVEL2_CACHE_LINESIZE));
  return 0;
}
