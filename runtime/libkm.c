/* libkm.a: see include/km/km.h. Uses no libc, so that it links with any. */
#include <errno.h>
#include <km/km.h>
#include <stddef.h>

struct entry {
  km_callback callback; /* stored last: NULL while the entry is being filled */
  void* arg;
};

/* Only ever grows, so readers need no lock. */
struct table {
  unsigned count;
  struct entry entries[KM_CALLBACKS_MAX];
};

/* The state of the library: what the program registered, and the first half of the generation id
 * that its callbacks know of; 0: of none. */
static uint64_t seen_generation;
static struct table before_snapshot;
static struct table after_resume;

static int Register(struct table* table, km_callback callback, void* arg) {
  unsigned count = __atomic_load_n(&table->count, __ATOMIC_RELAXED);
  do {
    if (count == KM_CALLBACKS_MAX) return -ENOMEM;
  } while (!__atomic_compare_exchange_n(&table->count, &count, count + 1, /*weak=*/1,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  table->entries[count].arg = arg;
  __atomic_store_n(&table->entries[count].callback, callback, __ATOMIC_RELEASE);
  return 0;
}

static void Run(const struct entry* entry) {
  km_callback callback = __atomic_load_n(&entry->callback, __ATOMIC_ACQUIRE);
  if (callback != NULL) callback(entry->arg);
}

/* Whoever is natively so, or under km, stays so: one look is enough. */
static int HasGeneration(void) {
  static int known; /* 1: no, 2: yes */
  int value = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (value == 0) {
    value = km_present() >= 2 ? 2 : 1;
    __atomic_store_n(&known, value, __ATOMIC_RELAXED);
  }
  return value == 2;
}

static uint64_t Generation(void) {
  return HasGeneration() ? *(const volatile uint64_t*)KM_GENERATION : 0;
}

/* Whether it is new since the last time. The first time of all it is not. */
static int NoticeGeneration(void) {
  uint64_t now = Generation();
  uint64_t before = __atomic_exchange_n(&seen_generation, now, __ATOMIC_RELAXED);
  return before != 0 && before != now;
}

static void RunAfterResume(void) {
  unsigned after_count = __atomic_load_n(&after_resume.count, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < after_count; ++i) Run(&after_resume.entries[i]);
}

int km_present(void) {
  km_hc_args_t args = {0};
  long version = km_hcall(HC_present, &args);
  return version > 0 ? (int)version : 0;
}

int km_snapshot(const char* label, const char* description, unsigned flags) {
  if (!km_present()) return -ENOSYS;

  unsigned before_count = __atomic_load_n(&before_snapshot.count, __ATOMIC_RELAXED);
  while (before_count > 0) Run(&before_snapshot.entries[--before_count]);

  km_hc_args_t args = {0};
  args.arg1 = (uintptr_t)label;
  args.arg2 = (uintptr_t)description;
  args.arg3 = flags;
  long result = km_hcall(HC_snapshot, &args);

  /* Another thread may have noticed first. */
  if (result == 1 && (NoticeGeneration() || !HasGeneration())) RunAfterResume();
  return (int)result;
}

int km_before_snapshot(km_callback callback, void* arg) {
  return Register(&before_snapshot, callback, arg);
}

int km_after_resume(km_callback callback, void* arg) {
  uint64_t none = 0;
  __atomic_compare_exchange_n(&seen_generation, &none, Generation(), /*weak=*/0, __ATOMIC_RELAXED,
                              __ATOMIC_RELAXED);
  return Register(&after_resume, callback, arg);
}

void km_generation(unsigned char id[KM_GENERATION_SIZE]) {
  for (int i = 0; i < KM_GENERATION_SIZE; ++i) {
    id[i] = HasGeneration() ? ((const volatile unsigned char*)KM_GENERATION)[i] : 0;
  }
}

int km_generation_fd(int flags) {
  km_hc_args_t args = {.arg1 = (unsigned)flags};
  return (int)km_hcall(HC_generation_fd, &args);
}

int km_run_after_resume(void) {
  if (!NoticeGeneration()) return 0;
  RunAfterResume();
  return 1;
}
