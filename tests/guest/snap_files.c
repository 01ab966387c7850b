// variants: dynamic static musl
// Open regular files in a snapshot: offset, flags, sharing; never created or truncated again; what
// the file became meanwhile is what is seen.
#include <sys/stat.h>

#include "tests/guest/guest.h"

static off_t Size(int fd) {
  struct stat status;
  CHECK_OK(fstat(fd, &status));
  return status.st_size;
}

int main(void) {
  int truncating = open("truncating", O_RDWR | O_CREAT | O_TRUNC, 0640);
  CHECK_EQ(truncating, 3);
  CHECK_EQ(write(truncating, "keep this", 9), 9);
  int exclusive = open("exclusive", O_WRONLY | O_CREAT | O_EXCL, 0600);
  CHECK_OK(exclusive);
  CHECK_EQ(write(exclusive, "x", 1), 1);
  int appending = open("appending", O_WRONLY | O_CREAT | O_APPEND, 0600);
  CHECK_OK(appending);
  CHECK_EQ(write(appending, "one,", 4), 4);
  int pattern = PatternFile("pattern", 50000);
  int reading = open("pattern", O_RDONLY);
  int shared = fcntl(reading, F_DUPFD_CLOEXEC, 50);
  CHECK_EQ(shared, 50);
  CHECK_EQ(lseek(reading, 12345, SEEK_SET), 12345);
  CHECK_EQ(lseek(pattern, 0x123456789ll, SEEK_SET), 0x123456789ll);  // far past the end
  FILE* stream = fopen("stream", "w");
  CHECK(stream != NULL);
  fprintf(stream, "buffered before, ");  // still in memory

  GuestSnapshot();

  CHECK_EQ(Size(truncating), 9);
  CHECK_EQ(lseek(truncating, 0, SEEK_CUR), 9);
  CHECK_EQ(write(truncating, "!", 1), 1);
  char bytes[16] = "";
  CHECK_EQ(pread(truncating, bytes, 16, 0), 10);
  CHECK(memcmp(bytes, "keep this!", 10) == 0);
  CHECK_EQ(Size(exclusive), 1);
  CHECK_ERRNO(read(exclusive, bytes, 1), EBADF);
  CHECK_EQ(lseek(appending, 0, SEEK_SET), 0);
  CHECK_EQ(write(appending, "two,", 4), 4);
  CHECK_EQ(Size(appending), 8);
  CHECK_EQ(fcntl(appending, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
  CHECK_EQ(fcntl(truncating, F_GETFL) & O_ACCMODE, O_RDWR);
  uint8_t byte;
  CHECK_EQ(read(reading, &byte, 1), 1);
  CHECK_EQ(byte, PatternByte(12345));
  CHECK_EQ(lseek(shared, 0, SEEK_CUR), 12346);  // one open file description
  CHECK_EQ(fcntl(shared, F_GETFD), FD_CLOEXEC);
  CHECK_EQ(fcntl(reading, F_GETFD), 0);
  CHECK_ERRNO(write(reading, &byte, 1), EBADF);
  CHECK_EQ(lseek(pattern, 0, SEEK_CUR), 0x123456789ll);
  CHECK_EQ(dup(0), 9);  // 3 to 8 are in use
  CHECK_OK(close(9));
  fprintf(stream, "after\n");
  CHECK_ZERO(fclose(stream));
  stream = fopen("stream", "r");
  CHECK(stream != NULL);
  char line[64] = "";
  CHECK(fgets(line, sizeof line, stream) != NULL);
  CHECK(strcmp(line, "buffered before, after\n") == 0);
  CHECK_ZERO(fclose(stream));
  CHECK_EQ(fcntl(0, F_GETFD), 0);
  CHECK_EQ(fcntl(1, F_GETFD), 0);
  Say("files");

  GuestSnapshot();
  CHECK_EQ(Size(truncating), 10);
  CHECK_EQ(lseek(shared, 0, SEEK_CUR), 12346);
  CHECK_EQ(write(appending, "three", 5), 5);
  CHECK_EQ(Size(appending), 13);
  Say("again");
  return 0;
}
