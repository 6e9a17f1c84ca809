/* Pixel metrics on the CPU: overlap counts, confidence bins, Brier score and log-likelihood of
 * every image, in one pass over the probabilities.
 *
 * Plain C11, compiled when the package is built; native.py declares the structure `job` for ctypes.
 * The formulas are those of plain.py. Within a tile, the inner loops run over the pixels, so that
 * the compiler can vectorise them; only adding to the bins is done pixel by pixel.
 *
 * The threads take units of several tiles of one image. Each unit has its own sums, which are added
 * in a fixed order, so the result does not depend on the number of threads.
 *
 * The first NaN of a pixel is its largest value, as in torch.argmax.
 *
 * Shapes: N images, C classes, P pixels, B bins, F fine bins.
 */
#include <stdatomic.h>

enum { TILE = 1024, SHORT = 64, BANKS = 4, PARTS = 16, TAIL = 16, BLOCK = 16 };
enum { TRUE_POSITIVES, PREDICTED, PRESENT, COUNTS };
enum { PIXELS, BRIER, NLL, TOTALS };

/* Confidence, correct, count and padding: one vector. */
typedef double cell __attribute__((vector_size(32)));

typedef struct {
    int64_t N, C, P;
    const void *scores;       /* (N, C, P) floats, or (N, P) class indices of the prediction */
    int64_t scores_type;
    const void *target;       /* (N, P) */
    int64_t target_type;
    const uint8_t *valid;     /* (N, P), or NULL if all pixels are valid */
    int64_t ignores, ignore;  /* whether there is a label to ignore, and its value */
    int64_t bins;             /* B; 0 to compute overlap counts only */
    int64_t classwise;        /* whether to fill `classes` */
    int64_t units, threads;
    int64_t *counts;          /* (N, units, COUNTS, C) */
    double *totals;           /* (N, units, TOTALS) */
    double *cells;            /* (N, units, F, 4) */
    double *classes;          /* (N, units, C, B, 4); the count of the first bin is not filled */
} job;

typedef struct {
    float row[TILE], best[TILE], at[TILE], square[TILE];
    int32_t label[TILE], other[TILE], arg[TILE], fine[TILE]; /* label -1: ignored */
    cell *banks;              /* (BANKS, F) */
} scratch;

static int64_t fine_bins(const job *j) { return j->bins * PARTS + TAIL; }

/* floor(p scale) of the exact product, in [0, scale); 0 for NaN. */
static inline int32_t bin_of(float p, float scale) {
    float x = p * scale;
    x = x > 0.0f ? x : 0.0f;
    x = x < scale ? x : scale - 1.0f;
    int32_t bin = (int32_t)x;
    bin -= fmaf(p, scale, -(float)bin) < 0.0f && bin > 0;
    return bin;
}

/* Convert class indices to int32; those out of range or equal to `ignore` become -1. */
#define READ_LABELS(ctype)                                                               \
    for (int64_t t = 0; t < size; t++) {                                                 \
        int64_t value = ((const ctype *)from)[at + t];                                   \
        int counts = value >= 0 && value < classes && !(ignores && value == ignore);     \
        label[t] = counts ? (int32_t)value : -1;                                         \
    }

static void read_labels(const void *from, int64_t type, int64_t at, int64_t size, int64_t classes,
                        int ignores, int64_t ignore, int32_t *restrict label) {
    switch (type) {
        case UINT8: READ_LABELS(uint8_t) break;
        case INT8: READ_LABELS(int8_t) break;
        case INT16: READ_LABELS(int16_t) break;
        case INT32: READ_LABELS(int32_t) break;
        default: READ_LABELS(int64_t) break;
    }
}

/* The values of one class in a tile; half precision is converted to float in the buffer. */
static const float *read_row(const job *j, scratch *s, int64_t at, int64_t size) {
    const float *f = (const float *)j->scores + at;
    const uint16_t *h = (const uint16_t *)j->scores + at;
    float *restrict row = s->row;
    if (j->scores_type == FLOAT32) {
        if (at + j->P + size <= j->N * j->C * j->P) /* prefetch the next class, P floats away */
            for (int64_t t = 0; t < size; t += 16) __builtin_prefetch(f + j->P + t, 0, 2);
        return f;
    }
    if (j->scores_type == BFLOAT16)
        for (int64_t t = 0; t < size; t++) row[t] = as_float((uint32_t)h[t] << 16);
    else
        for (int64_t t = 0; t < size; t++) row[t] = from_half(h[t]);
    return row;
}

/* Update the largest value of every pixel and its class. */
static void add_largest(scratch *s, const float *row, int64_t size, int32_t c) {
    float *restrict best = s->best;
    int32_t *restrict arg = s->arg;
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float p = row[t], b = best[t];
        int higher = !(p <= b) & (b == b);
        best[t] = higher ? p : b;
        arg[t] = higher ? c : arg[t];
    }
}

/* Add the term of one class to sum_c (p_c - y_c)^2 of every pixel, and store p of its label. */
static void add_distance(scratch *s, const float *row, int64_t size, int32_t c) {
    float *restrict at = s->at, *restrict square = s->square;
    const int32_t *label = s->label;
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float p = row[t], d = label[t] == c ? p - 1.0f : p;
        at[t] = label[t] == c ? p : at[t];
        square[t] += d * d;
    }
}

/* Fill the bins of one class. Most probabilities are in the first bin: these are summed in a
 * vectorised loop, and blocks with no other pixels are skipped. */
static void add_class(const job *j, const scratch *s, const float *row, int64_t size, float edge,
                      cell *cells) {
    const int32_t *label = s->label;
    float low = 0.0f, scale = (float)j->bins;
#pragma omp simd reduction(+ : low)
    for (int64_t t = 0; t < size; t++) low += label[t] >= 0 && row[t] < edge ? row[t] : 0.0f;
    cells[0][0] += low;
    for (int64_t start = 0; start < size; start += BLOCK) {
        int64_t stop = start + BLOCK < size ? start + BLOCK : size;
        int any = 0;
        for (int64_t t = start; t < stop; t++) any |= !(row[t] < edge);
        if (!any) continue;
        for (int64_t t = start; t < stop; t++)
            if (label[t] >= 0 && !(row[t] < edge))
                cells[bin_of(row[t], scale)] += (cell){row[t], 0.0, 1.0, 0.0};
    }
}

/* The lowest probability that is not in the first of B bins. */
static float first_edge(int64_t bins) {
    float edge = 1.0f / (float)bins;
    return (double)edge * (double)bins < 1.0 ? nextafterf(edge, 2.0f) : edge;
}

static void add_counts(const job *j, const scratch *s, int64_t size, int64_t *counts) {
    int64_t *right = counts, *predicted = counts + j->C, *present = counts + 2 * j->C;
    for (int64_t t = 0; t < size; t++) {
        int32_t label = s->label[t], arg = s->arg[t];
        if (label < 0) continue;
        right[label] += arg == label;
        predicted[arg]++;
        present[label]++;
    }
}

/* Fine bins of the highest probability, as `fine_bins` in bins.py. */
static void find_fine(const job *j, scratch *s, int64_t size) {
    float scale = (float)(j->bins * PARTS);
    int32_t last = (int32_t)(j->bins * PARTS) - 1;
    int32_t *restrict fine = s->fine;
    const float *best = s->best;
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float p = best[t], rest = (1.0f - p) * scale;
        int32_t f = bin_of(p, scale);
        int32_t halvings = 126 - (int32_t)(as_bits(rest > 0.0f ? rest : 0.0f) >> 23);
        halvings = halvings < 0 ? 0 : halvings > TAIL ? TAIL : halvings;
        fine[t] = f == last ? f + halvings : f;
    }
}

static void add_calibration(const job *j, scratch *s, int64_t size, double *totals) {
    int64_t F = fine_bins(j), pixels = 0;
    double brier = 0.0, nll = 0.0;
    const int32_t *label = s->label;
    const float *at = s->at, *square = s->square;
    find_fine(j, s, size);
    for (int64_t from = 0; from < size; from += SHORT) { /* short sums limit rounding */
        int64_t to = from + SHORT < size ? from + SHORT : size;
        float squares = 0.0f, costs = 0.0f;
#pragma omp simd reduction(+ : squares, costs, pixels)
        for (int64_t t = from; t < to; t++) {
            float p = at[t] < 1.17549435e-38f ? 1.17549435e-38f : at[t];
            squares += label[t] >= 0 ? square[t] : 0.0f;
            costs -= label[t] >= 0 ? log_(p) : 0.0f;
            pixels += label[t] >= 0;
        }
        brier += squares;
        nll += costs;
    }
    totals[PIXELS] += (double)pixels;
    totals[BRIER] += brier;
    totals[NLL] += nll;
    for (int64_t t = 0; t < size; t++) /* adjacent pixels share a bin: banks avoid dependent adds */
        if (label[t] >= 0)
            s->banks[(t % BANKS) * F + s->fine[t]] +=
                (cell){s->best[t], s->arg[t] == label[t] ? 1.0 : 0.0, 1.0, 0.0};
}

/* Count each label in the bin of the probability of its class. */
static void add_labels(const job *j, const scratch *s, int64_t size, cell *classes) {
    float scale = (float)j->bins;
    for (int64_t t = 0; t < size; t++)
        if (s->label[t] >= 0)
            classes[s->label[t] * j->bins + bin_of(s->at[t], scale)][1] += 1.0;
}

/* Returns 0, or 1 if a prediction is not a class. */
static int find_predictions(const job *j, scratch *s, int64_t n, int64_t first, int64_t size,
                            cell *classes) {
    int wrong = 0;
    if (j->scores_type >= UINT8) {
        read_labels(j->scores, j->scores_type, n * j->P + first, size, j->C, 0, 0, s->arg);
        for (int64_t t = 0; t < size; t++) wrong |= s->label[t] >= 0 && s->arg[t] < 0;
        return wrong;
    }
    for (int64_t t = 0; t < size; t++) {
        s->best[t] = -INFINITY;
        s->arg[t] = 0;
        s->at[t] = s->square[t] = 0.0f;
    }
    float edge = j->classwise ? first_edge(j->bins) : 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *row = read_row(j, s, (n * j->C + c) * j->P + first, size);
        add_largest(s, row, size, (int32_t)c);
        if (j->bins) add_distance(s, row, size, (int32_t)c);
        if (j->classwise) add_class(j, s, row, size, edge, classes + c * j->bins);
    }
    return 0;
}

/* Returns 0, or 1 if a prediction is not a class. */
static int do_tile(const job *j, scratch *s, int64_t unit, int64_t n, int64_t first,
                   int64_t size) {
    int64_t at = n * j->P + first;
    cell *classes = j->classwise ? (cell *)j->classes + unit * j->C * j->bins : NULL;
    read_labels(j->target, j->target_type, at, size, j->C, (int)j->ignores, j->ignore, s->label);
    if (j->valid)
        for (int64_t t = 0; t < size; t++) s->label[t] = j->valid[at + t] ? s->label[t] : -1;
    if (find_predictions(j, s, n, first, size, classes)) return 1;
    add_counts(j, s, size, j->counts + unit * COUNTS * j->C);
    if (j->bins) add_calibration(j, s, size, j->totals + unit * TOTALS);
    if (j->classwise) add_labels(j, s, size, classes);
    return 0;
}

/* ---- units and threads ---------------------------------------------------------------------- */

enum { DONE, WRONG, NO_MEMORY };

typedef struct {
    const job *j;
    atomic_llong next;
    atomic_int outcome;
} work;

static void do_unit(work *work, scratch *s, int64_t unit) {
    const job *j = work->j;
    int64_t n = unit / j->units, i = unit % j->units, F = fine_bins(j);
    int64_t tiles = (j->P + TILE - 1) / TILE;
    int64_t from = tiles * i / j->units, to = tiles * (i + 1) / j->units;
    memset(s->banks, 0, (size_t)(BANKS * F) * sizeof(cell));
    for (int64_t tile = from; tile < to; tile++) {
        int64_t first = tile * TILE, left = j->P - first;
        if (do_tile(j, s, unit, n, first, left < TILE ? left : TILE)) {
            atomic_store(&work->outcome, WRONG);
            return;
        }
    }
    if (!j->bins) return;
    cell *cells = (cell *)j->cells + unit * F;
    for (int64_t bank = 0; bank < BANKS; bank++)
        for (int64_t f = 0; f < F; f++) cells[f] += s->banks[bank * F + f];
}

static void *worker(void *argument) {
    work *work = argument;
    const job *j = work->j;
    size_t banks = (size_t)(BANKS * fine_bins(j)) * sizeof(cell);
    char *memory = malloc(sizeof(scratch) + banks + 64);
    if (!memory) {
        atomic_store(&work->outcome, NO_MEMORY);
        return NULL;
    }
    cell *aligned = (cell *)(((uintptr_t)memory + 63) / 64 * 64);
    scratch *s = (scratch *)((char *)aligned + banks);
    s->banks = aligned;
    for (;;) {
        int64_t unit = atomic_fetch_add(&work->next, 1);
        if (unit >= j->N * j->units) break;
        do_unit(work, s, unit);
    }
    free(memory);
    return NULL;
}

/* Returns 0, or 1 if the prediction of a valid pixel is not a class, or 2 without memory. */
int softiou_pixels(const job *j) {
    work work = {.j = j};
    run_threads(worker, &work, j->threads);
    return atomic_load(&work.outcome);
}
