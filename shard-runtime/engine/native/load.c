/*
 * Reading a packed shard: threads that take one piece of a file after the other, hash it against the digest it must have,
 * and lay out what of it is a matrix, while it is in the processor's cache. So every byte crosses memory once on its way in
 * and once laid out, and all cores share the work. Sessions are created meanwhile: a product finds its matrix by name
 * (products.c), and is not run before all pieces are there and were right (engine/shard-load.ts sees to that).
 *
 * All matrices lie in one stretch of memory, of huge pages where the system has them.
 */
#define _GNU_SOURCE
#include "products.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

enum { THREADS_MAX = 64, DIGEST = 32, AHEAD = 16 << 20 };
/* What a piece holds: rows of a matrix's columns, whole groups of them. */
enum { NOTHING, VALUES, SCALES, ZEROS };
/* The outcome. */
enum { INTACT, SPOILT, NO_MEMORY };

typedef struct {
  int64_t file, offset, length;
  int64_t matrix, holds, group; /* the first one */
} Piece;

typedef struct {
  Product product;
  char *name;
  atomic_int taken;
} Matrix;

struct Load {
  atomic_int uses, outcome;
  _Atomic int64_t next, advised; /* pieces */
  int64_t file_count, piece_count, matrix_count;
  int *files;
  Piece *pieces;
  uint8_t *digests;
  Matrix *matrices;
  uint8_t *memory;
  size_t memory_size;
  int64_t longest; /* piece */
  int thread_count, is_joined;
  pthread_mutex_t joining;
  pthread_t threads[THREADS_MAX];
};

static _Thread_local Load *used;
static _Thread_local int64_t last_found; /* sessions ask in about the order of the matrices */

/* ---- a thread's work ---- */

static int read_piece(int file, uint8_t *to, int64_t length, int64_t offset) {
  for (int64_t done = 0; done < length;) {
    const ssize_t count = pread(file, to + done, (size_t)(length - done), offset + done);
    if (count <= 0) return 0;
    done += count;
  }
  return 1;
}

static void lay_out_piece(Load *load, const Piece *piece, const uint8_t *bytes) {
  const Product *p = &load->matrices[piece->matrix].product;
  const int64_t zero_bytes = (p->block_count * p->bits + 7) / 8;
  const int64_t value_bytes = p->block_count * line_count(p) * 4;
  const int64_t column_bytes = piece->holds == VALUES ? value_bytes : piece->holds == SCALES ? p->block_count * 4 : zero_bytes;
  /* After the last column come the zeros that fill up the page. */
  const int64_t end = MIN_OF(p->outputs, piece->group * GROUP + piece->length / column_bytes);
  if (piece->holds == VALUES) lay_out_values(p, piece->group, end, bytes);
  else if (piece->holds == SCALES) lay_out_scales(p, piece->group, end, (const float *)bytes);
  else lay_out_zeros(p, piece->group, end, bytes);
}

/* The disk works best when it knows what will be wanted; but modules and libraries that others want wait behind it. */
static void advise(Load *load, int64_t from) {
#if defined(POSIX_FADV_WILLNEED)
  int64_t ahead = 0;
  for (int64_t i = from; i < load->piece_count && ahead < AHEAD; i++) {
    const Piece *piece = &load->pieces[i];
    ahead += piece->length;
    int64_t next = atomic_load(&load->advised);
    if (i < next || !atomic_compare_exchange_strong(&load->advised, &next, i + 1)) continue;
    posix_fadvise(load->files[piece->file], piece->offset, piece->length, POSIX_FADV_WILLNEED);
  }
#else
  (void)load, (void)from;
#endif
}

static void *work(void *of) {
  Load *load = of;
  void *bytes = NULL;
  if (posix_memalign(&bytes, HUGE_PAGE, ((size_t)load->longest + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE) != 0) {
    atomic_store(&load->outcome, NO_MEMORY);
    return NULL;
  }
#if defined(MADV_HUGEPAGE)
  madvise(bytes, (size_t)load->longest, MADV_HUGEPAGE);
#endif
  while (atomic_load(&load->outcome) == INTACT) {
    const int64_t index = atomic_fetch_add(&load->next, 1);
    if (index >= load->piece_count) break;
    advise(load, index);
    const Piece *piece = &load->pieces[index];
    uint8_t digest[DIGEST];
    if (!read_piece(load->files[piece->file], bytes, piece->length, piece->offset)) atomic_store(&load->outcome, SPOILT);
    else if (!digest_piece(bytes, (size_t)piece->length, digest)) atomic_store(&load->outcome, NO_MEMORY);
    else if (memcmp(digest, load->digests + index * DIGEST, DIGEST) != 0) atomic_store(&load->outcome, SPOILT);
    else if (piece->holds != NOTHING) lay_out_piece(load, piece, bytes);
  }
  free(bytes);
  return NULL;
}

/* ---- memory ---- */

static size_t rounded(size_t size) { return (size + LINE - 1) / LINE * LINE; }

/* Where each matrix's parts come to lie; the size of all of them. */
static size_t place(Load *load, uint8_t *memory, const int64_t *shapes) {
  size_t at = 0;
  for (int64_t i = 0; i < load->matrix_count; i++, shapes += 5) {
    Product *p = &load->matrices[i].product;
    p->inputs = shapes[0], p->outputs = shapes[1], p->bits = (int)shapes[2], p->block = shapes[3];
    p->block_count = (p->inputs + p->block - 1) / p->block, p->group_count = (p->outputs + GROUP - 1) / GROUP;
    const size_t places = (size_t)(p->group_count * p->block_count) * GROUP;
    p->weights = memory + at, at += places / GROUP * (size_t)line_count(p) * LINE;
    p->scales = (float *)(memory + at), at = rounded(at + places * sizeof(float));
    p->zeros = shapes[4] ? memory + at : NULL, at = rounded(at + (shapes[4] ? places : 0));
    p->load = load;
  }
  return at;
}

static int allocate(Load *load, const int64_t *shapes) {
  const size_t size = place(load, NULL, shapes);
  if (size == 0) return 1;
  load->memory_size = size + 2 * HUGE_PAGE;
  load->memory = mmap(NULL, load->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (load->memory == MAP_FAILED) {
    load->memory = NULL;
    return 0;
  }
  uint8_t *start = (uint8_t *)(((uintptr_t)load->memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
#if defined(MADV_HUGEPAGE)
  madvise(start, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  place(load, start, shapes);
  return 1;
}

static void *copied(const void *from, size_t size) {
  void *to = malloc(size > 0 ? size : 1);
  return to != NULL ? memcpy(to, from, size) : NULL;
}

static void join(Load *load) {
  pthread_mutex_lock(&load->joining);
  if (!load->is_joined)
    for (int i = 0; i < load->thread_count; i++) pthread_join(load->threads[i], NULL);
  load->is_joined = 1;
  pthread_mutex_unlock(&load->joining);
}

void give_back(Load *load) {
  if (atomic_fetch_sub(&load->uses, 1) > 1) return;
  join(load);
  for (int64_t i = 0; load->files && i < load->file_count; i++)
    if (load->files[i] >= 0) close(load->files[i]);
  for (int64_t i = 0; load->matrices && i < load->matrix_count; i++) free(load->matrices[i].name);
  if (load->memory) munmap(load->memory, load->memory_size);
  free(load->files), free(load->pieces), free(load->digests), free(load->matrices);
  pthread_mutex_destroy(&load->joining);
  free(load);
}

/* ---- what engine/shard-load.ts calls ---- */

/*
 * Starts reading. `pieces`: as Piece, [piece_count][6]; `digests`: [piece_count][32]; `shapes`: inputs, outputs, bits, block
 * and whether there are zero points, [matrix_count][5]. Null where there is no memory, or no way to hash.
 */
EXPORTED Load *tessellate_load(const char **paths, int64_t file_count, const int64_t *pieces, const uint8_t *digests,
                               int64_t piece_count, const char **names, const int64_t *shapes, int64_t matrix_count,
                               int thread_count) {
  Load *load = can_digest() ? calloc(1, sizeof *load) : NULL;
  if (load == NULL) return NULL;
  pthread_mutex_init(&load->joining, NULL);
  atomic_store(&load->uses, 1);
  load->file_count = file_count, load->piece_count = piece_count, load->matrix_count = matrix_count;
  load->files = malloc((size_t)(file_count + 1) * sizeof(int));
  load->pieces = copied(pieces, (size_t)piece_count * sizeof(Piece));
  load->digests = copied(digests, (size_t)piece_count * DIGEST);
  load->matrices = calloc((size_t)matrix_count + 1, sizeof(Matrix));
  for (int64_t i = 0; load->files && i < file_count; i++) load->files[i] = open(paths[i], O_RDONLY | O_CLOEXEC);
  int is_whole = load->files && load->pieces && load->digests && load->matrices;
  for (int64_t i = 0; is_whole && i < matrix_count; i++)
    is_whole = (load->matrices[i].name = copied(names[i], strlen(names[i]) + 1)) != NULL;
  if (!is_whole || !allocate(load, shapes)) {
    give_back(load);
    return NULL;
  }
  for (int64_t i = 0; i < piece_count; i++)
    load->longest = load->pieces[i].length > load->longest ? load->pieces[i].length : load->longest;
  const int wanted = thread_count < 1 ? 1 : MIN_OF(thread_count, THREADS_MAX);
  while (load->thread_count < wanted && pthread_create(&load->threads[load->thread_count], NULL, work, load) == 0)
    load->thread_count++;
  if (load->thread_count == 0) atomic_store(&load->outcome, NO_MEMORY);
  return load;
}

/* Waits for the end. 0: every piece is what it must be; 1: one is not, or cannot be read; 2: not enough memory. */
EXPORTED int tessellate_load_outcome(Load *load) {
  join(load);
  return atomic_load(&load->outcome);
}

/* Products that this thread creates from now on take their matrices from `load`; null: from what ONNX Runtime reads. */
EXPORTED void tessellate_load_use(Load *load) { used = load, last_found = -1; }

/* For whoever started it; the memory stays for as long as products use it. */
EXPORTED void tessellate_load_end(Load *load) { give_back(load); }

/* ---- what products.c calls ---- */

Product *loaded_product(const char *name, const Product *shape, int has_zeros) {
  for (int64_t i = 1; used && i <= used->matrix_count; i++) {
    const int64_t index = (last_found + i) % used->matrix_count;
    Matrix *matrix = &used->matrices[index];
    Product *p = &matrix->product;
    if (strcmp(matrix->name, name) != 0 || p->inputs != shape->inputs || p->outputs != shape->outputs ||
        p->bits != shape->bits || p->block != shape->block || (p->zeros != NULL) != (has_zeros != 0))
      continue;
    if (atomic_exchange(&matrix->taken, 1)) return NULL;
    last_found = index;
    atomic_fetch_add(&used->uses, 1);
    return p;
  }
  return NULL;
}
