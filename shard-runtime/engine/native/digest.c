/*
 * The digest of a piece of a packed file: SHA-256 over the SHA-256s of its leaves. Leaves are what lets a processor with
 * AVX-512 hash sixteen at once, three times as fast as one after the other with the instructions made for it. Elsewhere
 * OpenSSL does it, which Node brings and shows to the libraries it loads.
 */
#define _GNU_SOURCE
#include "products.h"
#include "words.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum { LEAF = 1 << 16, LANES = 16, BLOCK = 64, DIGEST = 32 };

/* OpenSSL's EVP_Digest and EVP_sha256, once can_digest has found them. */
static int (*evp_digest)(const void *data, size_t count, unsigned char *digest, unsigned *size, const void *type, void *engine);
static const void *(*evp_sha256)(void);

#if defined(HAS_WORDS)
/* FIPS 180-4, 4.2.2 and 5.3.3. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
    0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
    0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
    0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
    0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
    0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
static const uint32_t START[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

#define XOR3(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define CHOOSE(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xca)
#define MAJORITY(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0xe8)
#define ADD(a, b) _mm512_add_epi32(a, b)
#define TURN(a, n) _mm512_ror_epi32(a, n)

/* One block of each lane, its words in `w`. */
WORDS static inline __attribute__((always_inline)) void compress(__m512i state[8], __m512i w[16]) {
  __m512i s[8];
  for (int i = 0; i < 8; i++) s[i] = state[i];
#pragma GCC unroll 64
  for (int i = 0; i < 64; i++) {
    const __m512i mixed = XOR3(TURN(s[4], 6), TURN(s[4], 11), TURN(s[4], 25));
    const __m512i one = ADD(ADD(ADD(s[7], mixed), ADD(CHOOSE(s[4], s[5], s[6]), w[i & 15])), _mm512_set1_epi32((int)K[i]));
    const __m512i two = ADD(XOR3(TURN(s[0], 2), TURN(s[0], 13), TURN(s[0], 22)), MAJORITY(s[0], s[1], s[2]));
    s[7] = s[6], s[6] = s[5], s[5] = s[4], s[4] = ADD(s[3], one);
    s[3] = s[2], s[2] = s[1], s[1] = s[0], s[0] = ADD(one, two);
    const __m512i before = w[(i + 1) & 15], after = w[(i + 14) & 15];
    const __m512i low = XOR3(TURN(before, 7), TURN(before, 18), _mm512_srli_epi32(before, 3));
    const __m512i high = XOR3(TURN(after, 17), TURN(after, 19), _mm512_srli_epi32(after, 10));
    if (i < 48) w[i & 15] = ADD(ADD(w[i & 15], low), ADD(w[(i + 9) & 15], high));
  }
  for (int i = 0; i < 8; i++) state[i] = ADD(state[i], s[i]);
}

/* Up to 16 messages, one after the other in memory, all of `size` bytes but the last. */
WORDS static void hash_lanes(const uint8_t *from, size_t length, size_t size, uint8_t *digests) {
  const int count = (int)((length + size - 1) / size);
  const uint8_t *lane[LANES];
  uint8_t tails[LANES][2 * BLOCK] = {{0}};
  size_t whole[LANES] = {0}, blocks[LANES] = {0}, most = 0;
  for (int i = 0; i < count; i++) {
    const size_t bytes = MIN_OF(size, length - (size_t)i * size), rest = bytes % BLOCK;
    lane[i] = from + (size_t)i * size;
    whole[i] = bytes / BLOCK, blocks[i] = (bytes + 9 + BLOCK - 1) / BLOCK;
    most = blocks[i] > most ? blocks[i] : most;
    memcpy(tails[i], lane[i] + whole[i] * BLOCK, rest);
    tails[i][rest] = 0x80;
    uint8_t *end = tails[i] + (blocks[i] - whole[i]) * BLOCK;
    for (int k = 1; k <= 8; k++) end[-k] = (uint8_t)((uint64_t)bytes * 8 >> 8 * (k - 1));
  }
  /* Bytes of each word, the highest first. */
  const __m512i turned = _mm512_broadcast_i32x4(_mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
  __m512i state[8];
  for (int i = 0; i < 8; i++) state[i] = _mm512_set1_epi32((int)START[i]);
  for (size_t block = 0; block < most; block++) {
    __m512i w[16], next[8];
    __mmask16 busy = 0;
    for (int i = 0; i < LANES; i++) {
      const uint8_t *at = tails[i];
      if (block < whole[i]) at = lane[i] + block * BLOCK;
      else if (block < blocks[i]) at = tails[i] + (block - whole[i]) * BLOCK;
      busy |= (__mmask16)((block < blocks[i]) << i);
      w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512((const void *)at), turned);
    }
    transpose_words(w);
    for (int i = 0; i < 8; i++) next[i] = state[i];
    compress(next, w);
    for (int i = 0; i < 8; i++) state[i] = _mm512_mask_mov_epi32(state[i], busy, next[i]);
  }
  uint32_t words[8][LANES];
  for (int i = 0; i < 8; i++) _mm512_storeu_si512((void *)words[i], state[i]);
  for (int i = 0; i < count; i++)
    for (int k = 0; k < DIGEST; k++) digests[i * DIGEST + k] = (uint8_t)(words[k / 4][i] >> (24 - k % 4 * 8));
}
#endif

static void hash_leaves(const uint8_t *from, size_t length, size_t size, uint8_t *digests) {
#if defined(HAS_WORDS)
  if (has_words()) {
    for (size_t at = 0; at < length; at += LANES * size)
      hash_lanes(from + at, MIN_OF(LANES * size, length - at), size, digests + at / size * DIGEST);
    return;
  }
#endif
  for (size_t at = 0; at < length; at += size)
    evp_digest(from + at, MIN_OF(size, length - at), digests + at / size * DIGEST, NULL, evp_sha256(), NULL);
}

int can_digest(void) {
#if defined(HAS_WORDS)
  if (has_words()) return 1;
#endif
  *(void **)&evp_digest = dlsym(RTLD_DEFAULT, "EVP_Digest");
  *(void **)&evp_sha256 = dlsym(RTLD_DEFAULT, "EVP_sha256");
  return evp_digest != NULL && evp_sha256 != NULL;
}

int digest_piece(const uint8_t *bytes, size_t length, uint8_t digest[DIGEST]) {
  const size_t leaf_count = (length + LEAF - 1) / LEAF;
  uint8_t few[LANES * DIGEST], *leaves = leaf_count > LANES ? malloc(leaf_count * DIGEST) : few;
  if (leaves == NULL) return 0;
  hash_leaves(bytes, length, LEAF, leaves);
  hash_leaves(leaves, leaf_count * DIGEST, leaf_count * DIGEST, digest);
  if (leaves != few) free(leaves);
  return 1;
}
