/* Threads that share the work of one operator; see crew.c. */
#ifndef TESSELLATE_CREW_H
#define TESSELLATE_CREW_H
#include <stdint.h>

/* Part of a job: items [start, end) of what `of` tells. */
typedef void (*Work)(void *of, int64_t start, int64_t end);

/*
 * Does `work` for all of [0, count) on the calling thread and the crew, `least` items at once or more, and returns 1 when it
 * is done. 0, and nothing done: there is no crew, or another thread's job has it. `soon`: the next job comes in a moment.
 */
int crew_run(Work work, void *of, int64_t count, int64_t least, int soon);

/*
 * What the next job will read: `count` items of `item_bytes` each from `start` on, shared out as jobs are. Members that
 * wait bring the beginnings of their shares into their caches. Only a hint: nothing need be there.
 */
void crew_expect(const void *start, int64_t item_bytes, int64_t count);
#endif
