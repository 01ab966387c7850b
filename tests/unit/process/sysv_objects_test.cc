#include "km/process/sysv_objects.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#include "gtest/gtest.h"

namespace km {
namespace {

constexpr SysvKind kKind = SysvKind::kMemory;

TEST(SysvObjects, ThoseThatAreGoneAreForgotten) {
  SysvObjects objects;
  const int kept = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  ASSERT_GE(kept, 0);
  objects.NoteMade(kKind, kept, false);
  const int known = objects.Guest(kKind, kept);
  for (int i = 0; i < 1000; ++i) {
    const int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
    ASSERT_GE(id, 0);
    objects.NoteMade(kKind, id, false);
    EXPECT_GE(objects.Guest(kKind, id), 0);
    ASSERT_EQ(shmctl(id, IPC_RMID, nullptr), 0);  // as its last attachment's end does
    EXPECT_LE(objects.Known(kKind).size(), 65u);
  }
  EXPECT_EQ(objects.Host(kKind, known), kept);
  EXPECT_TRUE(objects.Made(kKind, kept));
  EXPECT_EQ(shmctl(kept, IPC_RMID, nullptr), 0);
}

}  // namespace
}  // namespace km
