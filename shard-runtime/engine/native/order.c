/*
 * Laying weights out in the order of reading (products.h). A line is word i of 16 columns: laying out is transposing words,
 * and at 4 bits putting the nibbles of each word in another order.
 */
#include "products.h"
#include "words.h"
#include <string.h>

/* Values 0 to 7 of a word, as 0 4 1 5 2 6 3 7: t and 4 + t come to share a byte. */
static inline uint32_t halves(uint32_t word) {
  uint32_t swap = (word ^ word >> 8) & 0xff00;
  word ^= swap ^ swap << 8;
  swap = (word ^ word >> 4) & 0x00f000f0;
  return word ^ swap ^ swap << 4;
}

static void some_words(const uint8_t *from, size_t row_bytes, int row_count, int64_t words, int bits, uint8_t *to) {
  for (int64_t i = 0; i < words; i++, to += LINE)
    for (int row = 0; row < row_count; row++) {
      uint32_t word;
      memcpy(&word, from + (size_t)row * row_bytes + 4 * i, 4);
      if (bits == 4) word = halves(word);
      memcpy(to + 4 * row, &word, 4);
    }
}

#if defined(HAS_WORDS)
WORDS static int64_t many_words(const uint8_t *from, size_t row_bytes, int64_t words, int bits, uint8_t *to) {
  const __m512i middle = _mm512_set1_epi32(0xff00), nibbles = _mm512_set1_epi32(0x00f000f0);
  int64_t done = 0;
  for (; done + GROUP <= words; done += GROUP, to += GROUP * LINE) {
    __m512i word[GROUP];
    for (int row = 0; row < GROUP; row++) word[row] = _mm512_loadu_si512((const void *)(from + (size_t)row * row_bytes + 4 * done));
    transpose_words(word);
    for (int i = 0; i < GROUP; i++) {
      __m512i w = word[i];
      if (bits == 4) {
        __m512i swap = _mm512_and_si512(_mm512_xor_si512(w, _mm512_srli_epi32(w, 8)), middle);
        w = _mm512_xor_si512(w, _mm512_xor_si512(swap, _mm512_slli_epi32(swap, 8)));
        swap = _mm512_and_si512(_mm512_xor_si512(w, _mm512_srli_epi32(w, 4)), nibbles);
        w = _mm512_xor_si512(w, _mm512_xor_si512(swap, _mm512_slli_epi32(swap, 4)));
      }
      _mm512_storeu_si512((void *)(to + i * LINE), w);
    }
  }
  return done;
}
#endif

/* One word of a column is one word of memory in either order, so a group's place is that of its lines. */
static void lay_out_words(int64_t words, int64_t group, int64_t end, int bits, const uint8_t *from, uint8_t *to) {
  const size_t row_bytes = (size_t)words * 4;
  for (int64_t column = group * GROUP; column < end; column += GROUP, from += GROUP * row_bytes) {
    uint8_t *lines = to + column / GROUP * words * LINE;
    const int row_count = (int)MIN_OF(GROUP, end - column);
    int64_t done = 0;
#if defined(HAS_WORDS)
    if (row_count == GROUP && has_words()) done = many_words(from, row_bytes, words, bits, lines);
#endif
    some_words(from + 4 * done, row_bytes, row_count, words - done, bits, lines + done * LINE);
  }
}

void lay_out_values(const Product *p, int64_t group, int64_t end, const uint8_t *from) {
  lay_out_words(p->block_count * line_count(p), group, end, p->bits, from, p->weights);
}

void lay_out_scales(const Product *p, int64_t group, int64_t end, const float *from) {
  lay_out_words(p->block_count, group, end, 0, (const uint8_t *)from, (uint8_t *)p->scales);
}

void lay_out_zeros(const Product *p, int64_t group, int64_t end, const uint8_t *from) {
  const int64_t row_bytes = (p->block_count * p->bits + 7) / 8;
  for (int64_t column = group * GROUP; column < end; column++, from += row_bytes)
    for (int64_t b = 0; b < p->block_count; b++)
      p->zeros[(column / GROUP * p->block_count + b) * GROUP + column % GROUP] =
          p->bits == 8 ? from[b] : from[b / 2] >> (b % 2 * 4) & 15;
}
