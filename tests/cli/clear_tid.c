// clear_tid FILE HOW: has the kernel clear a word in FILE, which it shares, when its only thread
// ends, by exit_group or by exit: Linux does so only where another one could look.
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const int fd = open(argv[1], O_RDWR | O_CREAT, 0666);
  if (fd < 0 || ftruncate(fd, 4096) != 0) return 2;
  int *word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (word == MAP_FAILED) return 2;
  *word = 0x41414141;
  syscall(SYS_set_tid_address, word);
  syscall(strcmp(argv[2], "exit") == 0 ? SYS_exit : SYS_exit_group, 0);
  return 1;
}
