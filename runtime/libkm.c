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

/* The one state of the library: what the program registered. */
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

  if (result == 1) {
    unsigned after_count = __atomic_load_n(&after_resume.count, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < after_count; ++i) Run(&after_resume.entries[i]);
  }
  return (int)result;
}

int km_before_snapshot(km_callback callback, void* arg) {
  return Register(&before_snapshot, callback, arg);
}

int km_after_resume(km_callback callback, void* arg) {
  return Register(&after_resume, callback, arg);
}
