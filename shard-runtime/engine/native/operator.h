/*
 * What the operators share: the way to ONNX Runtime's C API, whose functions lie in a table at fixed positions (the public
 * header onnxruntime_c_api.h, which only ever appends), and the loop over their parts.
 */
#ifndef TESSELLATE_OPERATOR_H
#define TESSELLATE_OPERATOR_H
#include <stddef.h>
#include <stdint.h>
#include "crew.h"

#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define INLINE static inline __attribute__((always_inline))

typedef void *Pointer;
static const Pointer *api;
#define CALL(position, result, ...) ((result(*)(__VA_ARGS__))api[position])
enum {
  CREATE_STATUS = 0, CREATE_DOMAIN = 26, ADD_TO_DOMAIN = 27, ADD_DOMAIN = 28, TENSOR_DATA = 51, DIMENSION_COUNT = 61,
  GET_DIMENSIONS = 62, TENSOR_SHAPE = 65, KERNEL_FLOAT = 85, KERNEL_INTEGER = 86, KERNEL_INPUT = 90, KERNEL_OUTPUT = 91,
  RELEASE_STATUS = 93, RELEASE_SHAPE = 99, KERNEL_INPUT_NAME = 232,
  KERNEL_CONSTANT = 249, PARALLEL_FOR = 274
};
enum { FLOAT = 1, UINT8 = 2, INT8 = 3, INT32 = 6, INT64 = 7 };
enum { REQUIRED, OPTIONAL };

INLINE Pointer failure(const char *words) { return CALL(CREATE_STATUS, Pointer, int, const char *)(1, words); }

/* ONNX Runtime's own threads share out pieces that are all alike. */
enum { PIECE_COUNT = 32, ROWS_OF_A_PROMPT = 16 };
typedef struct {
  Work work;
  void *of;
  int64_t count, piece;
} Pieces;

static void run_piece(void *pieces, size_t index) {
  const Pieces *p = pieces;
  const int64_t start = (int64_t)index * p->piece;
  p->work(p->of, start, MIN_OF(start + p->piece, p->count));
}

/*
 * Does `work` for all of [0, count), by as many threads as there are; a call of it gets at least `least` at once. Few rows
 * are over so soon that the threads had better stay awake for what comes next.
 */
static void parallel(Pointer context, Work work, void *of, int64_t count, int64_t least, int64_t row_count) {
  if (count <= least) {
    work(of, 0, count);
    return;
  }
  if (crew_run(work, of, count, least, row_count < ROWS_OF_A_PROMPT)) return;
  Pieces pieces = {work, of, count, MIN_OF(count, (count + PIECE_COUNT - 1) / PIECE_COUNT)};
  if (pieces.piece < least) pieces.piece = least;
  const size_t piece_count = (size_t)((count + pieces.piece - 1) / pieces.piece);
  CALL(PARALLEL_FOR, Pointer, Pointer, void (*)(void *, size_t), size_t, size_t, void *)(context, run_piece, piece_count, 0, &pieces);
}

/* OrtCustomOp of version 16: members that came later are not read. */
typedef struct {
  uint32_t version;
  void *members[24];
} OperatorTable;

static int one_version(const Pointer op) { return (void)op, 1; }
static int plain_memory(const Pointer op, size_t i) { return (void)op, (void)i, 0; }
static const char *any_provider(const Pointer op) { return (void)op, (const char *)NULL; }

#define OPERATOR_TABLE(...) {16, {NULL, __VA_ARGS__}}
#endif
