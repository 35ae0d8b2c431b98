/*
 * Many short jobs one after the other: is every item of each done once, and none of a job that is over? Members that come
 * late from a job while the next is given out are what this is after.
 *     crew-check MEMBERS JOBS
 */
#include "crew.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 200 };
void tessellate_crew(int count);

typedef struct {
  _Atomic int *done; /* how often, by item */
  int64_t count;
} Job;

static _Atomic long wrong;

static void work(void *of, int64_t start, int64_t end) {
  Job *job = of;
  for (int64_t item = start; item < end; item++)
    if (item >= job->count || atomic_fetch_add(&job->done[item], 1) != 0) atomic_fetch_add(&wrong, 1);
}

int main(int argument_count, char **arguments) {
  if (argument_count != 3) return fprintf(stderr, "crew-check MEMBERS JOBS\n"), 2;
  tessellate_crew(atoi(arguments[1]));
  const long jobs = atol(arguments[2]);
  static _Atomic int done[COUNT_MAX];
  uint32_t drawn = 1;
  for (long number = 0; number < jobs; number++) {
    drawn = drawn * 1664525u + 1013904223u; /* Numerical Recipes' generator */
    Job job = {done, 1 + (drawn >> 16) % COUNT_MAX};
    memset((void *)done, 0, sizeof done);
    if (!crew_run(work, &job, job.count, 1, number % 3)) return puts("there is no crew"), 1;
    for (int64_t item = 0; item < job.count; item++) wrong += done[item] != 1;
    if (wrong != 0) return printf("job %ld of %ld: %ld items not done once\n", number, jobs, (long)wrong), 1;
  }
  return printf("%ld jobs\n", jobs), 0;
}
