/* The pass over the pixels on the CPU: a softmax, a sigmoid or given probabilities against
 * targets, tile by tile.
 *
 * Plain C11, compiled when the package is built; native.py declares the structures below for
 * ctypes. The formulas are those of chunked.py and entropy.py. Within a tile, the inner loops run
 * over the pixels, so that the compiler can vectorise them.
 *
 * A tile has at most `tile` pixels of one row. The threads take units of several tiles. Each unit
 * has its own sums, which are added in a fixed order, so the result does not depend on the number
 * of threads.
 *
 * Shapes: N images, C classes, rows x columns pixels, K targets, h x w low-resolution logits.
 */
#include <stdatomic.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* Functions called in a loop over the pixels have to be inlined for the loop to be vectorised. */
#define INLINE static inline __attribute__((always_inline))

enum { LABELS, PROBS, VOTES, SPARSE, GAUSSIAN, TEACHER };
enum { SOFTMAX, SIGMOID, READY };
/* Masses, cross-entropy of positives (E) and negatives (F), and maxima. */
enum { P, Y, D, M, T, E, F, P_MAX, Y_MAX, SUMS };

/* A tensor with strides in elements; data is NULL if there is none. */
typedef struct {
    void *data;
    int64_t image, channel, row, column;
    int64_t type;
} tensor;

/* The interpolation of a low-resolution map (h, w); h is 0 for full resolution. */
typedef struct {
    int64_t h, w;
    const int32_t *row_first;
    const float *row_share;
    const int32_t *column_first;
    const float *column_share;
} taps;

typedef struct {
    int64_t kind;
    tensor values;       /* labels (N, rows, columns), probabilities (N, C, rows, columns), votes or
                            sparse classes (N, depth, rows, columns), a teacher's logits */
    int64_t ignores;     /* whether there is a value to ignore */
    int64_t ignore;
    int64_t independent; /* whether single entries of probabilities are ignored, not pixels */
    double epsilon;      /* label smoothing, rounding of sparse weights, or 1 / temperature */
    tensor flags;        /* UINT8 (N, 1 or C, rows, columns): labels to smooth, or valid
                            probabilities; none means all */
    tensor shares;       /* weights of the sparse classes (N, depth, rows, columns) */
    int64_t depth;       /* number of annotators or of sparse classes, or width of a Gaussian */
    const float *window; /* weights of a Gaussian (2 depth + 1, 2 depth + 1) */
    taps low;            /* interpolation of a teacher's logits */
} target;

typedef struct {
    int64_t N, C, rows, columns, K;
    taps low;
    tensor logits, valid, weights;
    const target *targets;
    int64_t activation, cross_entropy, maxima, tile, units, threads;
    double smoothing, gamma;           /* label smoothing and focal exponent of the cross-entropy */
    int64_t *invalid;                  /* set to 1 if contents are out of range */
    int64_t first, last;               /* the units of this call, out of N * units */
    double *sums;                      /* (N units, K, C, SUMS) */
    double *weights_of;                /* (N units, K) */
    const float *slopes;               /* gradients of P, Y, D, M, T (E, F): (5 or 7, K, N, C) */
    const float *zeros;                /* (C,) */
    tensor gradient;
    float *shared_rows;                /* (N units, 2, C, w): gradient rows shared by two units */
} job;

/* ---- one tile ------------------------------------------------------------------------------- */

/* The target in a tile, in one of three forms. (1) Probabilities `y`. (2) Labels, where the class
 * of the label has the probability `on`, and every other class `off`. (3) Hard labels, and marks
 * for the pixels in which the votes differ: a mark is the probability `value` of one class. */
typedef struct {
    float *w, *unmarked;   /* weight of each pixel, and the same with 0 for pixels with marks */
    float *marked;         /* 1 for pixels with marks */
    float *on, *off;
    int32_t *label;
    int32_t *at, *class;   /* pixel and class of each mark; other classes are 0 */
    float *value;
    int64_t marks;
    int smoothed;          /* whether `on` and `off` are used */
    int whole;             /* whether every pixel is known to have the weight 1 */
    const float *y;        /* the classes are `pitch` apart; or NULL */
    int64_t pitch;
} target_tile;

/* Labels of a line of pixels, -1 for no vote. */
typedef struct {
    const int32_t *label;
    float weight;
} ballot;

typedef struct {
    float *z, *p, *a;                   /* (C, tile) */
    float *y;                           /* (K, C, tile), probabilities of targets in other forms */
    int32_t *lines;                     /* labels of annotators or of neighbours */
    float *line;                        /* a low-resolution line, or a tile and its margin */
    ballot *ballots;
    float *most, *sum, *scale, *dot, *any, *entropy, *kept; /* (tile) */
    float *low, *top, *bottom, *other;  /* (C, w + 1), and a line */
    double *banks;                      /* (6, BANKS, C) */
    target_tile *read;
} scratch;

/* exp of x <= 88 to 1 ulp; 0 below -87; NaN stays NaN. */
INLINE float exp_(float x) {
    float low = x < -88.0f ? -88.0f : x; /* a separate comparison compiles to one instruction */
    float n = rintf(low * 1.44269504f);
    float r = fmaf(n, -0.693145752f, low);
    r = fmaf(n, -1.42860677e-6f, r);
    float q = 1.98756915e-4f;
    q = fmaf(q, r, 1.39819995e-3f);
    q = fmaf(q, r, 8.33345190e-3f);
    q = fmaf(q, r, 4.16657959e-2f);
    q = fmaf(q, r, 1.66666655e-1f);
    q = fmaf(q, r, 5.00000001e-1f);
    q = fmaf(q * r, r, r) + 1.0f;
    int32_t power = (int32_t)n + 127;
    return q * as_float(power > 1 ? (uint32_t)power << 23 : 0);
}

/* x^g for x >= 0; 0 for x = 0, whatever g. */
INLINE float pow_(float x, float g) {
    float log = g * log_(x > 1e-37f ? x : 1e-37f), power = exp_(log > 88.0f ? 88.0f : log);
    return x > 0.0f ? power : 0.0f;
}

/* log(1 + e) for e in [0, 1], accurate for small e. */
INLINE float log1p_(float e) {
    float log = log_(1.0f + e);
    return e < 1e-4f ? e - 0.5f * e * e : log;
}

static inline uint16_t to_half(float value) {
    uint32_t bits = as_bits(value), sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) /* subnormal: the addition rounds */
        return (uint16_t)(sign | (as_bits(as_float(bits) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (bits + 0xfff + (bits >> 13 & 1) - 0x38000000) >> 13);
}

static inline uint16_t to_bfloat(float value) {
    uint32_t bits = as_bits(value);
    if (value != value) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void *place(const tensor *x, int64_t n, int64_t c, int64_t row, int64_t column) {
    static const int64_t bytes[] = {4, 2, 2, 1, 1, 2, 4, 8};
    int64_t offset = n * x->image + c * x->channel + row * x->row + column * x->column;
    return (char *)x->data + offset * bytes[x->type];
}

/* A separate loop for step 1, because the compiler vectorises only this one. */
#define EACH(BODY)                                              \
    if (step == 1) for (int64_t t = 0, i = 0; t < size; t++, i++) BODY \
    else for (int64_t t = 0, i = 0; t < size; t++, i += step) BODY

static void read_floats(const tensor *x, const void *from, int64_t size, float *restrict to) {
    int64_t step = x->column;
    const float *f = from;
    const uint16_t *h = from;
    switch (x->type) {
        case FLOAT32: EACH(to[t] = f[i];) break;
        case BFLOAT16: EACH(to[t] = as_float((uint32_t)h[i] << 16);) break;
        case FLOAT16: EACH(to[t] = from_half(h[i]);) break;
        case UINT8: EACH(to[t] = ((const uint8_t *)from)[i];) break;
        case INT8: EACH(to[t] = ((const int8_t *)from)[i];) break;
        case INT16: EACH(to[t] = ((const int16_t *)from)[i];) break;
        case INT32: EACH(to[t] = (float)((const int32_t *)from)[i];) break;
        default: EACH(to[t] = (float)((const int64_t *)from)[i];) break;
    }
}

static void write_floats(const tensor *x, void *to, int64_t size, const float *restrict from) {
    int64_t step = x->column;
    float *f = to;
    uint16_t *h = to;
    switch (x->type) {
        case FLOAT32: EACH(f[i] = from[t];) break;
        case BFLOAT16: EACH(h[i] = to_bfloat(from[t]);) break;
        default: EACH(h[i] = to_half(from[t]);) break;
    }
}

/* A label becomes its class and weight 1; an ignored label class 0 and weight 0; a label out of
 * range class 0 and weight -1. If all labels are classes, as usual, only the first loop is run. */
#define READ_LABELS(ctype)                                                               \
    EACH({                                                                               \
        int64_t value = ((const ctype *)from)[i];                                        \
        others |= (uint64_t)value >= (uint64_t)classes;                                  \
        label[t] = (int32_t)value;                                                       \
    })                                                                                   \
    if (!others) break;                                                                  \
    EACH({                                                                               \
        int64_t value = ((const ctype *)from)[i];                                        \
        int ignored = ignores && value == ignore;                                        \
        int counts = value >= 0 && value < classes && !ignored;                          \
        label[t] = counts ? (int32_t)value : 0;                                          \
        w[t] = counts ? 1.0f : ignored ? 0.0f : -1.0f;                                   \
    })

/* Returns whether all labels are classes that are not ignored. */
static int read_labels(const target *y, const void *from, int64_t size, int64_t classes,
                       int32_t *restrict label, float *restrict w) {
    int64_t step = y->values.column, ignore = y->ignore;
    int ignores = (int)y->ignores, others = ignores && ignore >= 0 && ignore < classes;
    for (int64_t t = 0; t < size; t++) w[t] = 1.0f;
    switch (y->values.type) {
        case UINT8: READ_LABELS(uint8_t) break;
        case INT8: READ_LABELS(int8_t) break;
        case INT16: READ_LABELS(int16_t) break;
        case INT32: READ_LABELS(int32_t) break;
        default: READ_LABELS(int64_t) break;
    }
    return !others;
}

/* Specialised code for a tile. HARD: softmax against hard labels, or a few classes per pixel.
 * BINARY: softmax of two classes, or sigmoid of one, against hard labels. TWO: softmax of two
 * classes against any target. PAIR: as TWO, with focal or smoothed cross-entropy or with maxima.
 * ENTRIES: sigmoid or given probabilities, class by class. ANY: softmax against any target. */
enum { HARD, BINARY, TWO, PAIR, ENTRIES, ANY };

static int way_of(const job *j) {
    int64_t kind = j->targets[0].kind;
    int labels = kind == LABELS && j->targets[0].epsilon == 0.0;
    int marks = (kind == VOTES || kind == GAUSSIAN) && j->gamma == 0.0;
    int hard = j->K == 1 && (labels || marks) && j->smoothing == 0.0;
    int two = j->activation == SOFTMAX ? j->C == 2 : j->activation == SIGMOID && j->C == 1;
    if (hard && labels && two && !j->maxima) return BINARY;
    if (j->activation != SOFTMAX) return ENTRIES;
    int rare = j->maxima || j->gamma != 0.0 || j->smoothing != 0.0;
    if (j->K == 1 && two) return rare ? PAIR : TWO;
    return hard ? HARD : ANY;
}

/* Whether labels and marks are converted to probabilities. */
static int writes_out(const job *j, const target *y) {
    int way = way_of(j);
    return way == TWO || way == PAIR || way == ENTRIES ||
           (way == ANY && (j->smoothing != 0.0 || j->gamma != 0.0 || y->kind != LABELS));
}

/* The maximum number of marks of a pixel. */
static int64_t most_marks(const job *j, const target *y) {
    int64_t classes = j->C > 1 ? j->C : 2, window = 2 * y->depth + 1;
    if (y->kind != VOTES && y->kind != GAUSSIAN) return 0;
    int64_t ballots = y->kind == VOTES ? y->depth : window * window;
    return ballots < classes ? ballots : classes;
}

/* Read the probabilities of smoothed labels: `on` for the label, `off` for the other classes. */
static void read_shares(const job *j, const target *y, int64_t n, int64_t row, int64_t column,
                        int64_t size, float *restrict on, float *restrict off) {
    float epsilon = (float)y->epsilon, share = epsilon / (float)j->C;
    if (!y->flags.data) {
        for (int64_t t = 0; t < size; t++) on[t] = 1.0f - epsilon + share, off[t] = share;
        return;
    }
    read_floats(&y->flags, place(&y->flags, n, 0, row, column), size, off);
    for (int64_t t = 0; t < size; t++) {
        on[t] = off[t] != 0.0f ? 1.0f - epsilon + share : 1.0f;
        off[t] = off[t] != 0.0f ? share : 0.0f;
    }
}

/* Set the weights of pixels with probabilities; pixels to ignore get 0. */
static void weigh_probs(const job *j, const target *y, const target_tile *read, int64_t n,
                        int64_t row, int64_t column, int64_t size) {
    float *restrict w = read->w, *restrict differs = read->off;
    for (int64_t t = 0; t < size; t++) w[t] = 1.0f;
    if (y->flags.data && !y->flags.channel)
        read_floats(&y->flags, place(&y->flags, n, 0, row, column), size, w);
    int integers = y->values.type >= UINT8; /* one-hot */
    if (y->independent || !(integers || y->ignores)) return;
    float ignore = (float)y->ignore;
    for (int64_t t = 0; t < size; t++) differs[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *given = read->y + c * read->pitch;
        for (int64_t t = 0; t < size; t++) {
            differs[t] = given[t] != ignore ? 1.0f : differs[t];
            if (integers) w[t] = given[t] == 0.0f || given[t] == 1.0f ? w[t] : -1.0f;
        }
    }
    if (y->ignores) /* pixels that have this value in every class */
        for (int64_t t = 0; t < size; t++) w[t] = differs[t] != 0.0f ? w[t] : 0.0f;
}

/* Interpolate a low-resolution map (h, w) vertically at row `row`: low (w + 1). */
static void read_low_row(const taps *at, const tensor *map, int64_t n, int64_t c, int64_t row,
                         float *restrict low, float *restrict other) {
    int64_t first = at->row_first[row], next = first + 1 < at->h ? first + 1 : first;
    float share = at->row_share[row];
    read_floats(map, place(map, n, c, first, 0), at->w, low);
    read_floats(map, place(map, n, c, next, 0), at->w, other);
    for (int64_t x = 0; x < at->w; x++) low[x] = (1.0f - share) * low[x] + share * other[x];
    low[at->w] = low[at->w - 1];
}

/* Interpolate such a row horizontally at the pixels of a tile. */
static void interpolate(const taps *at, const float *low, int64_t column, int64_t size,
                        float *restrict to) {
    const float *share = at->column_share + column;
    const int32_t *first = at->column_first + column;
    for (int64_t t = 0; t < size; t++)
        to[t] = (1.0f - share[t]) * low[first[t]] + share[t] * low[first[t] + 1];
}

/* Add `value` to the mark of a class in a pixel, whose marks begin at index `first`. */
static void add_mark(target_tile *y, int64_t first, int64_t t, int32_t class, float value) {
    int64_t i = first;
    while (i < y->marks && y->class[i] != class) i++;
    if (i == y->marks) {
        y->at[i] = (int32_t)t, y->class[i] = class, y->value[i] = 0.0f;
        y->marks++;
    }
    y->value[i] += value;
}

enum { CHUNK = 64 };

/* Separate functions with `restrict` and a fixed length, so that the compiler vectorises them; the
 * buffers of the ballots are padded to this length. */
__attribute__((noinline)) static void extremes(const int32_t *restrict v, int32_t *restrict most, int32_t *restrict least) {
    for (int64_t t = 0; t < CHUNK; t++) {
        most[t] = v[t] > most[t] ? v[t] : most[t];
        /* as an unsigned number, -1 is the largest */
        least[t] = (uint32_t)v[t] < (uint32_t)least[t] ? v[t] : least[t];
    }
}

__attribute__((noinline)) static void divide_ballot(const int32_t *restrict v, float weight, const int32_t *restrict most,
                          const int32_t *restrict least, float *restrict upper,
                          float *restrict lower, int32_t *restrict between) {
#pragma omp simd
    for (int64_t t = 0; t < CHUNK; t++) {
        upper[t] += weight * (float)(v[t] == most[t]);
        lower[t] += weight * (float)(v[t] == least[t]);
        between[t] |= (int32_t)(v[t] > least[t]) & (int32_t)(v[t] < most[t]);
    }
}

/* Compute the vote shares of a chunk in which ballots differ. `most` and `least` are the largest
 * and the smallest class of each pixel; usually there are only these two. */
static void divide_votes(const scratch *s, target_tile *y, int64_t ballots, int64_t start,
                         int64_t length, const int32_t *most, const int32_t *least) {
    float upper[CHUNK] = {0}, lower[CHUNK] = {0};
    int32_t between[CHUNK] = {0};
    for (int64_t b = 0; b < ballots; b++)
        divide_ballot(s->ballots[b].label + start, s->ballots[b].weight, most, least, upper, lower,
                      between);
    for (int64_t t = 0; t < length; t++) {
        if (most[t] == least[t] || !(y->w[start + t] > 0.0f)) continue;
        int64_t first = y->marks;
        float mass = upper[t] + lower[t];
        y->marked[start + t] = 1.0f, y->on[start + t] = 0.0f;
        add_mark(y, first, start + t, most[t], upper[t]);
        add_mark(y, first, start + t, least[t], lower[t]);
        if (between[t])
            for (int64_t b = 0; b < ballots; b++) {
                int32_t v = s->ballots[b].label[start + t];
                if (v <= least[t] || v >= most[t]) continue;
                add_mark(y, first, start + t, v, s->ballots[b].weight);
                mass += s->ballots[b].weight;
            }
        for (int64_t i = first; i < y->marks; i++) y->value[i] /= mass;
    }
}

/* Compute the vote shares: a label for pixels in which the ballots agree, marks for the others. A
 * pixel is valid if `own` is a class; without `own`, if there is any vote. */
static void count_votes(scratch *s, target_tile *y, int64_t ballots, const int32_t *own,
                        int64_t size) {
    for (int64_t t = 0; t < size; t++) y->marked[t] = y->off[t] = 0.0f, y->on[t] = 1.0f;
    for (int64_t start = 0; start < size; start += CHUNK) {
        int64_t length = size - start < CHUNK ? size - start : CHUNK;
        int32_t most[CHUNK], least[CHUNK], differ = 0;
        for (int64_t t = 0; t < CHUNK; t++) most[t] = least[t] = -1;
        for (int64_t b = 0; b < ballots; b++) extremes(s->ballots[b].label + start, most, least);
        for (int64_t t = 0; t < length; t++) {
            int32_t counts = own ? own[start + t] : most[t];
            y->w[start + t] = counts >= 0 ? 1.0f : 0.0f;
            y->label[start + t] = counts >= 0 ? most[t] : 0;
            differ |= most[t] != least[t];
        }
        if (differ) divide_votes(s, y, ballots, start, length, most, least);
    }
}

/* Read a line of labels, with -1 for ignored ones and for the `before` and `after` pixels that are
 * outside the image. */
static void read_ballot(const job *j, scratch *s, const target *y, int64_t n, int64_t channel,
                        int64_t row, int64_t column, int64_t size, int64_t before, int64_t after,
                        int32_t *restrict label) {
    float *restrict w = s->line;
    int64_t classes = j->C > 1 ? j->C : 2, last = size - after;
    int invalid = 0;
    for (int64_t t = 0; t < before; t++) label[t] = -1;
    for (int64_t t = last; t < size; t++) label[t] = -1;
    const void *from = place(&y->values, n, channel, row, column + before);
    if (read_labels(y, from, last - before, classes, label + before, w)) return;
    for (int64_t t = before; t < last; t++) {
        label[t] = w[t - before] > 0.0f ? label[t] : -1;
        invalid |= w[t - before] < 0.0f;
    }
    if (invalid) *j->invalid = 1;
}

static void read_votes(const job *j, scratch *s, const target *y, target_tile *read, int64_t n,
                       int64_t row, int64_t column, int64_t size) {
    for (int64_t r = 0; r < y->depth; r++) {
        int32_t *label = s->lines + r * (j->tile + CHUNK);
        read_ballot(j, s, y, n, r, row, column, size, 0, 0, label);
        s->ballots[r] = (ballot){label, 1.0f};
    }
    count_votes(s, read, y->depth, NULL, size);
}

/* Read the labels of the neighbours, with the weights of the Gaussian. */
static void read_gaussian(const job *j, scratch *s, const target *y, target_tile *read, int64_t n,
                          int64_t row, int64_t column, int64_t size) {
    int64_t width = y->depth, window = 2 * width + 1, length = size + 2 * width;
    int64_t left = column - width, right = column + size + width - j->columns;
    int64_t before = left < 0 ? -left : 0, after = right > 0 ? right : 0;
    for (int64_t i = 0; i < window; i++) {
        int32_t *label = s->lines + i * (j->tile + 2 * width + CHUNK);
        int64_t there = row + i - width;
        if (there >= 0 && there < j->rows)
            read_ballot(j, s, y, n, 0, there, left, length, before, after, label);
        else
            for (int64_t t = 0; t < length; t++) label[t] = -1;
        for (int64_t o = 0; o < window; o++)
            s->ballots[i * window + o] = (ballot){label + o, y->window[i * window + o]};
    }
    count_votes(s, read, window * window, s->ballots[window * window / 2].label, size);
}

/* Read the classes of a sparse target and their weights; the rest is spread over all classes. */
static void read_sparse(const job *j, scratch *s, const target *y, target_tile *read, float *to,
                        int64_t n, int64_t row, int64_t column, int64_t size) {
    float *restrict w = read->w, *restrict total = s->any, *restrict share = read->on;
    float whole = 1.0f - (float)y->epsilon, unit = y->shares.type == UINT8 ? 1.0f / 255.0f : 1.0f;
    float most = 1.0f + (unit < 1.0f ? 1e-6f + (float)y->depth / 510.0f : 1e-2f);
    int invalid = 0;
    for (int64_t t = 0; t < size; t++) w[t] = 1.0f, total[t] = 0.0f;
    for (int64_t k = 0; k < y->depth; k++) {
        const void *classes = place(&y->values, n, k, row, column);
        int all = read_labels(y, classes, size, j->C, read->label, read->off);
        read_floats(&y->shares, place(&y->shares, n, k, row, column), size, share);
        for (int64_t t = 0; t < size; t++) total[t] += share[t], invalid |= !(share[t] >= 0.0f);
        invalid |= !all;
        for (int64_t t = 0; !all && t < size; t++) w[t] = read->off[t] > 0.0f ? w[t] : 0.0f;
    }
    for (int64_t t = 0; t < size; t++) {
        float mass = total[t] * unit;
        invalid |= (w[t] > 0.0f) & !(mass < most);
        to[t] = mass > whole ? 0.0f : (1.0f - mass) / (float)j->C;
        total[t] = mass > whole ? 1.0f / total[t] : unit;
    }
    if (invalid) *j->invalid = 1;
    for (int64_t c = 1; c < j->C; c++) memcpy(to + c * j->tile, to, (size_t)size * 4);
    for (int64_t k = 0; k < y->depth; k++) {
        const void *classes = place(&y->values, n, k, row, column);
        read_labels(y, classes, size, j->C, read->label, read->off);
        read_floats(&y->shares, place(&y->shares, n, k, row, column), size, share);
        for (int64_t t = 0; t < size; t++) share[t] *= total[t];
        for (int64_t t = 0; t < size; t++) to[read->label[t] * j->tile + t] += share[t];
    }
}

/* Compute softmax(logits / temperature) of a teacher: (C, tile). */
static void read_teacher(const job *j, scratch *s, const target *y, float *to, int64_t n,
                         int64_t row, int64_t column, int64_t size) {
    float *restrict most = s->most, *restrict sum = s->sum, inverse = (float)y->epsilon;
    for (int64_t c = 0; c < j->C; c++) {
        float *restrict z = to + c * j->tile;
        if (y->low.h) {
            read_low_row(&y->low, &y->values, n, c, row, s->line, s->line + y->low.w + 1);
            interpolate(&y->low, s->line, column, size, z);
        } else {
            read_floats(&y->values, place(&y->values, n, c, row, column), size, z);
        }
        for (int64_t t = 0; t < size; t++) {
            z[t] *= inverse;
            most[t] = c && most[t] > z[t] ? most[t] : z[t];
        }
    }
    for (int64_t t = 0; t < size; t++) sum[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        float *restrict z = to + c * j->tile;
        for (int64_t t = 0; t < size; t++) {
            z[t] = exp_(z[t] - most[t]);
            sum[t] += z[t];
        }
    }
    for (int64_t t = 0; t < size; t++) sum[t] = 1.0f / sum[t];
    for (int64_t c = 0; c < j->C; c++) {
        float *restrict z = to + c * j->tile;
        for (int64_t t = 0; t < size; t++) z[t] *= sum[t];
    }
}

/* Convert labels and marks to probabilities (C, tile). For a single class, label 1 is the class. */
static void write_out(const job *j, target_tile *y, int64_t size, float *to) {
    int32_t one = j->C == 1, *restrict label = y->label;
    for (int64_t c = 0; c < j->C; c++) memcpy(to + c * j->tile, y->off, (size_t)size * 4);
    for (int64_t t = 0; t < size; t++)
        if (label[t] >= one) to[(label[t] - one) * j->tile + t] = y->on[t];
    for (int64_t i = 0; i < y->marks; i++)
        if (y->class[i] >= one) to[(y->class[i] - one) * j->tile + y->at[i]] = y->value[i];
    y->y = to, y->pitch = j->tile;
}

/* Read one target in a tile: its weights, and its labels, marks or probabilities. Returns whether
 * every pixel is known to have the weight 1. */
static int read_target(const job *j, scratch *s, int64_t k, int64_t n, int64_t row,
                       int64_t column, int64_t size) {
    const target *y = &j->targets[k];
    float *to = s->y + k * j->C * j->tile;
    target_tile *read = &s->read[k];
    int all = !y->flags.data && !y->ignores && y->values.type < UINT8, way = way_of(j);
    int64_t classes = j->C > 1 ? j->C : 2;
    read->marks = read->smoothed = 0, read->y = NULL;
    if (y->kind == VOTES || y->kind == GAUSSIAN) {
        if (y->kind == VOTES) read_votes(j, s, y, read, n, row, column, size);
        else read_gaussian(j, s, y, read, n, row, column, size);
        /* Many marks, processed one by one, would be slower than probabilities of all classes. */
        if (writes_out(j, y) || read->marks > size / 2) write_out(j, read, size, to);
        return 0;
    }
    if (y->kind == LABELS) {
        const void *from = place(&y->values, n, 0, row, column);
        all = read_labels(y, from, size, classes, read->label, read->w);
        read->smoothed = way != BINARY && way != HARD;
        if (read->smoothed) read_shares(j, y, n, row, column, size, read->on, read->off);
        if (writes_out(j, y)) write_out(j, read, size, to);
        return all;
    }
    read->y = to, read->pitch = j->tile;
    if (y->kind == SPARSE) {
        read_sparse(j, s, y, read, to, n, row, column, size);
        return 0;
    }
    if (y->kind == TEACHER) {
        read_teacher(j, s, y, to, n, row, column, size);
    } else if (y->values.type == FLOAT32 && y->values.column == 1) {
        read->y = place(&y->values, n, 0, row, column);
        read->pitch = y->values.channel;
    } else {
        for (int64_t c = 0; c < j->C; c++)
            read_floats(&y->values, place(&y->values, n, c, row, column), size, to + c * j->tile);
    }
    weigh_probs(j, y, read, n, row, column, size);
    return all;
}

/* Compute `unmarked`, the weights without pixels that have marks, after the weights are known. */
static void settle(target_tile *y, int64_t size) {
    y->unmarked = y->marks ? y->marked : y->w;
    for (int64_t t = 0; y->marks && t < size; t++) y->unmarked[t] = y->marked[t] != 0.0f ? 0.0f : y->w[t];
}

/* Multiply the weights of a target by those of the job. Returns whether all are above 0. */
static int weigh(const job *j, scratch *s, int64_t k, int64_t n, int64_t row, int64_t column,
                 int64_t size) {
    float *restrict w = s->read[k].w, *given = s->dot;
    if (j->valid.data) {
        read_floats(&j->valid, place(&j->valid, n, 0, row, column), size, given);
        for (int64_t t = 0; t < size; t++) w[t] = given[t] != 0.0f ? w[t] : 0.0f;
    }
    if (j->weights.data) {
        read_floats(&j->weights, place(&j->weights, n, 0, row, column), size, given);
        for (int64_t t = 0; t < size; t++) w[t] = w[t] > 0.0f ? given[t] : w[t];
    }
    int all = 1, invalid = 0;
    for (int64_t t = 0; t < size; t++) {
        all &= w[t] > 0.0f;
        invalid |= !(w[t] >= 0.0f);
    }
    if (invalid) {
        *j->invalid = 1;
        for (int64_t t = 0; t < size; t++) w[t] = w[t] >= 0.0f ? w[t] : 0.0f;
    }
    return all;
}

/* Interpolate the logits of all classes vertically at row `row`: (C, h, w) -> low (C, w + 1). */
static void read_low(const job *j, scratch *s, int64_t n, int64_t row) {
    for (int64_t c = 0; c < j->C; c++)
        read_low_row(&j->low, &j->logits, n, c, row, s->low + c * (j->low.w + 1), s->other);
}

typedef struct {
    const float *data;
    int64_t pitch;
} rows_of;

/* The logits (C, tile) of a tile: used in place if possible, otherwise converted in the buffer. */
static rows_of read_logits(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                           int64_t size, int all) {
    int in_place = !j->low.h && j->logits.type == FLOAT32 && j->logits.column == 1 && all;
    if (in_place)
        return (rows_of){place(&j->logits, n, 0, row, column), j->logits.channel};
    for (int64_t c = 0; c < j->C; c++) {
        float *z = s->z + c * j->tile;
        if (j->low.h) {
            interpolate(&j->low, s->low + c * (j->low.w + 1), column, size, z);
        } else {
            read_floats(&j->logits, place(&j->logits, n, c, row, column), size, z);
        }
        if (!all) /* set logits of ignored pixels to 0, because 0 times NaN is NaN */
            for (int64_t t = 0; t < size; t++) z[t] = s->any[t] > 0.0f ? z[t] : 0.0f;
    }
    return (rows_of){s->z, j->tile};
}

/* Compute p = exp(z - most) and its sum over the classes; with `u`, also dot = sum_c u_c p_c.
 * Returns the largest |z|. */
static float exponentials(const job *j, scratch *s, rows_of z, int64_t size, const float *u) {
    const float *most = s->most;
    float *restrict sum = s->sum, *restrict dot = s->dot, largest = 0.0f;
    for (int64_t t = 0; t < size; t++) sum[t] = dot[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *row = z.data + c * z.pitch;
        float *restrict p = s->p + c * j->tile;
        float factor = u ? u[c] : 0.0f;
        if (c + 1 < j->C) /* prefetch the next class */
            for (int64_t t = 0; t < size; t += 16)
                __builtin_prefetch(row + z.pitch + t, 0, 2);
#pragma omp simd reduction(max : largest)
        for (int64_t t = 0; t < size; t++) {
            float e = exp_(row[t] - most[t]), absolute = fabsf(row[t]);
            p[t] = e;
            sum[t] += e;
            dot[t] += factor * e;
            largest = absolute > largest ? absolute : largest;
        }
    }
    return largest;
}

/* Compute the softmax without the division. First try without subtracting the maximum, which saves
 * a third of the passes over the tile; if a logit is too large for this, do it again with the
 * maximum. */
static void softmax(const job *j, scratch *s, rows_of z, int64_t size, const float *u) {
    float *most = s->most;
    for (int64_t t = 0; t < size; t++) most[t] = 0.0f;
    if (exponentials(j, s, z, size, u) < 70.0f) return;
    memcpy(most, z.data, (size_t)size * 4);
    for (int64_t c = 1; c < j->C; c++) {
        const float *row = z.data + c * z.pitch;
        for (int64_t t = 0; t < size; t++) most[t] = row[t] > most[t] ? row[t] : most[t];
    }
    exponentials(j, s, z, size, u);
}

/* Compute exp(-|x|) of a row, with x = one - two or x = one. A separate loop is faster: combined
 * with the code that uses it, the dependency chain of a pixel would be too long for the processor
 * to overlap pixels. */
static const float *decays(scratch *s, const float *one, const float *two, int64_t size) {
    float *restrict e = s->most;
    if (two) for (int64_t t = 0; t < size; t++) e[t] = exp_(-fabsf(one[t] - two[t]));
    else for (int64_t t = 0; t < size; t++) e[t] = exp_(-fabsf(one[t]));
    return e;
}

/* sigmoid(x), sigmoid(-x), and -log of both, computed from e = exp(-|x|). */
typedef struct {
    float p, q, cost, other;
} sides;

INLINE sides sides_of(float x, float e, int costs) {
    float large = 1.0f / (1.0f + e), small = e * large;
    sides found = {x >= 0.0f ? large : small, x >= 0.0f ? small : large, 0.0f, 0.0f};
    if (costs) {
        float log = log1p_(e);
        found.cost = log + (x < 0.0f ? -x : 0.0f);
        found.other = log + (x < 0.0f ? 0.0f : x);
    }
    return found;
}

/* A softmax of two classes, from one exponential. */
static void pair(const job *j, scratch *s, rows_of z, int64_t size) {
    const float *one = z.data, *two = z.data + z.pitch;
    const float *e = decays(s, one, two, size);
    float *restrict p = s->p, *restrict q = s->p + j->tile;
    for (int64_t t = 0; t < size; t++) {
        sides of = sides_of(one[t] - two[t], e[t], 0);
        p[t] = of.p, q[t] = of.q;
        s->sum[t] = 1.0f;
    }
}

/* Read targets and logits of a tile, and compute the softmax (not yet divided by its sum). */
static rows_of begin(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                     int64_t size, const float *u) {
    int all = 0;
    for (int64_t k = 0; k < j->K; k++) {
        int plain = read_target(j, s, k, n, row, column, size) && !j->valid.data && !j->weights.data;
        s->read[k].whole = plain;
        plain = plain || weigh(j, s, k, n, row, column, size);
        settle(&s->read[k], size);
        all |= plain;
    }
    if (!all) {
        for (int64_t t = 0; t < size; t++) s->any[t] = 0.0f;
        for (int64_t k = 0; k < j->K; k++)
            for (int64_t t = 0; t < size; t++)
                s->any[t] = s->read[k].w[t] > 0.0f ? 1.0f : s->any[t];
    }
    rows_of z = read_logits(j, s, n, row, column, size, all);
    int way = way_of(j);
    if (way == PAIR) pair(j, s, z, size);
    else if (way == HARD || way == ANY) softmax(j, s, z, size, u);
    return z;
}

static void sum_maxima(const job *j, scratch *s, int64_t k, int64_t size, double *sums) {
    const target_tile *y = &s->read[k];
    for (int64_t c = 0; c < j->C; c++) {
        const float *p = s->p + c * j->tile;
        float p_max = 0.0f, y_max = 0.0f;
        for (int64_t t = 0; t < size; t++) {
            float on = y->smoothed ? y->on[t] : 1.0f, off = y->smoothed ? y->off[t] : 0.0f;
            on = y->unmarked[t] > 0.0f ? on : 0.0f;
            float value = y->y ? y->y[c * y->pitch + t] : y->label[t] == c ? on : off;
            float prob = p[t] / s->sum[t];
            if (y->w[t] > 0.0f && prob > p_max) p_max = prob;
            if (y->w[t] > 0.0f && value > y_max) y_max = value;
        }
        double *found = sums + c * SUMS;
        if (p_max > found[P_MAX]) found[P_MAX] = p_max;
        if (y_max > found[Y_MAX]) found[Y_MAX] = y_max;
    }
    if (y->y) return;
    for (int64_t i = 0; i < y->marks; i++) {
        double *y_max = &sums[y->class[i] * SUMS + Y_MAX];
        if (y->w[y->at[i]] > 0.0f && y->value[i] > *y_max) *y_max = y->value[i];
    }
}

/* Sums per label are accumulated in four alternating banks: adjacent pixels often have the same
 * label, and an addition to the same sum would have to wait for the previous one. */
enum { BANKS = 4 };

static void fold_banks(const job *j, scratch *s, int value, double *sums, int at) {
    double *bank = s->banks + value * BANKS * j->C;
    for (int64_t c = 0; c < j->C; c++)
        for (int b = 0; b < BANKS; b++) sums[c * SUMS + at] += bank[b * j->C + c];
}

/* Compute log sum_c exp z_c of each pixel. */
static void log_sums(const job *j, scratch *s, rows_of z, int64_t size) {
    const float *one = z.data, *two = z.data + z.pitch;
    if (way_of(j) == PAIR) {
        const float *e = decays(s, one, two, size);
        for (int64_t t = 0; t < size; t++)
            s->entropy[t] = (one[t] > two[t] ? one[t] : two[t]) + log1p_(e[t]);
    } else
        for (int64_t t = 0; t < size; t++) s->entropy[t] = log_(s->sum[t]) + s->most[t];
}

/* Sums of a hard target. D is the predicted mass of other classes plus the mass missing at the
 * label, which avoids the cancellation of large numbers. Entries without label or mark need one
 * product. */
static double sum_hard(const job *j, scratch *s, rows_of z, int64_t size, double *sums) {
    const target_tile *y = &s->read[0];
    float *restrict scale = s->scale, gamma = (float)j->gamma;
    int64_t banks = BANKS * j->C;
    double weight = 0.0;
    memset(s->banks, 0, (size_t)((y->marks ? 8 : 3) * banks) * sizeof(double));
    for (int64_t t = 0; t < size; t++) scale[t] = 1.0f / s->sum[t];
    if (j->cross_entropy) log_sums(j, s, z, size);
    for (int64_t i = 0; i < y->marks; i++) {
        int64_t c = y->class[i], t = y->at[i];
        float *entry = s->p + c * j->tile + t, w = y->w[t], p = *entry * scale[t], on = y->value[i];
        double *bank = s->banks + (i % BANKS) * j->C + c;
        *entry = 0.0f;
        if (!(w > 0.0f)) continue;
        if (j->cross_entropy) bank[2 * banks] += w * on * (s->entropy[t] - z.data[c * z.pitch + t]);
        bank[3 * banks] += w * p;
        bank[4 * banks] += w * on;
        bank[5 * banks] += w * fabsf(p - on);
        bank[6 * banks] += w * p * on;
        bank[7 * banks] += w * (p < on ? p : on);
    }
    for (int64_t t = 0; t < size; t++) {
        int64_t c = y->label[t];
        float *entry = s->p + c * j->tile + t, w = y->unmarked[t], p = *entry * scale[t];
        double *bank = s->banks + (t % BANKS) * j->C + c;
        bank[0] += w * p;
        bank[banks] += w;
        *entry = 0.0f;
        if (j->cross_entropy) {
            float cost = s->entropy[t] - z.data[c * z.pitch + t];
            if (gamma != 0.0f) cost *= pow_(1.0f - p, gamma);
            bank[2 * banks] += w > 0.0f ? w * cost : 0.0f;
        }
    }
    for (int64_t t = 0; t < size; t++) scale[t] *= y->w[t];
    for (int64_t c = 0; c < j->C; c++) {
        const float *p = s->p + c * j->tile;
        float others = 0.0f;
        double hit = 0.0, mass = 0.0, *found = sums + c * SUMS;
#pragma omp simd reduction(+ : others)
        for (int64_t t = 0; t < size; t++) others += p[t] * scale[t];
        for (int b = 0; b < BANKS; b++) {
            hit += s->banks[b * j->C + c];
            mass += s->banks[(BANKS + b) * j->C + c];
        }
        found[P] += others + hit;
        found[Y] += mass;
        found[D] += others + (mass - hit);
        found[M] += hit;
        found[T] += hit;
        weight += mass;
    }
    if (j->cross_entropy) fold_banks(j, s, 2, sums, E);
    if (!y->marks) return weight;
    for (int value = P; value <= T; value++) fold_banks(j, s, 3 + value, sums, value);
    weight = 0.0;
    for (int64_t t = 0; t < size; t++) weight += y->w[t];
    return weight;
}

/* Sums of labels, smoothed or not: y is `on` at the label and `off` elsewhere. p at the label is
 * set to `off` temporarily, so that the loop over the classes can treat all entries alike. */
static double sum_labels(const job *j, scratch *s, rows_of z, int64_t k, int64_t size,
                         double *sums) {
    const target_tile *y = &s->read[k];
    const float *w = y->w, *on = y->on, *off = y->off;
    float *restrict scale = s->scale, *restrict share = s->any, *restrict kept = s->dot;
    int64_t banks = BANKS * j->C;
    double weight = 0.0, spread = 0.0;
    memset(s->banks, 0, (size_t)(6 * banks) * sizeof(double));
    if (j->cross_entropy) log_sums(j, s, z, size);
    for (int64_t t = 0; t < size; t++) {
        int64_t c = y->label[t];
        float *entry = s->p + c * j->tile + t, p = *entry / s->sum[t];
        double *bank = s->banks + (t % BANKS) * j->C + c;
        kept[t] = *entry;
        *entry = off[t] * s->sum[t];
        scale[t] = w[t] / s->sum[t];
        share[t] = w[t] * off[t];
        bank[0] += w[t] * (p - off[t]);
        bank[banks] += w[t] * (on[t] - off[t]);
        bank[2 * banks] += w[t] * fabsf(p - on[t]);
        bank[3 * banks] += w[t] * (p * on[t] - off[t] * off[t]);
        bank[4 * banks] += w[t] * ((p < on[t] ? p : on[t]) - off[t]);
        if (j->cross_entropy && w[t] > 0.0f && on[t] > off[t])
            bank[5 * banks] += w[t] * (on[t] - off[t]) * (s->entropy[t] - z.data[c * z.pitch + t]);
        spread += share[t];
        weight += w[t];
    }
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile, *row = z.data + c * z.pitch;
        float sP = 0, sD = 0, sM = 0, sT = 0, sE = 0;
#pragma omp simd reduction(+ : sP, sD, sM, sT)
        for (int64_t t = 0; t < size; t++) {
            float p = e[t] * scale[t];
            sP += p;
            sD += fabsf(p - share[t]);
            sM += p * off[t];
            sT += p < share[t] ? p : share[t];
        }
        if (j->cross_entropy) {
#pragma omp simd reduction(+ : sE)
            for (int64_t t = 0; t < size; t++)
                sE += share[t] > 0.0f ? share[t] * (s->entropy[t] - row[t]) : 0.0f;
        }
        double *found = sums + c * SUMS;
        found[P] += sP;
        found[Y] += spread;
        found[D] += sD;
        found[M] += sM;
        found[T] += sT;
        found[E] += sE;
    }
    for (int value = P; value <= E; value++) fold_banks(j, s, value, sums, value);
    for (int64_t t = 0; t < size; t++) s->p[y->label[t] * j->tile + t] = kept[t];
    return weight;
}

/* The smoothed target of the cross-entropy, and the focal factor. */
INLINE float smoothed(float y, float keep, float share) { return keep * y + share; }

INLINE float focus(float p, float y, float gamma) {
    return gamma == 0.0f ? 1.0f : pow_(fabsf(p - y), gamma);
}

/* Sums of a row of probabilities; specialised by the compiler for the constant arguments. */
INLINE int add_probs(const float *e, const float *given, const float *z, const float *w,
                     const float *scale, const float *entropy, float *restrict mass, int64_t size,
                     int weighted, int costs, double *to) {
    float sP = 0, sY = 0, sD = 0, sM = 0, sT = 0, sE = 0;
    int invalid = 0;
#pragma omp simd reduction(+ : sP, sY, sD, sM, sT, sE) reduction(| : invalid)
    for (int64_t t = 0; t < size; t++) {
        float weight = weighted ? w[t] : 1.0f;
        float p = e[t] * scale[t], y = !weighted || weight > 0.0f ? given[t] : 0.0f;
        sP += weight * p;
        sY += weight * y;
        sD += weight * fabsf(p - y);
        sM += weight * p * y;
        sT += weight * (p < y ? p : y);
        if (costs) sE += y != 0.0f ? weight * y * (entropy[t] - z[t]) : 0.0f;
        mass[t] += y;
        invalid |= !(y >= 0.0f);
    }
    float found[] = {sP, sY, sD, sM, sT, sE};
    for (int i = 0; i < 6; i++) to[i] += found[i];
    return invalid;
}

/* Sums of a target of probabilities. */
static double sum_probs(const job *j, scratch *s, rows_of z, int64_t k, int64_t size,
                        double *sums) {
    const target_tile *read = &s->read[k];
    const float *w = read->w, *entropy = s->entropy;
    float *restrict scale = s->scale, *restrict mass = s->any;
    float keep = 1.0f - (float)j->smoothing, share = (float)j->smoothing / (float)j->C;
    float gamma = (float)j->gamma, weight = 0.0f;
    int invalid = 0, weighted = 0, focal = j->cross_entropy && (gamma != 0.0f || share != 0.0f);
    for (int64_t t = 0; t < size; t++) {
        scale[t] = 1.0f / s->sum[t], mass[t] = 0.0f;
        weighted |= w[t] != 1.0f;
    }
    if (j->cross_entropy) log_sums(j, s, z, size);
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile, *given = read->y + c * read->pitch;
        const float *row = z.data + c * z.pitch;
        double *to = sums + c * SUMS;
        int costs = j->cross_entropy && !focal;
#define ADD(W, COSTS) add_probs(e, given, row, w, scale, entropy, mass, size, W, COSTS, to)
        invalid |= weighted ? (costs ? ADD(1, 1) : ADD(1, 0)) : costs ? ADD(0, 1) : ADD(0, 0);
#undef ADD
        if (!focal) continue;
        float sE = 0;
#pragma omp simd reduction(+ : sE)
        for (int64_t t = 0; t < size; t++) {
            float p = e[t] * scale[t], y = smoothed(w[t] > 0.0f ? given[t] : 0.0f, keep, share);
            float cost = w[t] * y * focus(p, y, gamma) * (entropy[t] - row[t]);
            sE += (w[t] > 0.0f) & (y != 0.0f) ? cost : 0.0f;
        }
        to[E] += sE;
    }
    for (int64_t t = 0; t < size; t++) {
        weight += w[t];
        invalid |= w[t] > 0.0f && !(fabsf(mass[t] - 1.0f) <= 1e-2f);
    }
    if (invalid) *j->invalid = 1;
    return weight;
}

/* The logit of the labelled outcome against the other one: +-z, or the difference of two logits. */
INLINE float margin(const float *z, const float *other, float label, int64_t t, int two) {
    float x = two ? z[t] - other[t] : z[t];
    return label > 0.0f ? x : -x;
}

/* Return int64 labels that can be used in place (contiguous, all valid), or NULL. They are
 * prefetched here, while `two_outcomes` computes the exponentials. */
static const int64_t *labels_in_place(const job *j, int64_t n, int64_t row, int64_t column,
                                      int64_t size) {
    const target *y = &j->targets[0];
    int ignores = y->ignores && (y->ignore == 0 || y->ignore == 1);
    int all = !ignores && !j->valid.data && !j->weights.data && j->gamma == 0.0;
    if (!all || way_of(j) != BINARY || y->values.type != INT64 || y->values.column != 1) return NULL;
    const int64_t *longs = place(&y->values, n, 0, row, column);
    for (int64_t t = 0; t < size; t += 8) __builtin_prefetch(longs + t);
    return longs;
}

/* The input of a tile of labels with two outcomes; the labels are `longs`, or else in `read`. */
typedef struct {
    const float *own, *other, *e;
    const int64_t *longs;
    int two;
} outcomes;

/* `longs` becomes NULL if a label is out of range: then labels and weights have to be read. */
static outcomes two_outcomes(const job *j, scratch *s, rows_of z, const int64_t *longs,
                             int64_t size) {
    outcomes of = {z.data + (j->C - 1) * z.pitch, z.data, NULL, longs, j->C == 2};
    int64_t bits = 0;
    of.e = decays(s, of.own, of.two ? of.other : NULL, size);
    for (int64_t t = 0; longs && t < size; t++) bits |= longs[t];
    if (bits >> 1) of.longs = NULL;
    return of;
}

/* The same for a tile whose labels can be used in place; otherwise `longs` is NULL. */
static outcomes outcomes_in_place(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                                  int64_t size) {
    outcomes of = {.longs = labels_in_place(j, n, row, column, size)};
    if (!of.longs) return of;
    return two_outcomes(j, s, read_logits(j, s, n, row, column, size, 1), of.longs, size);
}

/* Sums of labels with two outcomes; specialised by the compiler for the constant arguments. The
 * labels are `longs`, with weight 1, or those in `label`. */
INLINE void add_binary(outcomes x, const int32_t *label, const float *w, int64_t size, int in_place,
                       float gamma, int two, int costs, double *to) {
    const float *z = x.own, *other = x.other, *e = x.e;
    const int64_t *longs = x.longs;
    float hit1 = 0, hit0 = 0, miss1 = 0, miss0 = 0, mass1 = 0, mass0 = 0, cost1 = 0, cost0 = 0;
#pragma omp simd reduction(+ : hit1, hit0, miss1, miss0, mass1, mass0, cost1, cost0)
    for (int64_t t = 0; t < size; t++) {
        float is1 = (float)(in_place ? (int32_t)longs[t] : label[t]);
        float weight = in_place ? 1.0f : w[t];
        sides of = sides_of(margin(z, other, is1, t, two), e[t], costs);
        float w1 = weight * is1, w0 = weight - w1;
        hit1 += w1 * of.p, hit0 += w0 * of.p;
        miss1 += w1 * of.q, miss0 += w0 * of.q;
        mass1 += w1, mass0 += w0;
        if (costs) {
            float cost = gamma == 0.0f ? of.cost : of.cost * pow_(of.q, gamma);
            cost1 += w1 > 0.0f ? w1 * cost : 0.0f, cost0 += w0 > 0.0f ? w0 * cost : 0.0f;
        }
    }
    float found[] = {hit1, hit0, miss1, miss0, mass1, mass0, cost1, cost0};
    for (int i = 0; i < 8; i++) to[i] += found[i];
}

static double sum_binary(const job *j, scratch *s, outcomes x, int64_t size, double *sums) {
    const target_tile *y = &s->read[0];
    float gamma = (float)j->gamma;
    double of[8] = {0};
    int costs = (int)j->cross_entropy, two = x.two;
#define ADD(IN_PLACE, GAMMA, TWO, COSTS) \
    add_binary(x, y->label, y->w, size, IN_PLACE, GAMMA, TWO, COSTS, of)
#define ADD_ONE_OR_TWO(IN_PLACE, COSTS)         \
    do {                                        \
        if (two) ADD(IN_PLACE, 0.0f, 1, COSTS); \
        else ADD(IN_PLACE, 0.0f, 0, COSTS);     \
    } while (0)
    if (costs && gamma != 0.0f) ADD(0, gamma, two, 1);
    else if (x.longs && costs) ADD_ONE_OR_TWO(1, 1);
    else if (x.longs) ADD_ONE_OR_TWO(1, 0);
    else if (costs) ADD_ONE_OR_TWO(0, 1);
    else ADD_ONE_OR_TWO(0, 0);
#undef ADD_ONE_OR_TWO
#undef ADD
    for (int64_t c = 0; c < j->C; c++) {
        int off = two && c == 0; /* 1 for the class of label 0 */
        double *found = sums + c * SUMS, hit = of[off], wrong = of[3 - off];
        found[P] += hit + wrong;
        found[Y] += of[4 + off];
        found[D] += of[2] + of[3];
        found[M] += hit;
        found[T] += hit;
        found[E] += of[6 + off];
        if (!two) found[F] += of[7];
    }
    return of[4] + of[5];
}

/* Sums of two classes against probabilities. */
INLINE int add_two(const float *one, const float *two, const float *e, const float *y0,
                   const float *y1, const float *w, int64_t size, int weighted, int costs,
                   double *to) {
    float sP0 = 0, sY0 = 0, sD0 = 0, sM0 = 0, sT0 = 0, sE0 = 0, sW = 0;
    float sP1 = 0, sY1 = 0, sD1 = 0, sM1 = 0, sT1 = 0, sE1 = 0;
    int invalid = 0;
#pragma omp simd reduction(+ : sP0, sY0, sD0, sM0, sT0, sE0, sP1, sY1, sD1, sM1, sT1, sE1, sW) \
    reduction(| : invalid)
    for (int64_t t = 0; t < size; t++) {
        float weight = weighted ? w[t] : 1.0f;
        float y = weight > 0.0f ? y0[t] : 0.0f, v = weight > 0.0f ? y1[t] : 0.0f;
        sides of = sides_of(one[t] - two[t], e[t], costs);
        sP0 += weight * of.p, sP1 += weight * of.q;
        sY0 += weight * y, sY1 += weight * v;
        sD0 += weight * fabsf(of.p - y), sD1 += weight * fabsf(of.q - v);
        sM0 += weight * of.p * y, sM1 += weight * of.q * v;
        sT0 += weight * (of.p < y ? of.p : y), sT1 += weight * (of.q < v ? of.q : v);
        if (costs) {
            sE0 += y != 0.0f ? weight * y * of.cost : 0.0f;
            sE1 += v != 0.0f ? weight * v * of.other : 0.0f;
        }
        sW += weight;
        invalid |= weight > 0.0f && !(y >= 0.0f && v >= 0.0f && fabsf(y + v - 1.0f) <= 1e-2f);
    }
    float first[] = {sP0, sY0, sD0, sM0, sT0, sE0}, second[] = {sP1, sY1, sD1, sM1, sT1, sE1};
    for (int i = P; i <= E; i++) to[i] += first[i], to[SUMS + i] += second[i];
    to[2 * SUMS] = sW;
    return invalid;
}

static double sum_two(const job *j, scratch *s, rows_of z, int64_t size, double *sums) {
    const target_tile *y = &s->read[0];
    const float *y0 = y->y, *y1 = y->y + y->pitch, *one = z.data, *two = z.data + z.pitch;
    const float *e = decays(s, one, two, size);
    double found[2 * SUMS + 1] = {0};
    int costs = (int)j->cross_entropy;
#define ADD(W, COSTS) add_two(one, two, e, y0, y1, y->w, size, W, COSTS, found)
    int invalid = y->whole ? (costs ? ADD(0, 1) : ADD(0, 0)) : costs ? ADD(1, 1) : ADD(1, 0);
#undef ADD
    if (invalid) *j->invalid = 1;
    for (int i = 0; i < 2 * SUMS; i++) sums[i] += found[i];
    return found[2 * SUMS];
}

/* Sums of a row of entries (one class), for sigmoid and given probabilities. */
INLINE float add_entries(const float *z, const float *e, const float *y, const float *w,
                         int64_t size, int weighted, int activation, int costs, float smoothing,
                         float gamma, double *to, int64_t *odd) {
    float sP = 0, sY = 0, sD = 0, sM = 0, sT = 0, sE = 0, sF = 0, sW = 0;
    float keep = 1.0f - smoothing, share = smoothing / 2.0f;
    int invalid = 0;
#pragma omp simd reduction(+ : sP, sY, sD, sM, sT, sE, sF, sW) reduction(| : invalid)
    for (int64_t t = 0; t < size; t++) {
        float weight = weighted ? w[t] : 1.0f, x = z[t], target = y[t];
        x = weight > 0.0f ? x : 0.0f;
        target = weight > 0.0f ? target : 0.0f;
        invalid |= !(target >= 0.0f && target <= 1.0f);
        sW += weight;
        sides of = sides_of(x, activation == SIGMOID && weight > 0.0f ? e[t] : 1.0f, costs);
        float p = activation == SIGMOID ? of.p : x;
        sP += weight * p;
        sY += weight * target;
        sD += weight * fabsf(p - target);
        sM += weight * (p * target);
        sT += weight * (p < target ? p : target);
        if (costs) {
            target = smoothed(target, keep, share);
            float factor = weight * focus(p, target, gamma);
            float rest = 1.0f - target;
            sE += target * weight != 0.0f ? factor * target * of.cost : 0.0f;
            sF += rest * weight != 0.0f ? factor * rest * of.other : 0.0f;
        }
    }
    float found[] = {sP, sY, sD, sM, sT, sE, sF};
    for (int i = 0; i < 7; i++) to[i] += found[i];
    if (invalid) *odd = 1;
    return sW;
}

/* The weights of the entries of a class, of which single ones may be ignored. */
static const float *entry_weights(const job *j, scratch *s, int64_t k, int64_t n, int64_t c,
                                  int64_t row, int64_t column, int64_t size) {
    const target *y = &j->targets[k];
    const target_tile *read = &s->read[k];
    const float *given = read->y + c * read->pitch;
    int by_class = y->flags.data && y->flags.channel && y->kind == PROBS;
    int integers = y->kind == PROBS && y->independent && y->values.type >= UINT8, invalid = 0;
    int ignores = y->kind == PROBS && y->independent && y->ignores;
    if (integers) { /* usually all are 0 or 1 */
        int others = 0;
#pragma omp simd reduction(| : others)
        for (int64_t t = 0; t < size; t++) others |= (given[t] != 0.0f) & (given[t] != 1.0f);
        integers = others;
    }
    if (!by_class && !integers && !ignores) return read->w;
    float *restrict w = s->scale, ignore = (float)y->ignore;
    if (by_class) read_floats(&y->flags, place(&y->flags, n, c, row, column), size, w);
    for (int64_t t = 0; t < size; t++) {
        float counts = by_class && w[t] == 0.0f ? 0.0f : read->w[t];
        counts = ignores && given[t] == ignore ? 0.0f : counts;
        int binary = !integers || given[t] == 0.0f || given[t] == 1.0f;
        invalid |= counts > 0.0f && !binary;
        w[t] = binary ? counts : 0.0f;
    }
    if (invalid) *j->invalid = 1;
    return w;
}

static float probability(const job *j, float z) {
    return j->activation == SIGMOID ? sides_of(z, exp_(-fabsf(z)), 0).p : z;
}

static double sum_entries(const job *j, scratch *s, rows_of z, int64_t k, int64_t n, int64_t row,
                          int64_t column, int64_t size, double *sums) {
    const target_tile *read = &s->read[k];
    float epsilon = (float)j->smoothing, gamma = (float)j->gamma;
    double weight = 0.0;
    const target *from = &j->targets[k];
    int by_class = from->kind == PROBS && (from->independent || from->flags.channel);
    int exclusive = j->activation == READY && j->C > 1 && !from->independent, invalid = 0;
    float *restrict mass = s->any;
    for (int64_t t = 0; exclusive && t < size; t++) mass[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *w = entry_weights(j, s, k, n, c, row, column, size);
        const float *own = z.data + c * z.pitch, *y = read->y + c * read->pitch;
        const float *e = j->activation == SIGMOID ? decays(s, own, NULL, size) : own;
        double *found = sums + c * SUMS;
        float total;
        int weighted = !read->whole || w != read->w;
#define ADD(W, KIND, COSTS, EPSILON, GAMMA) \
    add_entries(own, e, y, w, size, W, KIND, COSTS, EPSILON, GAMMA, found, j->invalid)
        if (j->activation == READY) total = ADD(1, READY, 0, 0, 0);
        else if (j->cross_entropy && (epsilon != 0.0f || gamma != 0.0f))
            total = ADD(1, SIGMOID, 1, epsilon, gamma);
        else if (weighted) total = j->cross_entropy ? ADD(1, SIGMOID, 1, 0, 0) : ADD(1, SIGMOID, 0, 0, 0);
        else total = j->cross_entropy ? ADD(0, SIGMOID, 1, 0, 0) : ADD(0, SIGMOID, 0, 0, 0);
#undef ADD
        for (int64_t t = 0; exclusive && t < size; t++) mass[t] += w[t] > 0.0f ? y[t] : 0.0f;
        if (j->activation == SIGMOID || by_class || c == 0) weight += total;
        if (j->maxima)
            for (int64_t t = 0; t < size; t++) {
                if (!(w[t] > 0.0f)) continue;
                float p = probability(j, own[t]);
                if (p > found[P_MAX]) found[P_MAX] = p;
                if (y[t] > found[Y_MAX]) found[Y_MAX] = y[t];
            }
    }
    for (int64_t t = 0; exclusive && t < size; t++)
        invalid |= read->w[t] > 0.0f && !(fabsf(mass[t] - 1.0f) <= 1e-2f);
    if (invalid) *j->invalid = 1;
    return weight;
}

static void sum_tile(const job *j, scratch *s, int64_t unit, int64_t n, int64_t row,
                     int64_t column, int64_t size) {
    double *first = j->sums + unit * j->K * j->C * SUMS;
    outcomes of = outcomes_in_place(j, s, n, row, column, size);
    if (of.longs) {
        j->weights_of[unit] += sum_binary(j, s, of, size, first);
        return;
    }
    rows_of z = begin(j, s, n, row, column, size, NULL);
    int way = way_of(j);
    for (int64_t k = 0; k < j->K; k++) {
        double *sums = first + k * j->C * SUMS, weight;
        if (j->maxima && way != ENTRIES) sum_maxima(j, s, k, size, sums);
        if (way == BINARY) weight = sum_binary(j, s, two_outcomes(j, s, z, NULL, size), size, sums);
        else if (way == TWO) weight = sum_two(j, s, z, size, sums);
        else if (way == ENTRIES) weight = sum_entries(j, s, z, k, n, row, column, size, sums);
        else if (s->read[k].y) weight = sum_probs(j, s, z, k, size, sums);
        else if (way == HARD) weight = sum_hard(j, s, z, size, sums);
        else weight = sum_labels(j, s, z, k, size, sums);
        j->weights_of[unit * j->K + k] += weight;
    }
}

/* The gradients of the sums of one target and image. */
typedef struct {
    const float *P, *D, *M, *T, *E, *F;
} cotangents;

static cotangents cotangents_of(const job *j, int64_t k, int64_t n) {
    int64_t step = j->K * j->N * j->C;
    const float *at = j->slopes + (k * j->N + n) * j->C;
    cotangents of = {at, at + 2 * step, at + 3 * step, at + 4 * step, j->zeros, j->zeros};
    if (j->cross_entropy) of.E = at + 5 * step, of.F = at + 6 * step;
    return of;
}

/* dz of labels with two outcomes, read as in add_binary(). The gradients of both logits differ only
 * in sign. */
INLINE void add_binary_slopes(outcomes x, const int32_t *label, const float *w, int64_t size,
                              int in_place, int two, const float *pull, const float *cost,
                              float *restrict to, float *restrict opposite) {
    const float *z = x.own, *other = x.other, *e = x.e;
    const int64_t *longs = x.longs;
    float pull1 = pull[1], pull0 = pull[0], cost1 = cost[1], cost0 = cost[0];
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float is1 = (float)(in_place ? (int32_t)longs[t] : label[t]);
        sides of = sides_of(margin(z, other, is1, t, two), e[t], 0);
        float gain = of.p * (is1 > 0.0f ? pull1 : pull0) - (is1 > 0.0f ? cost1 : cost0);
        gain *= in_place ? of.q : w[t] * of.q;
        to[t] = is1 > 0.0f ? gain : -gain;
        if (two) opposite[t] = is1 > 0.0f ? -gain : gain;
    }
}

static void slope_binary(const job *j, scratch *s, outcomes x, int64_t n, int64_t size, float *out,
                         int64_t pitch) {
    const target_tile *y = &s->read[0];
    const float *w = y->w;
    const int32_t *label = y->label;
    cotangents d = cotangents_of(j, 0, n);
    float gamma = (float)j->gamma, pull[2], cost[2], *restrict to = out + (j->C - 1) * pitch;
    int two = x.two;
    for (int l = 0; l < 2; l++) {
        int c = two ? l : 0;
        pull[l] = two || l ? d.P[c] - d.D[c] + d.M[c] + d.T[c] : 0.0f;
        pull[l] -= two ? d.P[1 - l] + d.D[1 - l] : l ? 0.0f : d.P[0] + d.D[0];
        cost[l] = two || l ? d.E[c] : d.F[0];
    }
#define ADD(IN_PLACE, TWO) \
    add_binary_slopes(x, label, w, size, IN_PLACE, TWO, pull, cost, to, out)
    if (x.longs && two) ADD(1, 1);
    else if (x.longs) ADD(1, 0);
    else if (two) ADD(0, 1);
    else ADD(0, 0);
#undef ADD
    for (int64_t t = 0; gamma != 0.0f && t < size; t++) {
        sides of = sides_of(margin(x.own, x.other, (float)label[t], t, two), x.e[t], 1);
        float focal = gamma * pow_(of.q, gamma - 1.0f) * of.p * of.cost + pow_(of.q, gamma);
        float more = w[t] * of.q * (label[t] ? cost[1] : cost[0]) * (1.0f - focal);
        to[t] += label[t] ? more : -more;
        if (two) out[t] = -to[t];
    }
}

/* a_c of chunked.py for one target of weight 1. */
INLINE float slope(float p, float y, float dP, float dD, float dM, float dT) {
    float sign = p > y ? dD : p < y ? dT - dD : 0.5f * dT;
    return dP + sign + dM * y;
}

/* dz for two classes against probabilities; the gradients of both logits differ only in sign. */
static void slope_two(const job *j, scratch *s, rows_of z, int64_t n, int64_t size,
                      float *restrict out, int64_t pitch) {
    const target_tile *y = &s->read[0];
    const float *y0 = y->y, *y1 = y->y + y->pitch, *w = y->w;
    const float *one = z.data, *two = z.data + z.pitch;
    cotangents d = cotangents_of(j, 0, n);
    float P0 = d.P[0], D0 = d.D[0], M0 = d.M[0], T0 = d.T[0], E0 = d.E[0];
    float P1 = d.P[1], D1 = d.D[1], M1 = d.M[1], T1 = d.T[1], E1 = d.E[1];
    const float *e = decays(s, one, two, size);
    float *restrict to = out + pitch;
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float weight = w[t], u = weight > 0.0f ? y0[t] : 0.0f, v = weight > 0.0f ? y1[t] : 0.0f;
        sides of = sides_of(one[t] - two[t], e[t], 0);
        float gap = slope(of.p, u, P0, D0, M0, T0) - slope(of.q, v, P1, D1, M1, T1);
        float dz = of.p * of.q * gap + of.p * E1 * v - of.q * E0 * u;
        out[t] = weight * dz;
        to[t] = -weight * dz;
    }
}

/* dz of a row of entries. */
INLINE void add_entry_slopes(const float *z, const float *e, const float *y, const float *w,
                             int64_t size, int activation, float smoothing, float gamma,
                             const float *d, float *restrict to) {
    float dP = d[P], dD = d[D], dM = d[M], dT = d[T], dE = d[E], dF = d[F];
    float keep = 1.0f - smoothing, share = smoothing / 2.0f;
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float weight = w[t], x = z[t], aim = y[t];
        x = weight > 0.0f ? x : 0.0f;
        aim = weight > 0.0f ? aim : 0.0f;
        sides of = sides_of(x, activation == SIGMOID && weight > 0.0f ? e[t] : 1.0f, gamma != 0.0f);
        float p = activation == SIGMOID ? of.p : x, dz = slope(p, aim, dP, dD, dM, dT);
        if (activation == SIGMOID) {
            aim = smoothed(aim, keep, share);
            float on = dE * aim, off = dF * (1.0f - aim), direct = off * p - on * of.q;
            if (gamma != 0.0f) {
                float gap = fabsf(p - aim), sign = p > aim ? 1.0f : -1.0f;
                float costs = (aim != 0.0f ? on * of.cost : 0.0f) +
                              (aim != 1.0f ? off * of.other : 0.0f);
                direct = gamma * pow_(gap, gamma - 1.0f) * sign * p * of.q * costs +
                         pow_(gap, gamma) * direct;
            }
            dz = dz * p * of.q + direct;
        }
        to[t] = weight * dz;
    }
}

/* dz for sigmoid and given probabilities, class by class. */
static void slope_entries(const job *j, scratch *s, rows_of z, int64_t k, int64_t n, int64_t row,
                          int64_t column, int64_t size, float *out, int64_t pitch) {
    const target_tile *read = &s->read[k];
    cotangents of = cotangents_of(j, k, n);
    float epsilon = (float)j->smoothing, gamma = (float)j->gamma;
    for (int64_t c = 0; c < j->C; c++) {
        const float *w = entry_weights(j, s, k, n, c, row, column, size);
        const float *own = z.data + c * z.pitch, *y = read->y + c * read->pitch;
        const float *e = j->activation == SIGMOID ? decays(s, own, NULL, size) : own;
        float *to = out + c * pitch;
        float d[] = {of.P[c], 0.0f, of.D[c], of.M[c], of.T[c], of.E[c], of.F[c]};
        if (k) memcpy(s->kept, to, (size_t)size * 4);
        if (j->activation == READY) add_entry_slopes(own, e, y, w, size, READY, 0, 0, d, to);
        else if (gamma != 0.0f)
            add_entry_slopes(own, e, y, w, size, SIGMOID, epsilon, gamma, d, to);
        else add_entry_slopes(own, e, y, w, size, SIGMOID, epsilon, 0, d, to);
        if (k)
            for (int64_t t = 0; t < size; t++) to[t] += s->kept[t];
    }
}

/* slope() at the label, with y = on, minus slope() with y = off. Without branches, because these
 * would be unpredictable here. */
INLINE float slope_at_label(float p, float on, float off, float dD, float dM, float dT) {
    float low_on = (float)(p < on) + 0.5f * (float)(p == on);
    float low_off = (float)(p < off) + 0.5f * (float)(p == off);
    float sign = (float)((p > on) - (p < on) - (p > off) + (p < off));
    return dD * sign + dM * (on - off) + dT * (low_on - low_off);
}

/* h of entropy.py. */
INLINE float pull_of_cost(float p, float y, float dE, float gamma) {
    if (gamma == 0.0f) return -dE * y;
    float gap = fabsf(p - y), sign = p > y ? 1.0f : -1.0f, cost = -log_(p > 1e-37f ? p : 1e-37f);
    return dE * y * (gamma * pow_(gap, gamma - 1.0f) * sign * p * cost - pow_(gap, gamma));
}

/* Compute w (p_c a_c + h_c) of a row, write or add it to dz, and add it to `rest`. */
INLINE void add_slope(const float *e, const float *scale, const float *given, const float *w,
                      int64_t size, float keep, float share, float gamma, const float *d,
                      int weighted, int first, float *restrict to, float *restrict rest) {
    float dP = d[P], dD = d[D], dM = d[M], dT = d[T], dE = d[E];
#pragma omp simd
    for (int64_t t = 0; t < size; t++) {
        float weight = weighted ? w[t] : 1.0f;
        float p = e[t] * scale[t], y = !weighted || weight > 0.0f ? given[t] : 0.0f;
        float found = p * slope(p, y, dP, dD, dM, dT);
        found += pull_of_cost(p, smoothed(y, keep, share), dE, gamma);
        found *= weight;
        to[t] = first ? found : to[t] + found;
        rest[t] += found;
    }
}

/* Write or add w (p_c a_c + h_c) of one target to dz, and add its class sum to `rest`. */
static void add_slopes(const job *j, scratch *s, int64_t k, int64_t n, int64_t size, float *out,
                       int64_t pitch) {
    const target_tile *read = &s->read[k];
    cotangents of = cotangents_of(j, k, n);
    const float *w = read->w, *on = read->on, *off = read->off, *scale = s->scale;
    float keep = 1.0f - (float)j->smoothing, share = (float)j->smoothing / (float)j->C;
    float gamma = (float)j->gamma, *restrict rest = s->entropy;
    int weighted = 0;
    for (int64_t t = 0; t < size; t++) weighted |= w[t] != 1.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile;
        const float *y = read->y ? read->y + c * read->pitch : off;
        float *to = out + c * pitch;
        float d[] = {of.P[c], 0.0f, of.D[c], of.M[c], of.T[c], of.E[c]};
#define ADD(KEEP, SHARE, GAMMA, W, FIRST) \
    add_slope(e, scale, y, w, size, KEEP, SHARE, GAMMA, d, W, FIRST, to, rest)
        if (gamma != 0.0f || share != 0.0f) ADD(keep, share, gamma, 1, !k);
        else if (weighted || k) ADD(1.0f, 0.0f, 0.0f, 1, !k);
        else ADD(1.0f, 0.0f, 0.0f, 0, 1);
#undef ADD
    }
    if (read->y) return;
    for (int64_t t = 0; t < size; t++) {
        int64_t c = read->label[t];
        float p = s->p[c * j->tile + t] * scale[t];
        float more = p * slope_at_label(p, on[t], off[t], of.D[c], of.M[c], of.T[c]);
        more = w[t] * (more - of.E[c] * (on[t] - off[t]));
        out[c * pitch + t] += more;
        rest[t] += more;
    }
}

/* dz of a tile for a hard target. `out` may be the gradient itself. Entries without label or mark
 * have a_c = u_c. */
static void slope_hard(const job *j, scratch *s, int64_t n, int64_t size, const float *u,
                       float *out, int64_t pitch) {
    const target_tile *y = &s->read[0];
    cotangents d = cotangents_of(j, 0, n);
    float gamma = (float)j->gamma, *restrict scale = s->scale, *restrict dot = s->dot;
    float *restrict at_label = s->entropy, *restrict kept = s->kept;
    for (int64_t t = 0; y->marks && t < size; t++) kept[t] = dot[t] / s->sum[t];
    for (int64_t t = 0; t < size; t++) {
        int64_t c = y->label[t];
        float p = s->p[c * j->tile + t] / s->sum[t], v = d.P[c] - d.D[c] + d.M[c] + d.T[c];
        float dE = d.E[c];
        if (gamma != 0.0f) {
            float gap = 1.0f - p, cost = -log_(p > 1e-37f ? p : 1e-37f);
            dE *= gamma * pow_(gap, gamma - 1.0f) * p * cost + pow_(gap, gamma);
        }
        float mean = dot[t] / s->sum[t] + (v - u[c]) * p - dE;
        at_label[t] = y->w[t] * (p * (v - mean) - dE);
        scale[t] = y->w[t] / s->sum[t];
        dot[t] = mean;
    }
    for (int64_t i = 0; i < y->marks; i++) {
        int64_t c = y->class[i], t = y->at[i];
        float p = s->p[c * j->tile + t] / s->sum[t], on = y->value[i];
        float a = slope(p, on, d.P[c], d.D[c], d.M[c], d.T[c]);
        if (y->w[t] > 0.0f) kept[t] += p * (a - u[c]) - d.E[c] * on;
    }
    for (int64_t i = 0; i < y->marks; i++) dot[y->at[i]] = kept[y->at[i]];
    for (int64_t c = 0; c < j->C; c++) {
        const float *p = s->p + c * j->tile;
        float *restrict to = out + c * pitch, factor = u[c];
        for (int64_t t = 0; t < size; t++) to[t] = p[t] * scale[t] * (factor - dot[t]);
    }
    for (int64_t t = 0; t < size; t++) out[y->label[t] * pitch + t] = at_label[t];
    for (int64_t i = 0; i < y->marks; i++) {
        int64_t c = y->class[i], t = y->at[i];
        float p = s->p[c * j->tile + t] / s->sum[t], on = y->value[i], w = y->w[t];
        float a = slope(p, on, d.P[c], d.D[c], d.M[c], d.T[c]);
        out[c * pitch + t] = w > 0.0f ? w * (p * (a - dot[t]) - d.E[c] * on) : 0.0f;
    }
}

/* dz of a tile for a softmax against any targets. */
static void slope_any(const job *j, scratch *s, int64_t n, int64_t size, float *out,
                      int64_t pitch) {
    float *restrict rest = s->entropy, *restrict scale = s->scale;
    for (int64_t t = 0; t < size; t++) scale[t] = 1.0f / s->sum[t], rest[t] = 0.0f;
    for (int64_t k = 0; k < j->K; k++) add_slopes(j, s, k, n, size, out, pitch);
    for (int64_t t = 0; t < size; t++) rest[t] *= scale[t];
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile;
        float *restrict to = out + c * pitch;
        for (int64_t t = 0; t < size; t++) to[t] -= e[t] * rest[t];
    }
}

/* Add the gradient of a tile to the low-resolution rows above and below it (C, w + 1). */
static void add_adjoint(const job *j, scratch *s, int64_t row, int64_t column, int64_t size,
                        const float *dz, int64_t pitch) {
    float below = j->low.row_share[row], above = 1.0f - below;
    for (int64_t c = 0; c < j->C; c++) {
        const float *g = dz + c * pitch;
        float *top = s->top + c * (j->low.w + 1), *bottom = s->bottom + c * (j->low.w + 1);
        for (int64_t t = 0; t < size;) {
            int32_t first = j->low.column_first[column + t];
            float left = 0.0f, right = 0.0f;
            for (; t < size && j->low.column_first[column + t] == first; t++) {
                float share = j->low.column_share[column + t];
                left += (1.0f - share) * g[t];
                right += share * g[t];
            }
            top[first] += above * left;
            top[first + 1] += above * right;
            bottom[first] += below * left;
            bottom[first + 1] += below * right;
        }
    }
}

/* Compute dz of the logits in a tile, and write it to `out`. */
static void slopes(const job *j, scratch *s, int64_t n, int64_t row, int64_t column, int64_t size,
                   const float *u, float *out, int64_t pitch) {
    int way = way_of(j);
    rows_of z = begin(j, s, n, row, column, size, way == HARD ? u + n * j->C : NULL);
    if (way == BINARY)
        slope_binary(j, s, two_outcomes(j, s, z, NULL, size), n, size, out, pitch);
    else if (way == TWO) slope_two(j, s, z, n, size, out, pitch);
    else if (way == HARD && !s->read[0].y) slope_hard(j, s, n, size, u + n * j->C, out, pitch);
    else if (way == ENTRIES)
        for (int64_t k = 0; k < j->K; k++)
            slope_entries(j, s, z, k, n, row, column, size, out, pitch);
    else slope_any(j, s, n, size, out, pitch);
}

static void slope_tile(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                       int64_t size, const float *u) {
    const tensor *to = &j->gradient;
    int in_place = !j->low.h && to->type == FLOAT32 && to->column == 1;
    float *out = in_place ? place(to, n, 0, row, column) : s->a;
    int64_t pitch = in_place ? to->channel : j->tile;
    outcomes of = outcomes_in_place(j, s, n, row, column, size);
    if (of.longs) slope_binary(j, s, of, n, size, out, pitch);
    else slopes(j, s, n, row, column, size, u, out, pitch);
    if (j->low.h) add_adjoint(j, s, row, column, size, out, pitch);
    else if (!in_place)
        for (int64_t c = 0; c < j->C; c++)
            write_floats(to, place(to, n, c, row, column), size, out + c * pitch);
}

/* ---- units and threads ---------------------------------------------------------------------- */

typedef struct {
    const job *j;
    const float *u;        /* (N, C) dP + dD for the gradient; NULL to compute the sums */
    atomic_llong next;
    atomic_int failed;
} work;

/* Write a finished row of the low-resolution gradient, or store it if another unit shares it. Then
 * the lower row becomes the upper one. */
static void finish(const job *j, scratch *s, int64_t n, int64_t unit, int64_t row, int64_t from,
                   int64_t to) {
    float *rows = s->top;
    if (row < j->low.h) {
        int border = row == from ? 0 : row == to ? 1 : -1;
        for (int64_t c = 0; c < j->C; c++) {
            float *x = rows + c * (j->low.w + 1);
            if (border >= 0)
                memcpy(j->shared_rows + ((unit * 2 + border) * j->C + c) * j->low.w, x, (size_t)j->low.w * 4);
            else
                write_floats(&j->gradient, place(&j->gradient, n, c, row, 0), j->low.w, x);
        }
    }
    memset(rows, 0, (size_t)(j->C * (j->low.w + 1)) * 4);
    s->top = s->bottom;
    s->bottom = rows;
}

/* Process the full-resolution rows whose first source row is in [from, to). */
static void low_unit(work *work, scratch *s, int64_t n, int64_t unit, int64_t from, int64_t to) {
    const job *j = work->j;
    int64_t at = from;
    memset(s->top, 0, (size_t)(j->C * (j->low.w + 1)) * 4);
    memset(s->bottom, 0, (size_t)(j->C * (j->low.w + 1)) * 4);
    for (int64_t row = 0; row < j->rows; row++) {
        int64_t first = j->low.row_first[row];
        if (first < from || first >= to) continue;
        if (work->u)
            for (; at < first; at++) finish(j, s, n, unit, at, from, to);
        read_low(j, s, n, row);
        for (int64_t column = 0; column < j->columns; column += j->tile) {
            int64_t left = j->columns - column, size = left < j->tile ? left : j->tile;
            if (work->u) slope_tile(j, s, n, row, column, size, work->u);
            else sum_tile(j, s, unit, n, row, column, size);
        }
    }
    if (work->u)
        for (; at <= to; at++) finish(j, s, n, unit, at, from, to);
}

static void full_unit(work *work, scratch *s, int64_t n, int64_t unit, int64_t from, int64_t to) {
    const job *j = work->j;
    int64_t per_row = (j->columns + j->tile - 1) / j->tile;
    for (int64_t tile = from; tile < to; tile++) {
        int64_t row = tile / per_row, column = tile % per_row * j->tile;
        int64_t left = j->columns - column, size = left < j->tile ? left : j->tile;
        if (work->u) slope_tile(j, s, n, row, column, size, work->u);
        else sum_tile(j, s, unit, n, row, column, size);
    }
}

/* Return aligned memory from a block, and advance its address. */
static void *take(uintptr_t *at, int64_t elements, int64_t bytes) {
    uintptr_t here = *at;
    *at += (uintptr_t)(elements * bytes + 63) / 64 * 64;
    return (void *)here;
}

/* Place the buffers from an address on, and return the address after them. */
static uintptr_t lay_out(const job *j, scratch *s, uintptr_t at) {
    int64_t line = j->tile, block = j->C * line, low = j->low.h ? j->C * (j->low.w + 1) : 0;
    int64_t converted = 0, lines = 0, wide = line, ballots = 0;
    for (int64_t k = 0; k < j->K; k++) {
        const target *y = &j->targets[k];
        int64_t window = 2 * y->depth + 1;
        int64_t of[] = {y->kind == GAUSSIAN ? window * (line + 2 * y->depth + CHUNK)
                                            : y->depth * (line + CHUNK),
                        y->kind == GAUSSIAN ? line + 2 * y->depth : 2 * (y->low.w + 1),
                        y->kind == GAUSSIAN ? window * window : y->depth};
        int64_t *to[] = {&lines, &wide, &ballots};
        for (int i = 0; i < 3; i++) *to[i] = of[i] > *to[i] ? of[i] : *to[i];
        converted |= y->kind != LABELS || writes_out(j, y);
    }
    s->read = take(&at, j->K, sizeof(target_tile));
    s->banks = take(&at, 8 * BANKS * j->C, sizeof(double));
    s->ballots = take(&at, ballots, sizeof(ballot));
    s->lines = take(&at, lines, 4), s->line = take(&at, wide, 4);
    s->z = take(&at, block, 4), s->p = take(&at, block, 4), s->a = take(&at, block, 4);
    s->y = take(&at, converted * j->K * block, 4);
    float **of_size[] = {&s->most, &s->sum, &s->scale, &s->dot, &s->any, &s->entropy, &s->kept};
    for (int i = 0; i < 7; i++) *of_size[i] = take(&at, line, 4);
    s->low = take(&at, low, 4), s->top = take(&at, low, 4), s->bottom = take(&at, low, 4);
    s->other = take(&at, j->low.h ? j->low.w : 0, 4);
    return at;
}

/* Place the buffers of the targets from an address on, and return the address after them. */
static uintptr_t lay_out_targets(const job *j, target_tile *read, uintptr_t at) {
    for (int64_t k = 0; k < j->K; k++) {
        int64_t marks = most_marks(j, &j->targets[k]) * j->tile;
        target_tile one = {0};
        float **of_size[] = {&one.w, &one.marked, &one.on, &one.off};
        for (int i = 0; i < 4; i++) *of_size[i] = take(&at, j->tile, 4);
        one.label = take(&at, j->tile, 4);
        one.at = take(&at, marks, 4), one.class = take(&at, marks, 4);
        one.value = take(&at, marks, 4);
        if (read) read[k] = one;
    }
    return at;
}

static int allocate(const job *j, scratch *s, char **memory) {
    uintptr_t bytes = lay_out_targets(j, NULL, lay_out(j, s, 0));
    *memory = malloc(bytes + 63);
    if (!*memory) return 0;
    uintptr_t at = lay_out(j, s, ((uintptr_t)*memory + 63) / 64 * 64);
    lay_out_targets(j, s->read, at);
    return 1;
}

static void *worker(void *argument) {
    work *work = argument;
    const job *j = work->j;
    char *memory;
    scratch s = {0};
    if (!allocate(j, &s, &memory)) {
        atomic_store(&work->failed, 1);
        return NULL;
    }
    int64_t per_row = (j->columns + j->tile - 1) / j->tile;
    int64_t pieces = j->low.h ? (j->low.h > 1 ? j->low.h - 1 : 1) : j->rows * per_row;
    for (;;) {
        int64_t unit = j->first + atomic_fetch_add(&work->next, 1);
        if (unit >= j->last) break;
        int64_t n = unit / j->units, i = unit % j->units;
        int64_t from = pieces * i / j->units, to = pieces * (i + 1) / j->units;
        if (j->low.h) low_unit(work, &s, n, unit, from, to);
        else full_unit(work, &s, n, unit, from, to);
    }
    free(memory);
    return NULL;
}

static int run(work *work) {
    run_threads(worker, work, work->j->threads);
    return atomic_load(&work->failed);
}

/* After all units: add the low-resolution rows that two units share, and write them. */
void softiou_join(const job *j) {
    int64_t pieces = j->low.h > 1 ? j->low.h - 1 : 1, line = j->C * j->low.w;
    for (int64_t unit = 0; unit < j->N * j->units; unit++) {
        int64_t n = unit / j->units, i = unit % j->units;
        int64_t from = pieces * i / j->units, to = pieces * (i + 1) / j->units;
        float *first = j->shared_rows + unit * 2 * line, *last = first + line;
        if (i > 0)
            for (int64_t x = 0; x < line; x++) first[x] += first[x - line];
        for (int64_t c = 0; c < j->C; c++) {
            write_floats(&j->gradient, place(&j->gradient, n, c, from, 0), j->low.w,
                         first + c * j->low.w);
            if (i == j->units - 1 && to < j->low.h)
                write_floats(&j->gradient, place(&j->gradient, n, c, to, 0), j->low.w,
                             last + c * j->low.w);
        }
    }
}

/* Add the sums of the units in a fixed order: masses (5 or 7, K, N, C), maxima (2, K, N, C) and
 * weights (K, N). */
void softiou_total(const job *j, float *masses, float *maxima, float *weights) {
    int64_t rows = j->cross_entropy ? P_MAX : E;
    for (int64_t n = 0; n < j->N; n++)
        for (int64_t k = 0; k < j->K; k++) {
            double weight = 0.0;
            for (int64_t unit = n * j->units; unit < (n + 1) * j->units; unit++)
                weight += j->weights_of[unit * j->K + k];
            weights[k * j->N + n] = (float)weight;
            for (int64_t i = 0; i < j->C * SUMS; i++) {
                int64_t c = i / SUMS, which = i % SUMS;
                double total = 0.0;
                for (int64_t unit = n * j->units; unit < (n + 1) * j->units; unit++) {
                    double part = j->sums[(unit * j->K + k) * j->C * SUMS + i];
                    total = which < P_MAX ? total + part : part > total ? part : total;
                }
                float *to = which < rows ? masses : which < P_MAX ? NULL : maxima;
                int64_t at = which < P_MAX ? which : which - P_MAX;
                if (to) to[((at * j->K + k) * j->N + n) * j->C + c] = (float)total;
            }
        }
}

/* Returns 0, or 1 if memory cannot be allocated. */
int softiou_gather(const job *j) {
    work work = {.j = j};
    return run(&work);
}

int softiou_gradient(const job *given, int64_t bytes) {
    job own = *given, *j = &own;
    int64_t entries = j->N * j->C;
    float *u = calloc((size_t)(entries + j->C), sizeof(float));
    if (!u) return 1;
    j->zeros = u + entries;
    cotangents first = cotangents_of(j, 0, 0);
    for (int64_t i = 0; i < entries; i++) u[i] = first.P[i] + first.D[i];
    work work = {.j = j, .u = u};
#ifdef MADV_HUGEPAGE
    /* Page faults of new memory, one per 4 KiB, take a third of the time: request huge pages. */
    uintptr_t start = ((uintptr_t)j->gradient.data + 4095) / 4096 * 4096;
    uintptr_t end = ((uintptr_t)j->gradient.data + (uintptr_t)bytes) / 4096 * 4096;
    if (bytes >= 1 << 22) madvise((void *)start, end - start, MADV_HUGEPAGE);
#endif
    int failed = run(&work);
    free(u);
    return failed;
}
