/*
 * Threads that share the work of one operator, beside ONNX Runtime's own pool. Why not that one: a decoded token is a
 * hundred short jobs with a few microseconds between them, and a thread of the pool either sleeps in between, which costs
 * 10 microseconds to wake it, or spins for milliseconds, which harms whoever shares the cores. A member of the crew waits
 * awake for a moment only, and uses it: it fetches the beginning of what it will read next. After the long jobs of a prompt
 * it sleeps at once, since the pool's threads have work in between.
 *
 * A job is a range of items. Each member has a share of its own, a run of neighbours, so that it reads on and on in memory;
 * who has done its share takes from what others have left. Shares are claimed in pieces that get smaller towards the end,
 * so all end together, whoever came late or was slow. Nobody waits for a member that sleeps: it finds nothing left.
 */
#define _GNU_SOURCE
#include "crew.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum {
  MEMBER_COUNT_MAX = 64,
  SHARE_PARTS = 4,        /* a claim takes this part of what is left of a share */
  AWAKE_NS = 100000,      /* how long a member waits before it sleeps: longer than anything between two jobs of a token */
  LOOKS_A_CLOCK = 16,     /* between two looks at the clock */
  WAITS_BEFORE_YIELD = 4000,
  LINE = 64,
  LINES_A_LOOK = 16,
  AHEAD_BYTES = 512 << 10 /* at most, of a share; a part of the second cache */
};

/* What is left of a share: the job's turn above, the next item below. Whoever claims by another turn gets nothing. */
typedef struct {
  _Alignas(128) _Atomic uint64_t place;
  _Atomic int64_t end;
} Share;

static Share shares[MEMBER_COUNT_MAX];
static struct {
  _Alignas(128) _Atomic uint32_t turn;
  _Atomic int sleeper_count;
  _Alignas(128) _Atomic int64_t left; /* items of the job that are not done */
  _Alignas(128) Work work;
  void *of;
  _Atomic int64_t least;
  _Atomic int soon;
  _Alignas(128) _Atomic(const char *) next_start;
  _Atomic int64_t next_item_bytes, next_count;
} job;

static atomic_flag taken = ATOMIC_FLAG_INIT;
static int member_count; /* with the calling thread; 0: not started. What a member that could not be started would do, others do */
static _Atomic int wanted_count = 1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t called = PTHREAD_COND_INITIALIZER;

static void wait_a_little(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t share_start(int64_t count, int member) { return count * member / member_count; }

static int claim(int share, uint32_t turn, int64_t least, int64_t *start, int64_t *end) {
  uint64_t place = atomic_load_explicit(&shares[share].place, memory_order_acquire);
  for (;;) {
    const int64_t next = (uint32_t)place, left = atomic_load_explicit(&shares[share].end, memory_order_acquire) - next;
    if ((uint32_t)(place >> 32) != turn || left <= 0) return 0;
    int64_t size = left / SHARE_PARTS / least * least;
    if (size < least) size = left < least ? left : least;
    if (!atomic_compare_exchange_weak_explicit(&shares[share].place, &place, place + (uint64_t)size, memory_order_acq_rel,
                                               memory_order_acquire))
      continue;
    *start = next, *end = next + size;
    return 1;
  }
}

/* Own share first. What a job says may be read only by who has claimed some of it. */
static void take_part(int member, uint32_t turn) {
  const int64_t least = atomic_load_explicit(&job.least, memory_order_relaxed);
  for (int i = 0; i < member_count; i++) {
    int64_t start, end;
    while (claim((member + i) % member_count, turn, least, &start, &end)) {
      job.work(job.of, start, end);
      atomic_fetch_sub_explicit(&job.left, end - start, memory_order_release);
    }
  }
}

/* ---- what a member does between two jobs ---- */

typedef struct {
  const char *at, *end;
} Ahead;

static Ahead ahead_of(int member) {
  const char *start = atomic_load_explicit(&job.next_start, memory_order_relaxed);
  const int64_t bytes = atomic_load_explicit(&job.next_item_bytes, memory_order_relaxed);
  const int64_t count = atomic_load_explicit(&job.next_count, memory_order_relaxed);
  const int64_t from = share_start(count, member) * bytes, to = share_start(count, member + 1) * bytes;
  return (Ahead){start + from, start + (to - from < AHEAD_BYTES ? to : from + AHEAD_BYTES)};
}

/* Fetching never faults, so it does not matter whether the memory is still there. */
static void fetch_some(Ahead *ahead) {
  for (int i = 0; i < LINES_A_LOOK && ahead->at < ahead->end; i++, ahead->at += LINE) __builtin_prefetch(ahead->at, 0, 2);
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static uint32_t sleep_until_called(uint32_t seen) {
  pthread_mutex_lock(&mutex);
  atomic_fetch_add(&job.sleeper_count, 1);
  while (atomic_load(&job.turn) == seen) pthread_cond_wait(&called, &mutex);
  atomic_fetch_sub(&job.sleeper_count, 1);
  pthread_mutex_unlock(&mutex);
  return atomic_load(&job.turn);
}

static uint32_t turn_after(uint32_t seen, int member, int64_t until) {
  Ahead ahead = ahead_of(member);
  for (int look = 1; atomic_load_explicit(&job.soon, memory_order_relaxed); look++) {
    const uint32_t turn = atomic_load_explicit(&job.turn, memory_order_acquire);
    if (turn != seen) return turn;
    if (ahead.at < ahead.end) fetch_some(&ahead);
    else wait_a_little();
    if (look % LOOKS_A_CLOCK == 0 && now_ns() > until) break;
  }
  return sleep_until_called(seen);
}

/* Where jobs come late again and again, because others have the cores, nobody waits awake: half as long each time. */
static void *live(void *number) {
  const int member = (int)(intptr_t)number;
  int64_t patience = AWAKE_NS;
  for (uint32_t turn = 0;;) {
    const int64_t from = now_ns();
    turn = turn_after(turn, member, from + patience);
    patience = now_ns() - from < AWAKE_NS ? AWAKE_NS : patience / 2;
    take_part(member, turn);
  }
  return NULL;
}

/* ---- the calling thread's side ---- */

/* Only here is the crew made: a library that was loaded and let go again must not leave threads in it. */
static void gather(void) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  member_count = atomic_load(&wanted_count);
  pthread_t thread;
  for (int i = 1; i < member_count; i++)
    if (pthread_create(&thread, &attributes, live, (void *)(intptr_t)i) != 0) break;
  pthread_attr_destroy(&attributes);
}

int crew_run(Work work, void *of, int64_t count, int64_t least, int soon) {
  if (atomic_load_explicit(&wanted_count, memory_order_relaxed) < 2 || count > INT32_MAX) return 0;
  if (atomic_flag_test_and_set_explicit(&taken, memory_order_acquire)) return 0;
  if (member_count == 0) gather();
  const uint32_t turn = atomic_load_explicit(&job.turn, memory_order_relaxed) + 1;
  job.work = work, job.of = of;
  atomic_store_explicit(&job.least, least, memory_order_relaxed);
  atomic_store_explicit(&job.soon, soon, memory_order_relaxed);
  atomic_store_explicit(&job.left, count, memory_order_relaxed);
  for (int i = 0; i < member_count; i++) {
    /* Closed before its end moves: a member late from the job before would claim what lies between the two ends. */
    atomic_store_explicit(&shares[i].place, (uint64_t)turn << 32 | UINT32_MAX, memory_order_release);
    atomic_store_explicit(&shares[i].end, share_start(count, i + 1), memory_order_release);
    atomic_store_explicit(&shares[i].place, (uint64_t)turn << 32 | (uint64_t)share_start(count, i), memory_order_release);
  }
  atomic_store(&job.turn, turn);
  if (atomic_load(&job.sleeper_count) > 0) {
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&called);
    pthread_mutex_unlock(&mutex);
  }
  take_part(0, turn);
  for (int waits = 0; atomic_load_explicit(&job.left, memory_order_acquire) > 0; waits++)
    if (waits < WAITS_BEFORE_YIELD) wait_a_little();
    else sched_yield(); /* a member may have lost its core to this very loop */
  atomic_flag_clear_explicit(&taken, memory_order_release);
  return 1;
}

void crew_expect(const void *start, int64_t item_bytes, int64_t count) {
  atomic_store_explicit(&job.next_start, start, memory_order_relaxed);
  atomic_store_explicit(&job.next_item_bytes, item_bytes, memory_order_relaxed);
  atomic_store_explicit(&job.next_count, count, memory_order_relaxed);
}

/* How many threads compute, with the calling one. The first that runs a job decides for the process, as with ONNX Runtime's. */
__attribute__((visibility("default"))) void tessellate_crew(int count) {
  atomic_store(&wanted_count, count < MEMBER_COUNT_MAX ? count : MEMBER_COUNT_MAX);
}
