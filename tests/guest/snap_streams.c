// variants: dynamic static
// Descriptors 0, 1 and 2 that the program replaced itself come back like any other, whatever the
// one who resumes has there; those that it kept of the given ones are that one's.
#include "tests/guest/guest.h"

int main(void) {
  int given[3], ends[2];
  for (int i = 0; i < 3; i++) CHECK_OK(given[i] = dup(i));
  const int input = PatternFile("input", 64);
  CHECK_EQ(lseek(input, 8, SEEK_SET), 8);
  CHECK_OK(pipe(ends));
  const int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
  CHECK_OK(log);
  CHECK_OK(dup2(input, 0));
  CHECK_OK(dup2(ends[1], 1));
  CHECK_OK(dup2(log, 2));
  CHECK_OK(close(ends[1]));
  CHECK_OK(close(log));
  CHECK_EQ(write(1, "before,", 7), 7);
  CHECK_EQ(write(2, "before,", 7), 7);
  for (int round = 0; round < 2; round++) {
    GuestSnapshot();
    uint8_t byte;
    CHECK_EQ(read(0, &byte, 1), 1);
    CHECK_EQ(byte, PatternByte(8 + (size_t)round));
    CHECK_EQ(lseek(input, 0, SEEK_CUR), 9 + round);  // one description
    CHECK_EQ(write(1, "after,", 6), 6);
    CHECK_EQ(write(2, "after,", 6), 6);
    CHECK_OK(write(given[2], "", 0));
  }
  char bytes[32] = "";
  const int again = open("log", O_RDONLY);
  CHECK_EQ(read(again, bytes, sizeof bytes - 1), 19);
  CHECK(strcmp(bytes, "before,after,after,") == 0);
  memset(bytes, 0, sizeof bytes);
  CHECK_EQ(read(ends[0], bytes, sizeof bytes - 1), 19);
  CHECK(strcmp(bytes, "before,after,after,") == 0);
  CHECK_OK(close(1));
  CHECK_EQ(read(ends[0], bytes, 1), 0);  // it was the only one
  for (int i = 0; i < 3; i++) CHECK_OK(dup2(given[i], i));
  Say("its streams are its own, and the given ones those of whoever resumes");
  return 0;
}
