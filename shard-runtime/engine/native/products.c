/*
 * Matrix products with 4- and 8-bit weights, as a custom operator of ONNX Runtime that takes the place of its own
 * com.microsoft.MatMulNBits: the same graphs, other arithmetic. Why not theirs: it waits for memory where the processor
 * does not prefetch by itself (half the speed that memory allows), and its sums depend on how many rows come together.
 *
 * What an output IS, whatever the processor, the number of rows and of threads. A row of activations is quantised in the
 * weights' blocks: s = max|x| / 127, q = x × (127 / max|x|) rounded to the nearest even integer. Then, block by block,
 *     d = sum of (w − zero) × q, an exact integer;    out = fma(float(d), s × scale, out)
 * in single precision. Every variant below does this and nothing else, so all give the same bits.
 *
 * How weights lie in memory: products.h.
 */
#define _GNU_SOURCE
#include "operator.h"
#include "products.h"
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#define ROWS_AT_ONCE 8   /* whose sums fit into registers */
#define PREFETCH 4096    /* bytes ahead; 2 to 8 KB were alike */

typedef struct {
  const Product *product;
  const float *input; /* [rows][inputs] */
  float *output;      /* [rows][outputs] */
  int64_t row_count;
  int8_t *values;    /* [rows][width_of], the last block filled up with zeros */
  float *row_scales; /* [rows][block_count] */
  int32_t *row_sums;
} Call;

/* Of a row of quantised values. A line more than a power of two: 16 rows must not all fall into the same set of a cache. */
static int64_t width_of(const Product *p) { return (p->block_count * p->block + LINE - 1) / LINE * LINE + LINE; }

/* ---- quantising a row ---- */

/* Written so that a compiler makes vectors of it; each variant has its own copy. */
INLINE void quantise(Call *call, int64_t row) {
  const Product *p = call->product;
  for (int64_t b = 0; b < p->block_count; b++) {
    const float *x = call->input + row * p->inputs + b * p->block;
    int8_t *q = call->values + row * width_of(p) + b * p->block;
    const int64_t length = MIN_OF(p->block, p->inputs - b * p->block);
    /* Without their sign, floats are in the order of their bits. */
    int32_t bits, largest_bits = 0, sum = 0;
    for (int64_t i = 0; i < length; i++) {
      memcpy(&bits, x + i, 4);
      bits &= 0x7fffffff;
      largest_bits = bits > largest_bits ? bits : largest_bits;
    }
    float largest;
    memcpy(&largest, &largest_bits, 4);
    const float inverse = largest > 0 ? 127.0f / largest : 0;
    for (int64_t i = 0; i < length; i++) {
      /* Adding and taking away 1.5 * 2^23 rounds to the nearest even integer, as every rounding here does. */
      const int32_t rounded = (int32_t)(x[i] * inverse + 12582912.0f - 12582912.0f);
      q[i] = (int8_t)rounded;
      sum += rounded;
    }
    memset(q + length, 0, (size_t)(p->block - length)); /* of the block; what is beyond it is not read */
    call->row_scales[row * p->block_count + b] = largest / 127.0f;
    call->row_sums[row * p->block_count + b] = sum;
  }
}

static void portable_quantise(Call *call, int64_t row) { quantise(call, row); }

/* ---- one group of columns for some rows: the portable way, which says what the others do ---- */

static void portable_tile(const Call *call, int64_t group, int64_t row, int row_count, float out[][GROUP]) {
  const Product *p = call->product;
  for (int r = 0; r < row_count; r++) {
    const int8_t *q = call->values + (row + r) * width_of(p);
    const uint8_t *line = p->weights + group * p->block_count * line_count(p) * LINE;
    for (int c = 0; c < GROUP; c++) out[r][c] = 0;
    for (int64_t b = 0; b < p->block_count; b++) {
      const int64_t at = (row + r) * p->block_count + b, place = (group * p->block_count + b) * GROUP;
      int32_t sums[GROUP] = {0};
      for (int64_t i = 0; i < line_count(p); i++, line += LINE) {
        for (int c = 0; c < GROUP; c++)
          for (int t = 0; t < 4; t++) {
            const int w = line[4 * c + t];
            if (p->bits == 8) sums[c] += w * q[4 * i + t];
            else sums[c] += (w & 15) * q[8 * i + t] + (w >> 4) * q[8 * i + 4 + t];
          }
      }
      q += p->block;
      for (int c = 0; c < GROUP; c++) {
        const int32_t zero = p->zeros ? p->zeros[place + c] : p->bits == 8 ? 128 : 8;
        const float scale = p->scales[place + c] * call->row_scales[at];
        out[r][c] = fmaf((float)(sums[c] - zero * call->row_sums[at]), scale, out[r][c]);
      }
    }
  }
}

static void store_rows(const Call *call, int64_t group, int64_t row, int row_count, float out[][GROUP]) {
  const Product *p = call->product;
  const int64_t column = group * GROUP, count = MIN_OF(GROUP, p->outputs - column);
  for (int r = 0; r < row_count; r++)
    memcpy(call->output + (row + r) * p->outputs + column, out[r], (size_t)count * sizeof(float));
}

static void portable_groups(const Call *call, int64_t start, int64_t end) {
  float out[ROWS_AT_ONCE][GROUP];
  for (int64_t group = start; group < end; group++)
    for (int64_t row = 0; row < call->row_count; row += ROWS_AT_ONCE) {
      const int count = (int)MIN_OF(ROWS_AT_ONCE, call->row_count - row);
      portable_tile(call, group, row, count, out);
      store_rows(call, group, row, count, out);
    }
}

#if defined(__x86_64__)
/* ---- AVX-512 with VNNI ---- */

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))

INLINE AVX512 __m512i zero_times(const Product *p, int64_t place, int32_t sum) {
  if (p->zeros == NULL) return _mm512_set1_epi32((p->bits == 8 ? 128 : 8) * sum);
  const __m512i zeros = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)(p->zeros + place)));
  return _mm512_mullo_epi32(zeros, _mm512_set1_epi32(sum));
}

INLINE AVX512 __m512 add_block(const Call *call, __m512i sum, int64_t place, int64_t at, __m512 out) {
  const Product *p = call->product;
  const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(p->scales + place), _mm512_set1_ps(call->row_scales[at]));
  sum = _mm512_sub_epi32(sum, zero_times(p, place, call->row_sums[at]));
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, out);
}

INLINE AVX512 __m512i four_values(const int8_t *q) {
  int32_t word;
  memcpy(&word, q, 4);
  return _mm512_set1_epi32(word);
}

/* `rows`, `bits` and `ahead` are constants where this is called, so each call is a loop of its own. */
INLINE AVX512 void avx512_rows(const Call *call, int64_t group, int64_t row, const int rows, const int bits, const int ahead) {
  const Product *p = call->product;
  const __m512i low = _mm512_set1_epi8(15);
  const int64_t lines = line_count(p), width = width_of(p);
  const uint8_t *line = p->weights + group * p->block_count * lines * LINE;
  const int8_t *q = call->values + row * width;
  __m512 out[ROWS_AT_ONCE];
  for (int r = 0; r < rows; r++) out[r] = _mm512_setzero_ps();
  for (int64_t b = 0; b < p->block_count; b++) {
    __m512i first[ROWS_AT_ONCE], second[ROWS_AT_ONCE];
    for (int r = 0; r < rows; r++) first[r] = second[r] = _mm512_setzero_si512();
    for (int64_t i = 0; i < lines; i++, line += LINE, q += bits == 8 ? 4 : 8) {
      const __m512i w = _mm512_load_si512((const void *)line);
      if (ahead) _mm_prefetch((const char *)line + PREFETCH, _MM_HINT_T0);
      if (bits == 8) {
        for (int r = 0; r < rows; r++) first[r] = _mm512_dpbusd_epi32(first[r], w, four_values(q + r * width));
        continue;
      }
      const __m512i a = _mm512_and_si512(w, low), c = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
      for (int r = 0; r < rows; r++) {
        first[r] = _mm512_dpbusd_epi32(first[r], a, four_values(q + r * width));
        second[r] = _mm512_dpbusd_epi32(second[r], c, four_values(q + r * width + 4));
      }
    }
    for (int r = 0; r < rows; r++) {
      const int64_t at = (row + r) * p->block_count + b, place = (group * p->block_count + b) * GROUP;
      out[r] = add_block(call, _mm512_add_epi32(first[r], second[r]), place, at, out[r]);
    }
  }
  const int64_t column = group * GROUP;
  const __mmask16 mask = (__mmask16)(0xffff >> (GROUP - MIN_OF(GROUP, p->outputs - column)));
  for (int r = 0; r < rows; r++)
    _mm512_mask_storeu_ps(call->output + (row + r) * p->outputs + column, mask, out[r]);
}

/* Only the first rows of a group find its weights in memory; the next ones find them in the cache. */
INLINE AVX512 void avx512_from(const Call *call, int64_t group, int64_t row, const int bits) {
  const int64_t end = call->row_count;
  for (; row + 8 <= end; row += 8) {
    if (row == 0) avx512_rows(call, group, row, 8, bits, 1);
    else avx512_rows(call, group, row, 8, bits, 0);
  }
  if (row + 4 <= end) avx512_rows(call, group, row, 4, bits, 1), row += 4;
  if (row + 2 <= end) avx512_rows(call, group, row, 2, bits, 1), row += 2;
  if (row < end) avx512_rows(call, group, row, 1, bits, 1);
}

AVX512 static void avx512_quantise(Call *call, int64_t row) { quantise(call, row); }

AVX512 static void avx512_groups(const Call *call, int64_t start, int64_t end) {
  for (int64_t group = start; group < end; group++) {
    if (call->product->bits == 8) avx512_from(call, group, 0, 8);
    else avx512_from(call, group, 0, 4);
  }
}

/* ---- AMX, for prompts: 16 rows by 16 columns at a time; what is left over goes the way above ---- */

#if defined(__linux__) && __GNUC__ >= 11
#define HAS_AMX
#define AMX __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,amx-tile,amx-int8")))
#define TILE 16        /* rows, and columns */
#define TILE_VALUES 64 /* inputs */
/* The tiles' registers; the compiler's header makes names of them. Sums of two tiles of rows by two groups of columns. */
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define ROWS_0 4
#define ROWS_1 5
#define WEIGHTS_0 6
#define WEIGHTS_1 7

/* Every tile has 16 rows of 64 bytes. GCC 12's _tile_loadconfig tells its optimiser of 8 bytes only. */
INLINE AMX void configure_tiles(void) {
  struct { uint8_t palette, start, unused[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {.palette = 1};
  for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = TILE;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
}

enum { GROUPS_AT_ONCE = 2 };

static _Thread_local uint8_t *unpacked_space;
static _Thread_local int64_t unpacked_size;

static int has_unpacked_space(int64_t size) {
  if (unpacked_size >= size) return 1;
  free(unpacked_space);
  unpacked_space = NULL, unpacked_size = 0;
  void *memory = NULL;
  if (posix_memalign(&memory, LINE, (size_t)size) != 0) return 0;
  unpacked_space = memory, unpacked_size = size;
  return 1;
}

/* One byte for each weight of a group; 8-bit weights lie so already. */
INLINE AMX const uint8_t *unpacked(const Product *p, int64_t group, int index) {
  const int64_t count = p->block_count * line_count(p);
  const uint8_t *line = p->weights + group * count * LINE;
  if (p->bits == 8) return line;
  uint8_t *space = unpacked_space + index * count * 2 * LINE;
  const __m512i low = _mm512_set1_epi8(15);
  for (int64_t i = 0; i < count; i++) {
    const __m512i w = _mm512_load_si512((const void *)(line + i * LINE));
    _mm_prefetch((const char *)line + i * LINE + PREFETCH, _MM_HINT_T0);
    _mm512_store_si512((void *)(space + i * 2 * LINE), _mm512_and_si512(w, low));
    _mm512_store_si512((void *)(space + i * 2 * LINE + LINE), _mm512_and_si512(_mm512_srli_epi16(w, 4), low));
  }
  return space;
}

typedef struct {
  int32_t sums[GROUPS_AT_ONCE][2 * TILE][GROUP] __attribute__((aligned(64)));
  float out[GROUPS_AT_ONCE][2 * TILE][GROUP] __attribute__((aligned(64)));
} TileSpace;

/* The integer sums of one block: `tiles` tiles of rows, `groups` groups of columns, 1 or 2 of each, constants. */
INLINE AMX void amx_block(TileSpace *space, const int8_t *q, int64_t width, const uint8_t *weights[], int64_t block,
                          const int tiles, const int groups) {
  _tile_zero(SUMS_00);
  _tile_zero(SUMS_01);
  _tile_zero(SUMS_10);
  _tile_zero(SUMS_11);
  for (int64_t i = 0; i < block; i += TILE_VALUES) {
    _tile_loadd(ROWS_0, q + i, width);
    _tile_loadd(WEIGHTS_0, weights[0] + i * GROUP, LINE);
    _tile_dpbsud(SUMS_00, ROWS_0, WEIGHTS_0);
    if (groups == 2) {
      _tile_loadd(WEIGHTS_1, weights[1] + i * GROUP, LINE);
      _tile_dpbsud(SUMS_01, ROWS_0, WEIGHTS_1);
    }
    if (tiles == 2) {
      _tile_loadd(ROWS_1, q + i + TILE * width, width);
      _tile_dpbsud(SUMS_10, ROWS_1, WEIGHTS_0);
      if (groups == 2) _tile_dpbsud(SUMS_11, ROWS_1, WEIGHTS_1);
    }
  }
  _tile_stored(SUMS_00, space->sums[0], LINE);
  if (groups == 2) _tile_stored(SUMS_01, space->sums[1], LINE);
  if (tiles == 2) _tile_stored(SUMS_10, space->sums[0] + TILE, LINE);
  if (tiles == 2 && groups == 2) _tile_stored(SUMS_11, space->sums[1] + TILE, LINE);
}

INLINE AMX void amx_rows(const Call *call, int64_t group, int64_t row, const uint8_t *unpacked_weights[], const int tiles,
                         const int groups) {
  const Product *p = call->product;
  const int64_t width = width_of(p);
  const uint8_t *weights[GROUPS_AT_ONCE] = {unpacked_weights[0], unpacked_weights[groups - 1]};
  TileSpace space;
  for (int g = 0; g < groups; g++)
    for (int r = 0; r < tiles * TILE; r++) _mm512_store_ps(space.out[g][r], _mm512_setzero_ps());
  for (int64_t b = 0; b < p->block_count; b++) {
    amx_block(&space, call->values + row * width + b * p->block, width, weights, p->block, tiles, groups);
    for (int g = 0; g < groups; g++) {
      weights[g] += p->block * GROUP;
      const int64_t place = ((group + g) * p->block_count + b) * GROUP;
      for (int r = 0; r < tiles * TILE; r++) {
        const __m512i sum = _mm512_load_si512((const void *)space.sums[g][r]);
        const int64_t at = (row + r) * p->block_count + b;
        _mm512_store_ps(space.out[g][r], add_block(call, sum, place, at, _mm512_load_ps(space.out[g][r])));
      }
    }
  }
  for (int g = 0; g < groups; g++) {
    const int64_t column = (group + g) * GROUP;
    const __mmask16 mask = (__mmask16)(0xffff >> (GROUP - MIN_OF(GROUP, p->outputs - column)));
    for (int r = 0; r < tiles * TILE; r++)
      _mm512_mask_storeu_ps(call->output + (row + r) * p->outputs + column, mask, _mm512_load_ps(space.out[g][r]));
  }
}

/* All whole tiles of rows of `groups` groups; the first row that is left. */
INLINE AMX int64_t amx_tiles(const Call *call, int64_t group, const int groups) {
  const uint8_t *weights[GROUPS_AT_ONCE];
  for (int g = 0; g < groups; g++) weights[g] = unpacked(call->product, group + g, g);
  int64_t row = 0;
  for (; row + 2 * TILE <= call->row_count; row += 2 * TILE) amx_rows(call, group, row, weights, 2, groups);
  if (row + TILE <= call->row_count) amx_rows(call, group, row, weights, 1, groups), row += TILE;
  return row;
}

AMX static void amx_groups(const Call *call, int64_t start, int64_t end) {
  const Product *p = call->product;
  int64_t row = 0;
  const int64_t unpacked_bytes = GROUPS_AT_ONCE * p->block_count * p->block * GROUP;
  if (call->row_count >= TILE && p->block % TILE_VALUES == 0 && has_unpacked_space(unpacked_bytes)) {
    configure_tiles();
    int64_t group = start;
    for (; group + 2 <= end; group += 2) row = amx_tiles(call, group, 2);
    if (group < end) row = amx_tiles(call, group, 1);
    _tile_release();
  }
  if (row == call->row_count) return;
  for (int64_t group = start; group < end; group++) {
    if (p->bits == 8) avx512_from(call, group, row, 8);
    else avx512_from(call, group, row, 4);
  }
}

/* The processor has it, and the kernel lets this process use it. */
static int has_amx(void) {
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, LEAF = 7, TILES = 1 << 24, INT8 = 1 << 25 };
  unsigned a, b, c, d;
  if (!__get_cpuid_count(LEAF, 0, &a, &b, &c, &d) || !(d & TILES) || !(d & INT8)) return 0;
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

/* ---- AVX2: 16-bit products, which cannot overflow in pairs ---- */

#define AVX2 __attribute__((target("avx2,fma")))

INLINE AVX2 __m256i four_products(__m256i sum, __m256i w, const int8_t *q) {
  int32_t word;
  memcpy(&word, q, 4);
  const __m256i x = _mm256_set1_epi32(word);
  const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), odd = _mm256_srai_epi16(x, 8);
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_and_si256(w, _mm256_set1_epi16(255)), even));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_srli_epi16(w, 8), odd));
}

AVX2 static void avx2_quantise(Call *call, int64_t row) { quantise(call, row); }

AVX2 static void avx2_row(const Call *call, int64_t group, int64_t row, float *out) {
  const Product *p = call->product;
  const __m256i low = _mm256_set1_epi8(15);
  const uint8_t *line = p->weights + group * p->block_count * line_count(p) * LINE;
  const int8_t *q = call->values + row * width_of(p);
  __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int64_t b = 0; b < p->block_count; b++) {
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int64_t i = 0; i < line_count(p); i++, line += LINE, q += p->bits == 8 ? 4 : 8) {
      _mm_prefetch((const char *)line + PREFETCH, _MM_HINT_T0);
      for (int half = 0; half < 2; half++) {
        const __m256i w = _mm256_load_si256((const void *)(line + 32 * half));
        if (p->bits == 8) sum[half] = four_products(sum[half], w, q);
        else {
          sum[half] = four_products(sum[half], _mm256_and_si256(w, low), q);
          sum[half] = four_products(sum[half], _mm256_and_si256(_mm256_srli_epi16(w, 4), low), q + 4);
        }
      }
    }
    const int64_t at = row * p->block_count + b, place = (group * p->block_count + b) * GROUP;
    for (int half = 0; half < 2; half++) {
      __m256i zeros = _mm256_set1_epi32(p->bits == 8 ? 128 : 8);
      if (p->zeros) zeros = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(p->zeros + place + 8 * half)));
      const __m256i off = _mm256_mullo_epi32(zeros, _mm256_set1_epi32(call->row_sums[at]));
      const __m256 scale = _mm256_mul_ps(_mm256_loadu_ps(p->scales + place + 8 * half), _mm256_set1_ps(call->row_scales[at]));
      total[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum[half], off)), scale, total[half]);
    }
  }
  for (int half = 0; half < 2; half++) _mm256_storeu_ps(out + 8 * half, total[half]);
}

static void avx2_groups(const Call *call, int64_t start, int64_t end) {
  float out[1][GROUP];
  for (int64_t group = start; group < end; group++)
    for (int64_t row = 0; row < call->row_count; row++) {
      avx2_row(call, group, row, out[0]);
      store_rows(call, group, row, 1, out);
    }
}
#endif

/* ---- which of them ---- */

typedef struct {
  const char *name;
  void (*quantise)(Call *call, int64_t row);
  void (*run)(const Call *call, int64_t start, int64_t end); /* all rows, groups [start, end) */
} Variant;

#if defined(__x86_64__)
static int has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif

/* The fastest that this processor has, or the one that the environment names; tests compare them. */
static Variant choose(void) {
  const char *wanted = getenv("TESSELLATE_PRODUCTS");
#if defined(HAS_AMX)
  if (has_avx512() && (wanted == NULL || strcmp(wanted, "amx") == 0) && has_amx())
    return (Variant){"amx", avx512_quantise, amx_groups};
#endif
#if defined(__x86_64__)
  if (has_avx512() && (wanted == NULL || strcmp(wanted, "avx512") == 0)) return (Variant){"avx512", avx512_quantise, avx512_groups};
  if (has_avx2() && (wanted == NULL || strcmp(wanted, "avx2") == 0)) return (Variant){"avx2", avx2_quantise, avx2_groups};
#endif
  (void)wanted;
  return (Variant){"portable", portable_quantise, portable_groups};
}

static Variant variant;

__attribute__((visibility("default"))) const char *tessellate_products_variant(void) { return choose().name; }

/* ---- the operator ---- */

enum { INPUT_ROWS, INPUT_WEIGHTS, INPUT_SCALES, INPUT_ZEROS, INPUT_ORDER, INPUT_BIAS, INPUT_COUNT };

/* Huge pages for what fills several; a model of many small experts would lose more by rounding up than it holds. */
static void *large(size_t size) {
  void *memory = NULL;
  const int huge = size >= 8 * HUGE_PAGE;
  if (posix_memalign(&memory, huge ? HUGE_PAGE : LINE, huge ? (size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE : size) != 0)
    return NULL;
#if defined(__linux__)
  if (huge) madvise(memory, size, MADV_HUGEPAGE);
#endif
  return memory;
}

/* What was copied from is not read again: where it is a mapped file, its pages need not stay in memory. */
static void let_go(const uint8_t *from, size_t size) {
#if defined(__linux__)
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  const uintptr_t start = ((uintptr_t)from + page - 1) / page * page, end = ((uintptr_t)from + size) / page * page;
  if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
#else
  (void)from, (void)size;
#endif
}

static Pointer constant(const Pointer info, size_t index) {
  int is_constant = 0;
  Pointer value = NULL, data = NULL;
  if (CALL(KERNEL_CONSTANT, Pointer, Pointer, size_t, int *, Pointer *)(info, index, &is_constant, &value)) return NULL;
  if (!is_constant || value == NULL || CALL(TENSOR_DATA, Pointer, Pointer, Pointer *)(value, &data)) return NULL;
  return data;
}

/* Tokens run the same products in the same order: what came after this one the last time is fetched while it ends. */
static Product *latest;
static atomic_flag latest_taken = ATOMIC_FLAG_INIT;

static void take_latest(void) { while (atomic_flag_test_and_set_explicit(&latest_taken, memory_order_acquire)); }
static void let_latest_go(void) { atomic_flag_clear_explicit(&latest_taken, memory_order_release); }

static Reading next_after(Product *p) {
  take_latest();
  if (latest) latest->next = (Reading){p->weights, p->block_count * line_count(p) * LINE, p->group_count};
  latest = p;
  const Reading next = p->next;
  let_latest_go();
  return next;
}

static void destroy(Pointer kernel) {
  Product *p = kernel;
  take_latest();
  if (latest == p) latest = NULL;
  let_latest_go();
  free(p->bias), p->bias = NULL;
  if (p->load) {
    give_back(p->load);
    return;
  }
  free(p->weights), free(p->scales), free(p->zeros), free(p);
}

/* Memory of its own for a product that no load has, laid out now. */
static Product *laid_out(const Product *shape, const uint8_t *weights, const float *scales, const uint8_t *zeros) {
  Product *p = calloc(1, sizeof *p);
  if (p == NULL) return NULL;
  *p = *shape;
  const size_t blocks = (size_t)(p->group_count * p->block_count), lines = (size_t)line_count(p) * LINE;
  p->weights = large(blocks * lines);
  p->scales = malloc(blocks * GROUP * sizeof(float));
  p->zeros = zeros ? malloc(blocks * GROUP) : NULL;
  if (!p->weights || !p->scales || (zeros && !p->zeros)) {
    destroy(p);
    return NULL;
  }
  /* Of the last group, columns may be missing. */
  const size_t last = blocks - (size_t)p->block_count;
  memset(p->weights + last * lines, 0, (blocks - last) * lines);
  memset(p->scales + last * GROUP, 0, (blocks - last) * GROUP * sizeof(float));
  lay_out_values(p, 0, p->outputs, weights);
  lay_out_scales(p, 0, p->outputs, scales);
  let_go(weights, (size_t)(p->outputs * p->block_count * p->block * p->bits / 8));
  let_go((const uint8_t *)scales, (size_t)(p->outputs * p->block_count) * sizeof(float));
  if (zeros) {
    memset(p->zeros + last * GROUP, 0, (blocks - last) * GROUP);
    lay_out_zeros(p, 0, p->outputs, zeros);
  }
  return p;
}

/* The product that a load has under the name of the weights. */
static Product *from_load(const Pointer info, const Product *shape, int has_zeros) {
  char name[256];
  size_t size = sizeof name;
  Pointer status = CALL(KERNEL_INPUT_NAME, Pointer, Pointer, size_t, char *, size_t *)(info, INPUT_WEIGHTS, name, &size);
  if (status == NULL) return loaded_product(name, shape, has_zeros);
  CALL(RELEASE_STATUS, void, Pointer)(status);
  return NULL;
}

static Pointer create(const Pointer *op, const Pointer *unused, Pointer info, Pointer *kernel) {
  (void)op, (void)unused;
  int64_t inputs = 0, outputs = 0, bits = 0, block = 0;
  const struct { const char *name; int64_t *value; } wanted[] = {{"K", &inputs}, {"N", &outputs}, {"bits", &bits}, {"block_size", &block}};
  for (int i = 0; i < 4; i++) {
    Pointer status = CALL(KERNEL_INTEGER, Pointer, Pointer, const char *, int64_t *)(info, wanted[i].name, wanted[i].value);
    if (status) return status;
  }
  if ((bits != 4 && bits != 8) || block < 16 || block % 8 != 0 || inputs < 1 || outputs < 1)
    return failure("a product needs 4 or 8 bits and blocks of 16 values or a multiple of 8 above");
  const uint8_t *weights = constant(info, INPUT_WEIGHTS), *zeros = constant(info, INPUT_ZEROS);
  const float *scales = constant(info, INPUT_SCALES);
  if (!weights || !scales) return failure("a product needs constant weights and scales");
  /* A bias that is added after a product comes in here: ONNX Runtime makes one node of the two. */
  const float *bias = constant(info, INPUT_BIAS);
  if (constant(info, INPUT_ORDER)) return failure("a product takes no order");
  const Product shape = {.inputs = inputs, .outputs = outputs, .block = block, .bits = (int)bits,
                         .block_count = (inputs + block - 1) / block, .group_count = (outputs + GROUP - 1) / GROUP};
  Product *p = from_load(info, &shape, zeros != NULL);
  if (p == NULL) p = laid_out(&shape, weights, scales, zeros);
  if (p == NULL) return failure("out of memory for weights");
  if (bias) {
    p->bias = malloc((size_t)outputs * sizeof(float));
    if (p->bias == NULL) {
      destroy(p);
      return failure("out of memory for a bias");
    }
    memcpy(p->bias, bias, (size_t)outputs * sizeof(float));
  }
  *kernel = p;
  return NULL;
}

static void quantise_rows(void *call, int64_t start, int64_t end) {
  for (int64_t row = start; row < end; row++) variant.quantise(call, row);
}

static void add_bias(const Call *call, int64_t group) {
  const Product *p = call->product;
  const int64_t column = group * GROUP, count = MIN_OF(GROUP, p->outputs - column);
  for (int64_t row = 0; row < call->row_count; row++)
    for (int64_t c = column; c < column + count; c++) call->output[row * p->outputs + c] += p->bias[c];
}

static void run_groups(void *of, int64_t start, int64_t end) {
  const Call *call = of;
  variant.run(call, start, end);
  for (int64_t group = start; group < end && call->product->bias; group++) add_bias(call, group);
}

enum { ROWS_WORTH_SHARING = 8, AXIS_COUNT_MAX = 8 };

/* Tiles take two groups at once. */
static int64_t least_groups(const Call *call) { return call->row_count < 16 ? 1 : 2; }

static Pointer compute(Pointer kernel, Pointer context) {
  const Product *p = kernel;
  Pointer in = NULL, out = NULL, shape = NULL;
  Call call = {.product = p, .row_count = 1};
  int64_t dims[AXIS_COUNT_MAX];
  size_t axes = 0;
  CALL(KERNEL_INPUT, Pointer, Pointer, size_t, Pointer *)(context, INPUT_ROWS, &in);
  CALL(TENSOR_DATA, Pointer, Pointer, Pointer *)(in, (Pointer *)&call.input);
  CALL(TENSOR_SHAPE, Pointer, Pointer, Pointer *)(in, &shape);
  CALL(DIMENSION_COUNT, Pointer, Pointer, size_t *)(shape, &axes);
  if (axes >= 1 && axes <= AXIS_COUNT_MAX) CALL(GET_DIMENSIONS, Pointer, Pointer, int64_t *, size_t)(shape, dims, axes);
  CALL(RELEASE_SHAPE, void, Pointer)(shape);
  if (axes < 1 || axes > AXIS_COUNT_MAX || dims[axes - 1] != p->inputs) return failure("a product's rows have another width");
  for (size_t i = 0; i + 1 < axes; i++) call.row_count *= dims[i];
  dims[axes - 1] = p->outputs;
  Pointer status = CALL(KERNEL_OUTPUT, Pointer, Pointer, size_t, const int64_t *, size_t, Pointer *)(context, 0, dims, axes, &out);
  if (status) return status;
  CALL(TENSOR_DATA, Pointer, Pointer, Pointer *)(out, (Pointer *)&call.output);

  const size_t value_bytes = (size_t)(call.row_count * width_of(p) + LINE - 1) / LINE * LINE;
  const size_t fact_bytes = (size_t)(call.row_count * p->block_count) * 4;
  static _Thread_local char *space;
  static _Thread_local size_t space_size;
  if (space_size < value_bytes + 2 * fact_bytes) {
    free(space);
    space_size = 0, space = malloc(value_bytes + 2 * fact_bytes);
    if (space == NULL) return failure("out of memory for activations");
    space_size = value_bytes + 2 * fact_bytes;
  }
  call.values = (int8_t *)space;
  call.row_scales = (float *)(space + value_bytes), call.row_sums = (int32_t *)(space + value_bytes + fact_bytes);
  parallel(context, quantise_rows, &call, call.row_count, ROWS_WORTH_SHARING, call.row_count);
  const Reading next = next_after(kernel);
  crew_expect(next.start, next.group_bytes, next.group_count);
  parallel(context, run_groups, &call, p->group_count, least_groups(&call), call.row_count);
  return NULL;
}

static const char *name_of(const Pointer op) { return (void)op, "MatMulNBits"; }
static int input_type(const Pointer op, size_t i) {
  return (void)op, i == INPUT_WEIGHTS || i == INPUT_ZEROS ? UINT8 : i == INPUT_ORDER ? INT32 : FLOAT;
}
static size_t input_count(const Pointer op) { return (void)op, INPUT_COUNT; }
static int output_type(const Pointer op, size_t i) { return (void)op, (void)i, FLOAT; }
static size_t one(const Pointer op) { return (void)op, 1; }
static int input_need(const Pointer op, size_t i) { return (void)op, i <= INPUT_SCALES ? REQUIRED : OPTIONAL; }
static int output_need(const Pointer op, size_t i) { return (void)op, (void)i, REQUIRED; }

static OperatorTable operator_table =
    OPERATOR_TABLE(name_of, any_provider, input_type, input_count, output_type, one, NULL, destroy, input_need, output_need,
                   plain_memory, one_version, one_version, one_version, one_version, create, compute);

/* attention.c */
void *tessellate_attention_operator(const Pointer *table);
void *tessellate_int8_attention_operator(void);

/* Operators of ONNX Runtime's that ours take the place of, and those that are only ours. */
static Pointer make_domains(Pointer domains[2]) {
  Pointer status = CALL(CREATE_DOMAIN, Pointer, const char *, Pointer *)("com.microsoft", &domains[0]);
  if (status == NULL) status = CALL(CREATE_DOMAIN, Pointer, const char *, Pointer *)("tessellate", &domains[1]);
  if (status == NULL) status = CALL(ADD_TO_DOMAIN, Pointer, Pointer, void *)(domains[0], &operator_table);
  if (status == NULL) status = CALL(ADD_TO_DOMAIN, Pointer, Pointer, void *)(domains[0], tessellate_attention_operator(api));
  if (status == NULL) status = CALL(ADD_TO_DOMAIN, Pointer, Pointer, void *)(domains[1], tessellate_int8_attention_operator());
  return status;
}

__attribute__((visibility("default"))) Pointer RegisterCustomOps(Pointer options, const Pointer *base) {
  static Pointer domains[2];
  static int is_made;
  api = ((const Pointer *(*)(uint32_t))base[0])(20);
  if (!is_made) {
    variant = choose();
    Pointer made[2] = {NULL, NULL}, status = make_domains(made);
    if (status != NULL) return status;
    domains[0] = made[0], domains[1] = made[1], is_made = 1;
  }
  Pointer status = CALL(ADD_DOMAIN, Pointer, Pointer, Pointer)(options, domains[0]);
  return status ? status : CALL(ADD_DOMAIN, Pointer, Pointer, Pointer)(options, domains[1]);
}
