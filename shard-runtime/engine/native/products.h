/*
 * A matrix with 4- or 8-bit weights as products.c computes with it, and the two ways in which one comes to be: laid out when
 * its session is created (order.c), or before, by the threads that read the whole shard (load.c).
 *
 * Weights lie in the order of reading. 16 columns make a group; of each of its blocks, 64-byte lines hold four successive
 * values of all 16 columns (8 bits), or eight of them, the first four in the low halves (4 bits). So one line is one operand
 * of VPDPBUSD, and 16 of them are one of AMX's tiles.
 */
#ifndef TESSELLATE_PRODUCTS_H
#define TESSELLATE_PRODUCTS_H
#include <stddef.h>
#include <stdint.h>

#define GROUP 16 /* columns */
#define LINE 64  /* bytes */
#define HUGE_PAGE ((size_t)2 << 20)
#ifndef MIN_OF
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#endif

typedef struct Load Load;

/* Memory that is read by groups. */
typedef struct {
  const void *start;
  int64_t group_bytes, group_count;
} Reading;

typedef struct {
  int64_t inputs, outputs, block, block_count, group_count;
  int bits;
  uint8_t *weights; /* [group][block][line] */
  float *scales;    /* [group][block][GROUP] */
  uint8_t *zeros;   /* the same, or null: 8 or 128 everywhere */
  float *bias;      /* [outputs], or null; added last */
  Reading next;     /* what was read after it when it last ran */
  Load *load;       /* whose memory weights, scales and zeros are; null: they are this product's own */
} Product;

static inline int64_t line_count(const Product *p) { return p->block * p->bits / 32; }

/* ---- order.c: from MatMulNBits' order, [columns][blocks], to that of reading. Memory for columns that are not there must be
 * zero. `from` begins with the first column of `group`; columns end with `end`. ---- */

void lay_out_values(const Product *p, int64_t group, int64_t end, const uint8_t *from);
void lay_out_scales(const Product *p, int64_t group, int64_t end, const float *from);
void lay_out_zeros(const Product *p, int64_t group, int64_t end, const uint8_t *from);

/* ---- digest.c ---- */

/* Whether there is a way to hash on this machine. */
int can_digest(void);
/* SHA-256 of the SHA-256s of every LEAF bytes, one after the other. 0 where there is not enough memory. */
int digest_piece(const uint8_t *bytes, size_t length, uint8_t digest[32]);

/* ---- load.c ---- */

/* The product of this name, if this thread is using a load that has it with just this shape; give_back it. */
Product *loaded_product(const char *name, const Product *shape, int has_zeros);
void give_back(Load *load);

#endif
