/* The notes of a snapshot file: owner, types, tags. docs/snapshot-format.md says what each holds.
 *
 * Numbers are never reused, and the meaning of a number never changes. Plain C and C++; includes
 * nothing of the monitor's.
 */
#ifndef KM_NOTES_H_
#define KM_NOTES_H_

#include <stdint.h>

#define KM_NOTE_OWNER "KM" /* namesz 3, with its NUL */

enum km_note_type {
  NT_KM_HEADER = 0x4b4d0001, /* first of all notes */
  NT_KM_VCPU = 0x4b4d0002,   /* one a thread: what NT_PRSTATUS and NT_X86_XSTATE have no room for */
  NT_KM_GUEST = 0x4b4d0003,  /* the program */
  NT_KM_DYNLINKER = 0x4b4d0004,   /* its interpreter, when it has one */
  NT_KM_PROCESS = 0x4b4d0005,     /* identity, working directory, limits, address-space landmarks */
  NT_KM_SIGNALS = 0x4b4d0006,     /* dispositions, signals pending for the process */
  NT_KM_MAPPINGS = 0x4b4d0007,    /* the address space */
  NT_KM_FILES = 0x4b4d0008,       /* descriptors and what they are open on */
  NT_KM_CHECKSUMS = 0x4b4d0009,   /* of memory */
  NT_KM_TIMERS = 0x4b4d000a,      /* of timer_create and setitimer; absent when there are none */
  NT_KM_IPC = 0x4b4d0070,         /* System V objects; absent when there are none */
  NT_KM_BASES = 0x4b4d0071,       /* snapshots that have some of the memory; absent without any */
  NT_KM_WORKING_SET = 0x4b4d0072, /* what it wrote last; not required, absent when not known */
};

/* The descriptor of each of these notes starts with this. All fields little-endian. */
struct km_note_prefix {
  uint64_t checksum;       /* XXH3 64, seed 0, of the descriptor from `version` to its end */
  uint32_t version;        /* of this type of note, as written */
  uint32_t minimum_reader; /* a reader that knows only older versions must not use the note */
  uint32_t flags;          /* KM_NOTE_REQUIRED */
  uint32_t reserved;       /* 0 */
};

/* A reader that does not know the note, or only too old a version of it, must refuse the file.
 * Without this flag it ignores the note, and keeps it when it writes the process again. */
#define KM_NOTE_REQUIRED 1u

#define KM_NOTE_VERSION 1u /* of every type so far */

/* After the prefix: records of this header, the value, and zeros up to a multiple of 8. */
struct km_record {
  uint32_t tag;
  uint32_t length; /* of the value, without padding */
};

/* A reader that does not know a tag with this bit must refuse the note; others it skips. */
#define KM_TAG_REQUIRED 0x80000000u

#define KM_FORMAT_VERSION 1u

/* Where file(1) and a loader look: bytes of the file. */
#define KM_SNAPSHOT_MAGIC "KMSNAPSH"
#define KM_SNAPSHOT_MAGIC_OFFSET 112
#define KM_SNAPSHOT_MAGIC_SIZE 8
#define KM_SNAPSHOT_HEAD_CHECKSUM_OFFSET 128

/* Feature words: a bit that the reader does not know in the first makes it refuse the file. None
 * yet. */
#define KM_REQUIRED_FEATURES_KNOWN 0ull
#define KM_OPTIONAL_FEATURES_KNOWN 0ull

enum km_header_tag {
  KM_HEADER_MAGIC = 1,         /* first record: KM_SNAPSHOT_MAGIC */
  KM_HEADER_HEAD_CHECKSUM = 2, /* second record: u64 */
  KM_HEADER_FORMAT = 3,        /* u32 version, u32 minimum reader */
  KM_HEADER_FEATURES = 4,      /* u64 required, u64 optional */
  KM_HEADER_FILE_LENGTH = 5,   /* u64 */
  KM_HEADER_PRODUCER = 6,      /* text */
  KM_HEADER_ID = 7,            /* 16 bytes */
  KM_HEADER_PARENT = 8,        /* 16 bytes */
  KM_HEADER_CLOCKS = 9,        /* s64 realtime, monotonic, boottime: ns */
  KM_HEADER_XCR0 = 10,         /* u64 */
  KM_HEADER_CPU_FEATURES = 11, /* u32... */
  KM_HEADER_LABEL = 12,        /* text */
  KM_HEADER_DESCRIPTION = 13,  /* text */
};

enum km_vcpu_tag {
  KM_VCPU_TID = 1,             /* u32 */
  KM_VCPU_COMM = 2,            /* text */
  KM_VCPU_SIGNAL_MASK = 3,     /* u64 */
  KM_VCPU_ALTSTACK = 4,        /* u64 address, u64 size, u32 flags, u32 0 */
  KM_VCPU_PENDING = 5,         /* siginfo_t, 128 bytes; repeated, in order */
  KM_VCPU_CLEAR_CHILD_TID = 6, /* u64 */
  KM_VCPU_ROBUST_LIST = 7,     /* u64 address, u64 length */
  KM_VCPU_BLOCKED_CALL = 8,    /* u32 has deadline, u32 restart (0 to 2), s64 deadline */
  KM_VCPU_SAVED_MASK = 9,      /* u64 */
  KM_VCPU_CPU_TIME = 10,       /* s64 total, s64 of it in user mode: ns */
  /* u64: what the blocked call has done, in the unit of its result; behind KM_VCPU_BLOCKED_CALL */
  KM_VCPU_DONE = KM_TAG_REQUIRED | 11,
  /* What the thread set itself, or inherited from one that did. */
  KM_VCPU_SCHEDULING = KM_TAG_REQUIRED | 112,    /* u32 policy, u32 0, u64 flags, s32 nice, u32
                                                    priority, u64 runtime, deadline, period, u32
                                                    util_min, util_max: struct sched_attr */
  KM_VCPU_PROCESSORS = KM_TAG_REQUIRED | 113,    /* u64...: bits of sched_setaffinity */
  KM_VCPU_IO_PRIORITY = KM_TAG_REQUIRED | 114,   /* u32, as ioprio_set takes it */
  KM_VCPU_PERSONALITY = KM_TAG_REQUIRED | 115,   /* u32 */
  KM_VCPU_MEMORY_POLICY = KM_TAG_REQUIRED | 116, /* u32 mode, u32 0, u64...: bits of nodes */
  KM_VCPU_PRCTL = KM_TAG_REQUIRED | 117, /* u32 PR_SET_ option, u32 0, u64 value; repeated */
  /* u32 users: real, effective, saved, of the file system; u32 groups, the same four; u64
     capabilities by CAP_ number: permitted, effective, inheritable, bounding, ambient; u32...:
     supplementary groups, ascending */
  KM_VCPU_CREDENTIALS = KM_TAG_REQUIRED | 118,
};

enum km_program_tag {                                 /* NT_KM_GUEST and NT_KM_DYNLINKER */
                      KM_PROGRAM_PATH = 1,            /* text */
                      KM_PROGRAM_LOAD_BIAS = 2,       /* u64 */
                      KM_PROGRAM_ENTRY = 3,           /* u64, with the bias */
                      KM_PROGRAM_ELF_HEADER = 4,      /* Elf64_Ehdr, 64 bytes */
                      KM_PROGRAM_PROGRAM_HEADERS = 5, /* Elf64_Phdr, 56 bytes each */
};

enum km_process_tag {
  KM_PROCESS_IDS = 1,       /* u32 pid, parent, group, session, uid, euid, gid, egid, next tid, 0 */
  KM_PROCESS_COMM = 2,      /* text */
  KM_PROCESS_COMMAND = 3,   /* text */
  KM_PROCESS_DIRECTORY = 4, /* text */
  KM_PROCESS_UMASK = 5,     /* u32 */
  KM_PROCESS_PERSONALITY = 6, /* u64 */
  KM_PROCESS_LIMITS = 7,      /* u64 current, u64 maximum: by RLIMIT_ number */
  KM_PROCESS_LAYOUT = 8,      /* u64 brk start, brk end, mmap base, stack end, arguments start, end,
                                 environment start, end */
  KM_PROCESS_MEMORY = 40,  /* u32 MCL_FUTURE and MCL_ONFAULT, u32 MEMBARRIER_CMD_REGISTER_ bits */
  KM_PROCESS_CPU_TIME = 9, /* s64 total, s64 of it in user mode: ns */
  /* A context of io_setup(2): u64 name, u32 room for requests, u32 0, and events that were not
     taken: u64 data, u64 iocb, s64 result, s64 second result each; repeated */
  KM_PROCESS_AIO = KM_TAG_REQUIRED | 119,
  KM_PROCESS_OOM_SCORE = KM_TAG_REQUIRED | 120, /* s32, as in /proc/self/oom_score_adj; u32 0 */
  KM_PROCESS_LEADS = KM_TAG_REQUIRED | 118,     /* u32 KM_LEADS_ bits, u32 0 */
  KM_PROCESS_PRCTL = KM_TAG_REQUIRED | 117,     /* u32 PR_SET_ option, u32 0, u64 value; repeated */
};

/* What the program has made itself the leader of. */
#define KM_LEADS_GROUP 1u    /* setpgid(2) */
#define KM_LEADS_SESSION 2u  /* setsid(2) */
#define KM_LEADS_TERMINAL 4u /* its group was the foreground one of its terminal */

enum km_bases_tag {
  KM_BASES_FILE = KM_TAG_REQUIRED | 1, /* 16 bytes id, u64 length of the file, counted text path;
                                          repeated */
  KM_BASES_MEMORY =
      KM_TAG_REQUIRED | 2, /* u64 address, u64 size, u64 offset in the file, u32 number
                              of the file (0: the first), u32 0; repeated, ascending */
};

enum km_signals_tag {
  KM_SIGNALS_ACTION = 1,  /* u32 signal, u32 0, u64 handler, flags, restorer, mask; repeated */
  KM_SIGNALS_PENDING = 2, /* siginfo_t, 128 bytes; repeated, in order */
};

enum km_mappings_tag {
  KM_MAPPINGS_MAPPING = 1, /* u64 start, end, u32 protection, flags, u64 file offset, counted text
                              name; repeated, ascending */
  /* The same, of a memory object: u64 start, end, u32 protection, flags, u64 offset in the object,
     u64 address of the object, counted text name; among the others, ascending. */
  KM_MAPPINGS_OF_OBJECT = KM_TAG_REQUIRED | 2,
  /* Shared memory without a name that the program can open (memfd, deleted file): u64 address, u64
     size in bytes, u32 kind, u32 seals (F_SEAL_), counted text name. Its bytes are those of the
     segment at `address`, which is beyond every address of the program's. Repeated, ascending. */
  KM_MAPPINGS_OBJECT = KM_TAG_REQUIRED | 3,
  KM_MAPPINGS_ADVICE = 4, /* u32 advice, u32 0: of the mapping before it; KM_ADVICE_READ_ONLY */
  /* Of the file that the mapping before it shares: as KM_NAMED_IDENTITY */
  KM_MAPPINGS_IDENTITY = 5,
  /* Attached System V memory: u64 start, end, u32 protection, flags, u64 offset in the segment, u64
     address of its object, u32 id, u32 KM_SEGMENT_READ_ONLY or 0, counted text name; repeated */
  KM_MAPPINGS_OF_SEGMENT = KM_TAG_REQUIRED | 117,
  /* Of memory: u64 start, end, u32 mode, u32 0, u64...: bits of nodes; repeated */
  KM_MAPPINGS_POLICY = KM_TAG_REQUIRED | 116,
};

/* A bit of advice: a shared mapping that may not be made writable, for its file was not open so. */
#define KM_ADVICE_READ_ONLY 0x8000u

enum km_object_kind {
  KM_OBJECT_MEMFD = 1,
  KM_OBJECT_DELETED_FILE = 2, /* the name is what it was called */
  KM_OBJECT_ANONYMOUS = 3,    /* MAP_SHARED | MAP_ANONYMOUS: no name, no seals */
  KM_OBJECT_SEGMENT = 112,    /* a System V segment, of NT_KM_IPC */
};
#define KM_OBJECT_BASE \
  0x650000000000ull /* KM_GUEST_END. Addresses of memory objects: from here ... */
#define KM_OBJECT_END 0x7e0000000000ull /* ... to here, each a multiple of 2 MiB */

#define KM_SEGMENT_READ_ONLY 1u /* attached with SHM_RDONLY */

enum km_ipc_tag {
  /* Each starts with: s32 id, the program's; s32 key; u32 mode, uid, gid, u32 0; s32 id on the host
     where it was, u32 0; s64 time of its last change there (..._ctime). Then: */
  KM_IPC_SEGMENT = KM_TAG_REQUIRED | 1, /* u64 size in bytes, u64 address of the memory object, u32
                                           KM_SEGMENT_ bits, u32 0; repeated */
  KM_IPC_SEMAPHORES = KM_TAG_REQUIRED | 2, /* s64 time of the last semop, and for each semaphore u32
                                              value, u32 1 when somebody has operated on it, s32 sum
                                              of SEM_UNDO operations of the process; repeated */
  KM_IPC_QUEUE = KM_TAG_REQUIRED | 3,      /* u64 bytes that it has room for; repeated */
  KM_IPC_MESSAGE = KM_TAG_REQUIRED | 4,    /* s64 type, text; of the queue before it; repeated */
};
#define KM_SEGMENT_REMOVED 2u /* IPC_RMID: it goes with its last attachment */
#define KM_SEGMENT_LOCKED 4u  /* SHM_LOCK */

enum km_files_tag {
  KM_FILES_DESCRIPTION = 1, /* of a regular file with a name: u32 id, u32 flags, s64 offset, counted
                               text path; repeated */
  KM_FILES_DESCRIPTOR = 2,  /* u32 number, u32 description, u32 flags, u32 0; repeated */
  KM_FILES_GIVEN = 3,       /* u32: bit N: descriptor N comes from whoever resumes; without it 7 */
  /* Of any kind: u32 id, u32 kind, u32 flags, u32 0, s64 offset, counted text path, u32 length and
     records of the kind; repeated */
  KM_FILES_OBJECT = KM_TAG_REQUIRED | 4,
  /* Held through a description: u32 description, u32 kind, u32 0 shared or 1 exclusive, u32 0, s64
     start, s64 length (0: to the end); repeated */
  KM_FILES_LOCK = KM_TAG_REQUIRED | 5,
  /* Who gets the signals of a description: u32 description, u32 type, u32 thread id or 0, u32
     signal (F_SETSIG), u32 DN_ mask (F_NOTIFY), u32 1 with O_ASYNC; repeated */
  KM_FILES_OWNER = KM_TAG_REQUIRED | 6,
  /* Of the launcher's terminal: struct termios2 as the program got it and as it is, 44 bytes each,
     u32 rows, columns, width, height */
  KM_FILES_TERMINAL = 96,
};
enum km_owner_type {
  KM_OWNER_NONE = 0,
  KM_OWNER_PROCESS = 1,
  KM_OWNER_GROUP = 2, /* its own process group */
  KM_OWNER_THREAD = 3,
};
enum km_lock_kind {
  KM_LOCK_POSIX = 1, /* fcntl(F_SETLK): of the process */
  KM_LOCK_OFD = 2,   /* fcntl(F_OFD_SETLK): of the description */
  KM_LOCK_FLOCK = 3, /* flock(2): without a range */
  KM_LOCK_LEASE = 4, /* fcntl(F_SETLEASE): without a range */
};
#define KM_FILES_CLOSE_ON_EXEC 1u

/* What an open file description is open on. The records of each are specified in its file in
 * km/files and in docs/snapshot-format.md. */
enum km_file_kind {
  KM_FILE_OTHER = 0, /* never in a file */
  KM_FILE_REGULAR = 1,
  KM_FILE_DIRECTORY = 2,
  KM_FILE_PIPE = 3, /* and FIFOs */
  KM_FILE_SOCKET = 4,
  KM_FILE_TERMINAL = 5,
  KM_FILE_CHARACTER_DEVICE = 6,
  KM_FILE_BLOCK_DEVICE = 7,
  KM_FILE_EVENTFD = 8,
  KM_FILE_EPOLL = 9,
  KM_FILE_TIMERFD = 10,
  KM_FILE_SIGNALFD = 11,
  KM_FILE_INOTIFY = 12,
  KM_FILE_MEMFD = 13,
  KM_FILE_PATH = 14,          /* O_PATH */
  KM_FILE_GIVEN = 15,         /* another descriptor of what whoever resumes has as 0, 1 or 2 */
  KM_FILE_PROC = 16,          /* below /proc/self, made by the monitor */
  KM_FILE_PIDFD = 17,         /* of the process itself */
  KM_FILE_MESSAGE_QUEUE = 20, /* POSIX */
};

/* Tags of the records of the kinds share one range, so that a kind may use another's. */
enum km_named_tag { /* KM_FILE_REGULAR with a name, KM_FILE_DIRECTORY */
                    KM_NAMED_IDENTITY =
                        4 /* u64 device, inode, size, s64 seconds, nanoseconds (st_mtim) */
};

enum km_pipe_tag {
  KM_PIPE_OBJECT = 1,   /* u32: which pipe; its ends are several descriptions */
  KM_PIPE_SIZE = 2,     /* u32: bytes it has room for; with the first end of a pipe only */
  KM_PIPE_CONTENTS = 3, /* bytes; with the first end of a pipe only; repeated: packets, of which the
                           last may be empty */
};

enum km_socket_condition {
  KM_SOCKET_IDLE = 0, /* perhaps bound, or connected to where datagrams go */
  KM_SOCKET_LISTENING = 1,
  KM_SOCKET_PAIRED = 2, /* a UNIX socket that is connected to another one of the process */
  KM_SOCKET_LOST = 3,   /* was connected elsewhere: the connection is reset by the resume */
};

enum km_socket_tag {
  KM_SOCKET_SPEC = 32,      /* u32 family, type, protocol */
  KM_SOCKET_CONDITION = 33, /* u32 km_socket_condition, backlog, connections waiting, shut down
                               (bit 0: for reading, 1: for writing), 1: the kernel chose its port */
  KM_SOCKET_PAIR = 34,      /* u32: which pair, which end of it (0, 1) */
  KM_SOCKET_NAME = 35,      /* struct sockaddr_*: bound to */
  KM_SOCKET_PEER = 36,      /* struct sockaddr_*: where its datagrams go; with KM_SOCKET_TCP the
                               other end of the connection */
  KM_SOCKET_OPTION = 37,    /* u32 level, u32 name, value */
  KM_SOCKET_MESSAGE = 38,   /* u32 length and struct sockaddr_* of the sender, u32 count and u32...
                               descriptions in flight, bytes; in order */
  KM_SOCKET_FILTER = 39,    /* its packet filter: struct sock_filter... */
  KM_SOCKET_TCP = 48, /* a connection that --tcp=keep can go on with: u32 sequence numbers behind
                         what was sent and received, u32 bytes that were not sent yet, u32
                         TCPI_OPT_ bits, u32 window scales of sending and of receiving, u32 MSS,
                         u32 timestamp, struct tcp_repair_window, what was not acknowledged */
  KM_SOCKET_FILE =
      49, /* of a name that is a path and to be bound: u32 mode, uid, gid, u32 1 where
             the file is not there any more, counted text path that it was renamed to */
  KM_SOCKET_CREDENTIALS = 50, /* of the message before it, if its sender is known: u32 pid (0: the
                                 program itself), uid, gid */
};

enum km_given_tag { KM_GIVEN_NUMBER = 5 /* u32: 0, 1 or 2 */ };

enum km_device_tag { KM_DEVICE_NUMBER = 60 /* u64: st_rdev */ };

enum km_queue_tag {                        /* KM_FILE_MESSAGE_QUEUE */
                    KM_QUEUE_OBJECT = 112, /* u32 which queue, u32 1 when it has no name any more */
                    /* The others are with the first description of a queue. u64 messages and u64
                       bytes in each that it has room for, u32 mode, u32 0, u64 device, inode */
                    KM_QUEUE_ATTRIBUTES = 113,
                    KM_QUEUE_MESSAGE = 114, /* u32 priority, bytes; in order */
                    /* mq_notify(2), with the description that it was asked through: u32
                       SIGEV_SIGNAL or SIGEV_NONE, u32 signal, u64 value */
                    KM_QUEUE_NOTICE = 115,
                    KM_QUEUE_OWNER = 116, /* u32 uid, gid */
};
enum km_terminal_tag {
  KM_TERMINAL_WHAT = 96, /* u32 km_terminal_what, u32: of a slave, the description of its master;
                            of the launcher's, bit N: descriptor N (0 to 2) that was given is the
                            same terminal, bit 3: it is the controlling one */
  KM_TERMINAL_SETTINGS = 97, /* struct termios2, 44 bytes; with a master, as all below */
  KM_TERMINAL_WINDOW = 98,   /* u32 rows, columns, width, height */
  KM_TERMINAL_STATE = 99,    /* u32 flags, u32 what stopped the slave's output (0 nothing, 1 TCOOFF,
                                2 VSTOP), u32 mode of the slave's name, u32 0 */
  KM_TERMINAL_LINE = 100,    /* bytes: a line that waits for the slave; repeated */
  KM_TERMINAL_REST = 101,    /* bytes: what waits for it besides */
  KM_TERMINAL_BACKLOG = 102, /* bytes: behind that, as they were written */
  KM_TERMINAL_OUTPUT = 103,  /* bytes that wait for the master */
};
enum km_terminal_what {
  KM_TERMINAL_IS_MASTER = 1,
  KM_TERMINAL_IS_SLAVE = 2,
  KM_TERMINAL_IS_HUNG_UP = 3, /* a slave whose master is closed */
  KM_TERMINAL_IS_LAUNCHERS = 4,
};
#define KM_TERMINAL_CONTROLLING 8u
#define KM_TERMINAL_PACKET 1u           /* TIOCPKT */
#define KM_TERMINAL_LOCKED 2u           /* TIOCSPTLCK */
#define KM_TERMINAL_EXCLUSIVE 4u        /* TIOCEXCL, of the slave */
#define KM_TERMINAL_MASTER_EXCLUSIVE 8u /* and of the master */
#define KM_TERMINAL_MASTER_STOPPED 16u  /* TCOOFF by a descriptor of the master */

enum km_inotify_tag {
  KM_INOTIFY_NEXT = 40,   /* u32: the number that the next watch gets */
  KM_INOTIFY_WATCH = 41,  /* u32 number, u32 IN_ mask, counted text path; repeated, ascending */
  KM_INOTIFY_EVENTS = 42, /* struct inotify_event..., not read yet, each with its name */
};

/* KM_FILE_MEMFD, and KM_FILE_REGULAR of a file without a name. */
enum km_unnamed_tag {
  KM_UNNAMED_OBJECT = 6,     /* u64: address of the memory object */
  KM_UNNAMED_ATTRIBUTES = 7, /* u32 mode (07777 and less), uid, gid */
};

enum km_timers_tag {
  KM_TIMERS_TIMER = 1, /* s32 id, s32 clock, u32 notify, u32 signal, u64 value, u32 tid, u32 flags,
                          s64 expiry, s64 interval, s64 overrun; repeated */
  KM_TIMERS_NEXT_ID = 2, /* u32 */
};
#define KM_TIMERS_ARMED 1u
#define KM_TIMERS_WAITING 2u
#define KM_TIMERS_MONOTONIC 4u

enum km_eventfd_tag {
  KM_EVENTFD_STATE = 80 /* u64 count, u32 1: EFD_SEMAPHORE, u32 1: each resume adds 1 to it */
};

enum km_timerfd_tag {
  /* u32 clock, u32 flags (TFD_TIMER_) that it was set with, u64 expiries that nobody has read, s64
     seconds, nanoseconds to the next expiry (of the clock, for an absolute one of CLOCK_REALTIME),
     s64 seconds, nanoseconds of the interval */
  KM_TIMERFD_STATE = 81,
};

enum km_signalfd_tag { KM_SIGNALFD_MASK = 82 /* u64: bit 0 is signal 1 */ };

enum km_epoll_tag {
  /* u32 descriptor, u32 events as the kernel keeps them, u64 data, u32 place in the list of what is
   * to be reported (0: not in it), u32 events that were there; repeated */
  KM_EPOLL_WATCH = 83,
};

enum km_working_set_tag {
  /* u64...: address of the first of some pages, in the low 12 bits how many; ascending, at most 512
     pages in all; 0 for an entry that is not used */
  KM_WORKING_SET_PAGES = 1,
};

enum km_checksums_tag {
  KM_CHECKSUMS_KIND = 1,   /* u32 algorithm, u32 log2 of the chunk's size */
  KM_CHECKSUMS_VALUES = 2, /* u64... */
};
#define KM_CHECKSUM_XXH3_64 1u
#define KM_CHECKSUM_CHUNK_SHIFT 21

#ifdef __cplusplus
static_assert(sizeof(km_note_prefix) == 24, "on disk");
static_assert(sizeof(km_record) == 8, "on disk");
#else
_Static_assert(sizeof(struct km_note_prefix) == 24, "on disk");
_Static_assert(sizeof(struct km_record) == 8, "on disk");
#endif

#endif /* KM_NOTES_H_ */
