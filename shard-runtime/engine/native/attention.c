/*
 * Attention of one session, as a custom operator of ONNX Runtime that takes the place of its own
 * com.microsoft.GroupQueryAttention on the processor: the same graphs, other arithmetic. Why not theirs: it multiplies
 * matrices where a decoded token has vectors (six times as slow at a thousand positions), and a row's bits depend on
 * whether it comes alone.
 *
 * What a row IS, whatever the processor, the number of rows and of threads, all in single precision:
 *     score(j) = (sum of q(d) × k(j, d), d ascending, one fused multiply-add each) × scale, bent by the softcap
 *     weight(j) = e^(score(j) - the largest of all scores and the sink)
 *     out(d) = (sum of weight(j) × v(j, d), j ascending, one fused multiply-add each) × (1 / sum)
 * where the sum of weights is taken in 16 lanes by j mod 16, the lanes then in order, then the sink.
 *
 * How the cache lies in memory: values as the graph says, [kvHeads][positions][size]. Keys, which nobody else reads, in
 * blocks of 16 positions, [kvHeads][blocks][size][16], so that 16 scores grow side by side.
 *
 * A second operator, tessellate.Int8Attention, keeps keys and values as 8-bit codes and a scale for every 32 values of a
 * head at a position: one outlier coarsens 31 values beside it, and keys have outliers. They are rounded once, when their
 * position is written, and so follow from the row alone:
 *     scale = largest |x| / 127; code = x / scale, to the nearest whole number, half to even; x counts as code × scale
 * What is above then holds word for word. Codes lie as keys and values do, scales likewise with 32 times fewer.
 *
 * A cache for attention with a window may be shorter than the session: position p then lies at p mod its length, a
 * multiple of 16 that holds the window and the rows that come. Sums run over the same positions in the same lanes.
 */
#include "operator.h"
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define LANES 16
#define HEADS_AT_ONCE 8
#define ROWS_AT_ONCE 4       /* of a prompt; their scores fit into the second cache */
#define POSITIONS_AT_ONCE 64 /* whose values fit into the first */
#define SIZE_MAX_OF_HEAD 512
#define GROUP 32 /* values under one scale */

typedef struct {
  int64_t heads, kv_heads, window; /* window 0: all positions */
  int turns, is_coded;  /* coded: keys and values are 8-bit codes and scales */
  float scale, softcap; /* softcap 0: none */
} Attention;

/* What a session keeps of its positions; of each pair, what the operator does not use is NULL. */
typedef struct { float *values, *scales; int8_t *codes; } Kept;

typedef struct {
  const Attention *attention;
  const float *qkv, *cosine, *sine, *sinks;
  Kept keys, values;
  float *output;
  int64_t rows, first, capacity, size; /* position of the first row; positions of the cache; values of a head */
  int64_t groups;                      /* scales of a head at a position */
  int wraps;                           /* the cache is shorter than the session */
  float *queries;                      /* [rows][heads][size], turned */
  int64_t tiles;                       /* runs of heads that share a KV head and are taken at once */
  int64_t rows_a_part;
} Call;

/* The first position that a row sees. */
static int64_t first_of(const Call *call, int64_t row) {
  const int64_t end = call->first + row + 1, window = call->attention->window;
  return window > 0 && end > window ? end - window : 0;
}

/* Where a position lies in the cache. */
static int64_t place_of(const Call *call, int64_t position) { return call->wraps ? position % call->capacity : position; }

/* ---- portable ---- */

typedef struct { float lane[LANES]; } Lanes;
#define EACH(expression) Lanes r; for (int i = 0; i < LANES; i++) r.lane[i] = (expression); return r
INLINE Lanes lanes_load(const float *x) { EACH(x[i]); }
INLINE void lanes_store(float *x, Lanes a) { memcpy(x, a.lane, sizeof a.lane); }
INLINE Lanes lanes_set(float x) { EACH(x); }
INLINE Lanes lanes_fma(Lanes a, Lanes b, Lanes c) { EACH(fmaf(a.lane[i], b.lane[i], c.lane[i])); }
INLINE Lanes lanes_mul(Lanes a, Lanes b) { EACH(a.lane[i] * b.lane[i]); }
INLINE Lanes lanes_add(Lanes a, Lanes b) { EACH(a.lane[i] + b.lane[i]); }
INLINE Lanes lanes_sub(Lanes a, Lanes b) { EACH(a.lane[i] - b.lane[i]); }
INLINE Lanes lanes_div(Lanes a, Lanes b) { EACH(a.lane[i] / b.lane[i]); }
INLINE Lanes lanes_max(Lanes a, Lanes b) { EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
INLINE Lanes lanes_bytes(const int8_t *x) { EACH((float)x[i]); }
INLINE Lanes lanes_absolute(Lanes a) { EACH(fabsf(a.lane[i])); }
INLINE Lanes lanes_sign_of(Lanes a, Lanes b) { EACH(copysignf(a.lane[i], b.lane[i])); }
/* a times 2 to the power of the whole number in the last bits of `shifted`. */
INLINE Lanes lanes_times_power(Lanes a, Lanes shifted) {
  uint32_t value[LANES], power[LANES];
  memcpy(value, a.lane, sizeof value), memcpy(power, shifted.lane, sizeof power);
  for (int i = 0; i < LANES; i++) value[i] += power[i] << 23;
  memcpy(a.lane, value, sizeof value);
  return a;
}
#define V Lanes
#define LOAD lanes_load
#define BYTES lanes_bytes
#define STORE lanes_store
#define SET lanes_set
#define FMA lanes_fma
#define MUL lanes_mul
#define ADD lanes_add
#define SUB lanes_sub
#define DIV lanes_div
#define MAX lanes_max
#define ABSOLUTE lanes_absolute
#define SIGN_OF lanes_sign_of
#define TIMES_POWER lanes_times_power
#define TARGET
#define VARIANT(name) portable_##name
#include "attention-rows.h"

#if defined(__x86_64__)
/* ---- AVX2: two halves ---- */
typedef struct { __m256 a, b; } Pair;
#define AVX2 __attribute__((target("avx2,fma")))
INLINE AVX2 Pair pair_load(const float *x) { return (Pair){_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
INLINE AVX2 void pair_store(float *x, Pair p) { _mm256_storeu_ps(x, p.a), _mm256_storeu_ps(x + 8, p.b); }
INLINE AVX2 Pair pair_set(float x) { return (Pair){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE AVX2 Pair pair_fma(Pair x, Pair y, Pair z) { return (Pair){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
INLINE AVX2 Pair pair_mul(Pair x, Pair y) { return (Pair){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
INLINE AVX2 Pair pair_add(Pair x, Pair y) { return (Pair){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
INLINE AVX2 Pair pair_sub(Pair x, Pair y) { return (Pair){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
INLINE AVX2 Pair pair_div(Pair x, Pair y) { return (Pair){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
INLINE AVX2 Pair pair_max(Pair x, Pair y) { return (Pair){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
INLINE AVX2 __m256 half_bytes(const int8_t *x) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)x)));
}
INLINE AVX2 Pair pair_bytes(const int8_t *x) { return (Pair){half_bytes(x), half_bytes(x + 8)}; }
INLINE AVX2 Pair pair_absolute(Pair x) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return (Pair){_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
INLINE AVX2 Pair pair_sign_of(Pair x, Pair y) { /* x is not negative */
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return (Pair){_mm256_or_ps(x.a, _mm256_and_ps(sign, y.a)), _mm256_or_ps(x.b, _mm256_and_ps(sign, y.b))};
}
INLINE AVX2 __m256 half_power(__m256 x, __m256 shifted) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}
INLINE AVX2 Pair pair_times_power(Pair x, Pair shifted) { return (Pair){half_power(x.a, shifted.a), half_power(x.b, shifted.b)}; }
#define V Pair
#define LOAD pair_load
#define BYTES pair_bytes
#define STORE pair_store
#define SET pair_set
#define FMA pair_fma
#define MUL pair_mul
#define ADD pair_add
#define SUB pair_sub
#define DIV pair_div
#define MAX pair_max
#define ABSOLUTE pair_absolute
#define SIGN_OF pair_sign_of
#define TIMES_POWER pair_times_power
#define TARGET AVX2
#define VARIANT(name) avx2_##name
#include "attention-rows.h"

/* ---- AVX-512 ---- */
#define AVX512 __attribute__((target("avx512f,avx512dq")))
INLINE AVX512 __m512 wide_times_power(__m512 x, __m512 shifted) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}
INLINE AVX512 __m512 wide_bytes(const int8_t *x) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)x)));
}
INLINE AVX512 __m512 wide_sign_of(__m512 x, __m512 y) { return _mm512_or_ps(x, _mm512_and_ps(_mm512_set1_ps(-0.0f), y)); }
#define V __m512
#define LOAD _mm512_loadu_ps
#define BYTES wide_bytes
#define STORE _mm512_storeu_ps
#define SET _mm512_set1_ps
#define FMA _mm512_fmadd_ps
#define MUL _mm512_mul_ps
#define ADD _mm512_add_ps
#define SUB _mm512_sub_ps
#define DIV _mm512_div_ps
#define MAX _mm512_max_ps
#define ABSOLUTE _mm512_abs_ps
#define SIGN_OF wide_sign_of
#define TIMES_POWER wide_times_power
#define TARGET AVX512
#define VARIANT(name) avx512_##name
#include "attention-rows.h"
#endif

typedef void (*Attend)(const Call *call, int64_t kv_head, int64_t row, int row_count, int64_t head, int heads, float *scores, float *room);

static Attend choose(void) {
  const char *wanted = getenv("TESSELLATE_PRODUCTS");
  (void)wanted;
#if defined(__x86_64__)
  const int any = wanted == NULL || strcmp(wanted, "amx") == 0;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && (any || strcmp(wanted, "avx512") == 0))
    return avx512_attend;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && (any || strcmp(wanted, "avx2") == 0))
    return avx2_attend;
#endif
  return portable_attend;
}

static Attend attend_rows;

/* ---- the rows that come in: turned, keys and values put into the cache ---- */

static void turn(const Call *call, const float *from, int64_t position, float *to) {
  const int64_t half = call->size / 2;
  if (!call->attention->turns) {
    memcpy(to, from, (size_t)call->size * sizeof *to);
    return;
  }
  const float *cosine = call->cosine + position * half, *sine = call->sine + position * half;
  for (int64_t i = 0; i < half; i++) {
    to[i] = from[i] * cosine[i] - from[half + i] * sine[i];
    to[half + i] = from[half + i] * cosine[i] + from[i] * sine[i];
  }
}

/* Codes of values that share a scale, `stride` apart; gives the scale. What is not finite becomes NaN. */
static float encode(const float *from, int64_t count, int8_t *to, int64_t stride) {
  float largest = 0;
  int is_finite = 1;
  for (int64_t i = 0; i < count; i++) {
    const float size = fabsf(from[i]);
    is_finite &= size <= FLT_MAX;
    largest = size > largest ? size : largest;
  }
  const float scale = largest / 127.0f;
  for (int64_t i = 0; i < count; i++) {
    const float code = is_finite && scale > 0 ? rintf(from[i] / scale) : 0;
    to[i * stride] = (int8_t)(code > 127 ? 127 : code < -127 ? -127 : code);
  }
  return is_finite ? scale : NAN;
}

/* Writes one head of a position into the cache: its first number `lane` after the start of position `block`, each
   `stride` from the one before, and its scales likewise. */
static void put(const Call *call, Kept kept, int64_t kv_head, const float *from, int64_t block, int64_t stride, int64_t lane) {
  const int64_t size = call->size, base = kv_head * call->capacity;
  if (!call->attention->is_coded) {
    float *to = kept.values + (base + block) * size + lane;
    for (int64_t d = 0; d < size; d++) to[d * stride] = from[d];
    return;
  }
  int8_t *codes = kept.codes + (base + block) * size + lane;
  float *scales = kept.scales + (base + block) * call->groups + lane;
  for (int64_t group = 0, d = 0; d < size; group++, d += GROUP)
    scales[group * stride] = encode(from + d, MIN_OF(GROUP, size - d), codes + d * stride, stride);
}

static void keep_head(const Call *call, int64_t kv_head) {
  const Attention *a = call->attention;
  const int64_t size = call->size, width = (a->heads + 2 * a->kv_heads) * size;
  float turned[SIZE_MAX_OF_HEAD];
  const int64_t group = a->heads / a->kv_heads;
  for (int64_t row = 0; row < call->rows; row++) {
    const int64_t position = call->first + row, place = place_of(call, position), block = place / LANES * LANES;
    const float *qkv = call->qkv + row * width, *key = qkv + (a->heads + kv_head) * size;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
      turn(call, qkv + head * size, position, call->queries + (row * a->heads + head) * size);
    turn(call, key, position, turned);
    put(call, call->keys, kv_head, turned, block, MIN_OF(LANES, call->capacity - block), place - block);
    put(call, call->values, kv_head, key + a->kv_heads * size, place, 1, 0);
  }
}

static void keep_heads(void *of, int64_t start, int64_t end) {
  for (int64_t kv_head = start; kv_head < end; kv_head++) keep_head(of, kv_head);
}

static float *scratch(size_t count) {
  static _Thread_local float *space;
  static _Thread_local size_t space_count;
  if (space_count < count) {
    free(space);
    space = malloc(count * sizeof *space), space_count = space ? count : 0;
  }
  return space;
}

static void attend(const Call *call, int64_t part) {
  const Attention *a = call->attention;
  const int64_t group = a->heads / a->kv_heads, head = part % call->tiles * HEADS_AT_ONCE;
  const int64_t kv_head = part / call->tiles % a->kv_heads, row = part / call->tiles / a->kv_heads * call->rows_a_part;
  const int rows = (int)MIN_OF(call->rows_a_part, call->rows - row);
  const int64_t room = a->is_coded ? POSITIONS_AT_ONCE * call->size : 0;
  const int64_t span = call->first + row + rows - first_of(call, row);
  float *scores = scratch((size_t)(room + rows * HEADS_AT_ONCE * (span + 2 * LANES)));
  if (scores == NULL) abort();
  attend_rows(call, kv_head, row, rows, kv_head * group + head, (int)MIN_OF(HEADS_AT_ONCE, group - head), scores + room, scores);
}

/* Of a single row whoever takes a KV head keeps it too. */
static int keeps_as_it_goes(const Call *call) { return call->rows == 1 && call->tiles == 1; }

static void attend_parts(void *of, int64_t start, int64_t end) {
  const Call *call = of;
  for (int64_t part = start; part < end; part++) {
    if (keeps_as_it_goes(call)) keep_head(call, part);
    attend(call, part);
  }
}

/* ---- the operator ---- */

enum {
  QKV, SEPARATE_KEYS, SEPARATE_VALUES, PAST_KEYS, PAST_VALUES, LAST_POSITION, POSITION_COUNT, COSINE, SINE, POSITIONS, MASK,
  SINKS, INPUT_COUNT, PAST_KEY_SCALES = INPUT_COUNT, PAST_VALUE_SCALES, CODED_INPUT_COUNT
};
enum { OUT_ROWS, OUT_KEYS, OUT_VALUES, OUTPUT_COUNT, OUT_KEY_SCALES = OUTPUT_COUNT, OUT_VALUE_SCALES, CODED_OUTPUT_COUNT };

static int64_t integer_of(Pointer info, const char *name, int64_t absent) {
  int64_t value = absent;
  Pointer status = CALL(KERNEL_INTEGER, Pointer, Pointer, const char *, int64_t *)(info, name, &value);
  if (status == NULL) return value;
  CALL(RELEASE_STATUS, void, Pointer)(status);
  return absent;
}

static float float_of(Pointer info, const char *name) {
  float value = 0;
  Pointer status = CALL(KERNEL_FLOAT, Pointer, Pointer, const char *, float *)(info, name, &value);
  if (status == NULL) return value;
  CALL(RELEASE_STATUS, void, Pointer)(status);
  return 0;
}

static int is_coded(Pointer op);

static Pointer create(const Pointer *op, const Pointer *unused, Pointer info, Pointer *kernel) {
  (void)unused;
  Attention *a = calloc(1, sizeof *a);
  if (a == NULL) return failure("out of memory");
  const int64_t window = integer_of(info, "local_window_size", -1);
  a->heads = integer_of(info, "num_heads", 0), a->kv_heads = integer_of(info, "kv_num_heads", 0);
  a->turns = integer_of(info, "do_rotary", 0) != 0;
  a->window = window < 0 ? 0 : window;
  a->is_coded = is_coded((Pointer)op);
  a->scale = float_of(info, "scale"), a->softcap = float_of(info, "softcap");
  *kernel = a;
  if (a->kv_heads > 0 && a->heads % a->kv_heads == 0 && integer_of(info, "rotary_interleaved", 0) == 0) return NULL;
  free(a);
  return failure("attention needs heads that share KV heads evenly, and halves that turn with each other");
}

static void destroy(Pointer kernel) { free(kernel); }

static void *input(Pointer context, size_t index, int64_t *dims, size_t axis_count) {
  Pointer value = NULL, data = NULL, shape = NULL;
  size_t axes = 0;
  if (CALL(KERNEL_INPUT, Pointer, Pointer, size_t, Pointer *)(context, index, &value) || value == NULL) return NULL;
  if (dims) {
    CALL(TENSOR_SHAPE, Pointer, Pointer, Pointer *)(value, &shape);
    CALL(DIMENSION_COUNT, Pointer, Pointer, size_t *)(shape, &axes);
    if (axes == axis_count) CALL(GET_DIMENSIONS, Pointer, Pointer, int64_t *, size_t)(shape, dims, axes);
    CALL(RELEASE_SHAPE, void, Pointer)(shape);
    if (axes != axis_count) return NULL;
  }
  CALL(TENSOR_DATA, Pointer, Pointer, Pointer *)(value, &data);
  return data;
}

static void *output(Pointer context, size_t index, const int64_t *dims, size_t axes) {
  Pointer value = NULL, data = NULL;
  if (CALL(KERNEL_OUTPUT, Pointer, Pointer, size_t, const int64_t *, size_t, Pointer *)(context, index, dims, axes, &value)) return NULL;
  if (value) CALL(TENSOR_DATA, Pointer, Pointer, Pointer *)(value, &data);
  return data;
}

enum { ROWS_WORTH_SHARING = 16 };

/* What comes in and goes out of one part of the cache is the same memory, or else what comes in is copied. */
static void *kept(Pointer context, size_t in, size_t out, const int64_t *dims, size_t bytes) {
  const void *past = input(context, in, NULL, 0);
  void *present = output(context, out, dims, 4);
  if (past == NULL || present == NULL) return NULL;
  if (past != present) memcpy(present, past, (size_t)(dims[1] * dims[2] * dims[3]) * bytes);
  return present;
}

/* The session's cache, of `dims`; false where a part is missing. */
static int open_cache(Pointer context, const int64_t *dims, Call *call) {
  if (!call->attention->is_coded) {
    call->keys.values = kept(context, PAST_KEYS, OUT_KEYS, dims, sizeof(float));
    call->values.values = kept(context, PAST_VALUES, OUT_VALUES, dims, sizeof(float));
    return call->keys.values && call->values.values;
  }
  const int64_t scales[4] = {1, dims[1], dims[2], call->groups};
  int64_t given[2][4] = {{0}};
  if (!input(context, PAST_KEY_SCALES, given[0], 4) || !input(context, PAST_VALUE_SCALES, given[1], 4)) return 0;
  if (memcmp(given[0], scales, sizeof scales) || memcmp(given[1], scales, sizeof scales)) return 0;
  call->keys.codes = kept(context, PAST_KEYS, OUT_KEYS, dims, 1);
  call->values.codes = kept(context, PAST_VALUES, OUT_VALUES, dims, 1);
  call->keys.scales = kept(context, PAST_KEY_SCALES, OUT_KEY_SCALES, scales, sizeof(float));
  call->values.scales = kept(context, PAST_VALUE_SCALES, OUT_VALUE_SCALES, scales, sizeof(float));
  return call->keys.codes && call->values.codes && call->keys.scales && call->values.scales;
}

/* Whether the rows find room: in a cache that is as long as the session, or in a shorter one with all that they see. */
static int has_room(const Call *call, int64_t last) {
  if (last < call->capacity) return 1;
  const int64_t window = call->attention->window;
  return window > 0 && call->capacity % LANES == 0 && window + call->rows - 1 <= call->capacity;
}

static Pointer compute(Pointer kernel, Pointer context) {
  const Attention *a = kernel;
  int64_t rows[3], cache[4], tables[2][2] = {{0}};
  Call call = {.attention = a, .qkv = input(context, QKV, rows, 3)};
  const void *past_keys = input(context, PAST_KEYS, cache, 4);
  const int32_t *last = input(context, LAST_POSITION, NULL, 0);
  call.cosine = input(context, COSINE, tables[0], 2), call.sine = input(context, SINE, tables[1], 2);
  call.sinks = input(context, SINKS, NULL, 0);
  if (!call.qkv || !past_keys || !last) return failure("attention needs packed rows, a cache and a position");
  if (input(context, SEPARATE_KEYS, NULL, 0) || input(context, MASK, NULL, 0) || input(context, POSITIONS, NULL, 0))
    return failure("attention takes packed rows in order and no mask");
  call.rows = rows[1], call.capacity = cache[2], call.size = cache[3], call.first = *last - (rows[1] - 1);
  call.groups = (call.size + GROUP - 1) / GROUP;
  call.wraps = *last >= call.capacity;
  const int64_t turning = MIN_OF(tables[0][0], tables[1][0]);
  if (rows[0] != 1 || cache[0] != 1 || cache[1] != a->kv_heads || call.size % LANES != 0 || call.size > SIZE_MAX_OF_HEAD ||
      rows[2] != (a->heads + 2 * a->kv_heads) * call.size || call.first < 0 || !has_room(&call, *last) ||
      (a->turns && (!call.cosine || !call.sine || *last >= turning)))
    return failure("attention's rows, cache and position do not fit each other");
  const int64_t dims[3] = {1, call.rows, a->heads * call.size};
  call.output = output(context, OUT_ROWS, dims, 3);
  if (!call.output || !open_cache(context, cache, &call)) return failure("attention needs memory for what it gives");
  static _Thread_local float *queries;
  static _Thread_local int64_t query_count;
  if (query_count < call.rows * dims[2]) {
    free(queries);
    queries = malloc((size_t)(call.rows * dims[2]) * sizeof *queries), query_count = queries ? call.rows * dims[2] : 0;
    if (!queries) return failure("out of memory for queries");
  }
  call.queries = queries;
  Attention scaled = *a;
  if (scaled.scale == 0) scaled.scale = 1.0f / sqrtf((float)call.size);
  call.attention = &scaled;
  call.tiles = (a->heads / a->kv_heads + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE;
  call.rows_a_part = call.rows >= ROWS_WORTH_SHARING ? ROWS_AT_ONCE : 1;
  const int64_t row_parts = (call.rows + call.rows_a_part - 1) / call.rows_a_part;
  if (!keeps_as_it_goes(&call))
    parallel(context, keep_heads, &call, a->kv_heads, call.rows >= ROWS_WORTH_SHARING ? 1 : a->kv_heads, call.rows);
  parallel(context, attend_parts, &call, row_parts * a->kv_heads * call.tiles, 1, call.rows);
  return NULL;
}

static const char *name_of(const Pointer op) { return is_coded(op) ? "Int8Attention" : "GroupQueryAttention"; }
static int input_type(const Pointer op, size_t i) {
  if (i == LAST_POSITION || i == POSITION_COUNT) return INT32;
  if (i == PAST_KEYS || i == PAST_VALUES) return is_coded(op) ? INT8 : FLOAT;
  return i == POSITIONS ? INT64 : FLOAT;
}
static size_t input_count(const Pointer op) { return is_coded(op) ? CODED_INPUT_COUNT : INPUT_COUNT; }
static int output_type(const Pointer op, size_t i) { return is_coded(op) && (i == OUT_KEYS || i == OUT_VALUES) ? INT8 : FLOAT; }
static size_t output_count(const Pointer op) { return is_coded(op) ? CODED_OUTPUT_COUNT : OUTPUT_COUNT; }
static int input_need(const Pointer op, size_t i) { return (void)op, i == QKV ? REQUIRED : OPTIONAL; }
static int output_need(const Pointer op, size_t i) { return (void)op, (void)i, REQUIRED; }

#define OPERATOR                                                                                                              \
  OPERATOR_TABLE(name_of, any_provider, input_type, input_count, output_type, output_count, NULL, destroy, input_need,        \
                 output_need, plain_memory, one_version, one_version, one_version, one_version, create, compute)
static OperatorTable operator_table = OPERATOR, coded_table = OPERATOR;

static int is_coded(Pointer op) { return op == (Pointer)&coded_table; }

/* For RegisterCustomOps of products.c. */
void *tessellate_attention_operator(const Pointer *table) {
  api = table;
  attend_rows = choose();
  return &operator_table;
}
void *tessellate_int8_attention_operator(void) { return &coded_table; }
