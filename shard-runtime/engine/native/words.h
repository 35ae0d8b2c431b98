/* 16 words of 16 rows, turned: how weights are laid out and how 16 messages are hashed at once. AVX-512 only. */
#ifndef TESSELLATE_WORDS_H
#define TESSELLATE_WORDS_H

#if defined(__x86_64__)
#include <immintrin.h>
#define HAS_WORDS
#define WORDS __attribute__((target("avx512f,avx512bw,avx512vl")))

static inline int has_words(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}

/* Word j of row i becomes word i of row j. */
WORDS static inline __attribute__((always_inline)) void transpose_words(__m512i row[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int h = 0; h < 2; h++) {
      b[i + 2 * h] = _mm512_unpacklo_epi64(a[i + h], a[i + h + 2]);
      b[i + 2 * h + 1] = _mm512_unpackhi_epi64(a[i + h], a[i + h + 2]);
    }
  /* b[4q + k] has, in quarter t, words 4t + k of rows 4q to 4q + 3. */
  for (int k = 0; k < 4; k++) {
    const __m512i low_01 = _mm512_shuffle_i32x4(b[k], b[4 + k], 0x44), high_01 = _mm512_shuffle_i32x4(b[k], b[4 + k], 0xee);
    const __m512i low_23 = _mm512_shuffle_i32x4(b[8 + k], b[12 + k], 0x44);
    const __m512i high_23 = _mm512_shuffle_i32x4(b[8 + k], b[12 + k], 0xee);
    row[k] = _mm512_shuffle_i32x4(low_01, low_23, 0x88);
    row[4 + k] = _mm512_shuffle_i32x4(low_01, low_23, 0xdd);
    row[8 + k] = _mm512_shuffle_i32x4(high_01, high_23, 0x88);
    row[12 + k] = _mm512_shuffle_i32x4(high_01, high_23, 0xdd);
  }
}
#endif
#endif
