/*
 * The arithmetic of attention.c, once for each kind of processor: included with VARIANT(name) and TARGET, and with V, a
 * vector of 16 single-precision lanes, and its operations defined. Every operation is one IEEE operation in each lane, so
 * all kinds give the same bits.
 */

/* e to the power of x, for x of at most 0; below -87 as at -87. Cephes' polynomial. */
INLINE TARGET V VARIANT(exponential)(V x) {
  x = MAX(x, SET(-87.0f));
  const V shifted = FMA(x, SET(1.44269504088896341f), SET(12582912.0f)); /* 1.5 × 2^23 + the nearest whole number */
  const V whole = SUB(shifted, SET(12582912.0f));
  const V rest = FMA(whole, SET(2.12194440e-4f), FMA(whole, SET(-0.693359375f), x));
  V p = SET(1.9875691500e-4f);
  p = FMA(p, rest, SET(1.3981999507e-3f));
  p = FMA(p, rest, SET(8.3334519073e-3f));
  p = FMA(p, rest, SET(4.1665795894e-2f));
  p = FMA(p, rest, SET(1.6666665459e-1f));
  p = FMA(p, rest, SET(5.0000001201e-1f));
  p = FMA(p, MUL(rest, rest), ADD(rest, SET(1.0f)));
  return TIMES_POWER(p, shifted);
}

/* The dot products of `heads` queries with 16 keys, each summed in the order of the head's values. */
INLINE TARGET void VARIANT(dots)(const float *queries, const float *keys, int64_t size, const int heads, float *out, int64_t stride) {
  V sum[HEADS_AT_ONCE];
  for (int h = 0; h < heads; h++) sum[h] = SET(0);
  for (int64_t d = 0; d < size; d++) {
    const V key = LOAD(keys + d * LANES);
    for (int h = 0; h < heads; h++) sum[h] = FMA(SET(queries[h * size + d]), key, sum[h]);
  }
  for (int h = 0; h < heads; h++) STORE(out + h * stride, sum[h]);
}

/* The sums of values by their weights, in the order of positions, for `heads` heads and `lines` × 16 of a head's values;
   `goes_on`: after those that `out` holds. */
INLINE TARGET void VARIANT(gather)(const float *weights, int64_t stride, const float *values, int64_t size, int64_t count,
                                   const int heads, const int lines, int goes_on, float *out) {
  V sum[4][4];
  for (int h = 0; h < heads; h++)
    for (int l = 0; l < lines; l++) sum[h][l] = goes_on ? LOAD(out + h * size + l * LANES) : SET(0);
  for (int64_t j = 0; j < count; j++, values += size) {
    V line[4];
    for (int l = 0; l < lines; l++) line[l] = LOAD(values + l * LANES);
    for (int h = 0; h < heads; h++) {
      const V weight = SET(weights[h * stride + j]);
      for (int l = 0; l < lines; l++) sum[h][l] = FMA(weight, line[l], sum[h][l]);
    }
  }
  for (int h = 0; h < heads; h++)
    for (int l = 0; l < lines; l++) STORE(out + h * size + l * LANES, sum[h][l]);
}

INLINE TARGET void VARIANT(gather_lines)(const float *weights, int64_t stride, const float *values, int64_t size,
                                         int64_t count, const int heads, int goes_on, float *out) {
  int64_t at = 0;
  for (; at + 64 <= size; at += 64) VARIANT(gather)(weights, stride, values + at, size, count, heads, 4, goes_on, out + at);
  if (at + 32 <= size) VARIANT(gather)(weights, stride, values + at, size, count, heads, 2, goes_on, out + at), at += 32;
  if (at + 16 <= size) VARIANT(gather)(weights, stride, values + at, size, count, heads, 1, goes_on, out + at);
}

/* Scores of `heads` queries over whole blocks of keys, from that of `first` on, to weights of the positions first to
   end; what they sum up to goes to `inverses`. */
TARGET static void VARIANT(weigh)(const Attention *a, const float *sinks, int heads, float *scores, int64_t stride,
                                  int64_t first, int64_t end, float *inverses) {
  const int64_t block_start = first / LANES * LANES;
  const int64_t length = (end - block_start + LANES - 1) / LANES * LANES;
  for (int h = 0; h < heads; h++) {
    float *row = scores + h * stride;
    V largest = SET(-INFINITY);
    for (int64_t j = 0; j < length; j += LANES) {
      V score = MUL(LOAD(row + j), SET(a->scale));
      if (a->softcap > 0) {
        const V bent = DIV(score, SET(a->softcap)), power = VARIANT(exponential)(MUL(ABSOLUTE(bent), SET(-2.0f)));
        const V size = DIV(SUB(SET(1.0f), power), ADD(SET(1.0f), power));
        score = MUL(SIGN_OF(size, bent), SET(a->softcap));
      }
      STORE(row + j, score);
    }
    /* What lies before the window or after the row's own position takes no part. */
    for (int64_t j = block_start; j < first; j++) row[j - block_start] = -INFINITY;
    for (int64_t j = end; j < block_start + length; j++) row[j - block_start] = -INFINITY;
    for (int64_t j = 0; j < length; j += LANES) largest = MAX(largest, LOAD(row + j));
    float lanes[LANES], top = sinks ? sinks[h] : -INFINITY;
    STORE(lanes, largest);
    for (int i = 0; i < LANES; i++) top = lanes[i] > top ? lanes[i] : top;
    for (int64_t j = 0; j < length; j += LANES) STORE(row + j, VARIANT(exponential)(SUB(LOAD(row + j), SET(top))));
    for (int64_t j = block_start; j < first; j++) row[j - block_start] = 0;
    for (int64_t j = end; j < block_start + length; j++) row[j - block_start] = 0;
    V sums = SET(0);
    for (int64_t j = 0; j < length; j += LANES) sums = ADD(sums, LOAD(row + j));
    STORE(lanes, sums);
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    if (sinks) {
      float sink[LANES] = {sinks[h] - top};
      STORE(sink, VARIANT(exponential)(LOAD(sink)));
      sum += sink[0];
    }
    inverses[h] = 1.0f / sum;
  }
}

INLINE TARGET void VARIANT(all_dots)(const float *queries, const float *block, int64_t size, int heads, float *out, int64_t stride) {
  int h = 0;
  for (; h + 8 <= heads; h += 8) VARIANT(dots)(queries + h * size, block, size, 8, out + h * stride, stride);
  if (h + 4 <= heads) VARIANT(dots)(queries + h * size, block, size, 4, out + h * stride, stride), h += 4;
  if (h + 2 <= heads) VARIANT(dots)(queries + h * size, block, size, 2, out + h * stride, stride), h += 2;
  if (h < heads) VARIANT(dots)(queries + h * size, block, size, 1, out + h * stride, stride);
}

/* Keys of one block, [size][16], from where the cache holds them or, where they do not lie there so, made in `to`. */
TARGET static const float *VARIANT(keys_of)(const Call *call, int64_t kv_head, int64_t position, float *to) {
  const int64_t size = call->size, block = place_of(call, position), at = kv_head * call->capacity + block;
  const int64_t width = MIN_OF(LANES, call->capacity - block);
  if (width < LANES) { /* the last block of a cache whose length is no multiple of 16 */
    for (int64_t d = 0; d < size; d++)
      for (int64_t i = 0; i < LANES; i++) {
        const int64_t lane = at * size + d * width + i;
        float key = 0;
        if (i < width && !call->attention->is_coded) key = call->keys.values[lane];
        if (i < width && call->attention->is_coded)
          key = (float)call->keys.codes[lane] * call->keys.scales[at * call->groups + d / GROUP * width + i];
        to[d * LANES + i] = key;
      }
    return to;
  }
  if (!call->attention->is_coded) return call->keys.values + at * size;
  const int8_t *codes = call->keys.codes + at * size;
  const float *scales = call->keys.scales + at * call->groups;
  for (int64_t group = 0, d = 0; d < size; group++) {
    const V scale = LOAD(scales + group * LANES);
    for (const int64_t end = MIN_OF(d + GROUP, size); d < end; d++) STORE(to + d * LANES, MUL(BYTES(codes + d * LANES), scale));
  }
  return to;
}

/* Values of `count` positions that lie one after the other, [count][size], likewise. */
TARGET static const float *VARIANT(values_of)(const Call *call, int64_t kv_head, int64_t position, int64_t count, float *to) {
  const int64_t size = call->size, at = kv_head * call->capacity + place_of(call, position);
  if (!call->attention->is_coded) return call->values.values + at * size;
  for (int64_t j = 0; j < count; j++) {
    const int8_t *codes = call->values.codes + (at + j) * size;
    const float *scales = call->values.scales + (at + j) * call->groups;
    for (int64_t d = 0; d < size; d += LANES) STORE(to + j * size + d, MUL(BYTES(codes + d), SET(scales[d / GROUP])));
  }
  return to;
}

/* `heads` heads that share a KV head, for the `row_count` rows from `row` on: each block of the cache is read once.
   `room`: for POSITIONS_AT_ONCE positions' values where the cache holds codes. */
TARGET static void VARIANT(attend)(const Call *call, int64_t kv_head, int64_t row, int row_count, int64_t head, int heads, float *scores,
                                   float *room) {
  const Attention *a = call->attention;
  const int64_t size = call->size, start = first_of(call, row) / LANES * LANES, last_end = call->first + row + row_count;
  const int64_t stride = (last_end - start + LANES - 1) / LANES * LANES;
  float made[LANES * SIZE_MAX_OF_HEAD], inverses[ROWS_AT_ONCE][HEADS_AT_ONCE];
  for (int64_t j = start; j < last_end; j += LANES) {
    const float *block = VARIANT(keys_of)(call, kv_head, j, made);
    for (int r = 0; r < row_count; r++) {
      if (j + LANES <= first_of(call, row + r) || j > call->first + row + r) continue;
      const float *queries = call->queries + ((row + r) * a->heads + head) * size;
      VARIANT(all_dots)(queries, block, size, heads, scores + r * heads * stride + (j - start), stride);
    }
  }
  for (int r = 0; r < row_count; r++) {
    const int64_t first = first_of(call, row + r);
    float *own = scores + r * heads * stride + (first / LANES * LANES - start);
    VARIANT(weigh)(a, call->sinks ? call->sinks + head : NULL, heads, own, stride, first, call->first + row + r + 1, inverses[r]);
  }
  const int64_t step = row_count == 1 && !a->is_coded ? last_end - start : POSITIONS_AT_ONCE;
  for (int64_t from = start, next; from < last_end; from = next) {
    next = MIN_OF(from + step, last_end);
    if (call->wraps) next = MIN_OF(next, from + call->capacity - place_of(call, from));
    const float *values = VARIANT(values_of)(call, kv_head, from, next - from, room);
    for (int r = 0; r < row_count; r++) {
      const int64_t first = first_of(call, row + r), begin = from > first ? from : first;
      const int64_t count = MIN_OF(next, call->first + row + r + 1) - begin;
      if (count <= 0) continue;
      const float *weights = scores + r * heads * stride + (begin - start), *lines = values + (begin - from) * size;
      float *out = call->output + ((row + r) * a->heads + head) * size;
      const int goes_on = begin > first;
      int h = 0;
      for (; h + 4 <= heads; h += 4)
        VARIANT(gather_lines)(weights + h * stride, stride, lines, size, count, 4, goes_on, out + h * size);
      if (h + 2 <= heads)
        VARIANT(gather_lines)(weights + h * stride, stride, lines, size, count, 2, goes_on, out + h * size), h += 2;
      if (h < heads) VARIANT(gather_lines)(weights + h * stride, stride, lines, size, count, 1, goes_on, out + h * size);
    }
  }
  for (int r = 0; r < row_count; r++)
    for (int h = 0; h < heads; h++)
      for (int64_t d = 0; d < size; d += LANES) {
        float *out = call->output + ((row + r) * a->heads + head + h) * size + d;
        STORE(out, MUL(LOAD(out), SET(inverses[r][h])));
      }
}

#undef V
#undef LOAD
#undef BYTES
#undef STORE
#undef SET
#undef FMA
#undef MUL
#undef ADD
#undef SUB
#undef DIV
#undef MAX
#undef ABSOLUTE
#undef SIGN_OF
#undef TIMES_POWER
#undef TARGET
#undef VARIANT
