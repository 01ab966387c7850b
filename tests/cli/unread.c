/* Has a snapshot refused (--snapshot into nowhere), waits for what km does about it, then fills a
   pipe by one short write. Of what km writes to a standard error that nobody reads it may see
   nothing. */
#include <fcntl.h>
#include <km/hypercall.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

static char bytes[1 << 20];

int main(void) {
  km_hc_args_t arguments = {.arg1 = (uintptr_t) "refused"};
  int ends[2];
  long refused = km_hcall(HC_snapshot, &arguments);
  usleep(200000);
  if (pipe(ends) != 0 || fcntl(ends[1], F_SETFL, O_NONBLOCK) != 0) return 1;
  long wrote = write(ends[1], bytes, sizeof(bytes));
  usleep(200000);
  printf("%s, wrote %ld\n", refused < 0 ? "refused" : "taken", wrote);
  return 3;
}
