/* The pass over the pixels for the CPU: a softmax against labels or probabilities, tile by tile.
 *
 * Plain C11 with OpenMP, or POSIX threads where there is none, compiled on first use by native.py,
 * which also describes the structures below to ctypes. The formulae are those of chunked.py. Inside a tile every loop runs
 * along the pixels, so that the compiler can use the widest vectors there are.
 *
 * A tile is at most `tile` pixels of one row. Units of several tiles are handed to the threads; the
 * sums of a unit go to their own place and are added in a fixed order, so the result does not
 * depend on the number of threads.
 *
 * Shapes: N images, C classes, rows x columns pixels, K targets, h x w low-resolution logits.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LABELS, PROBS };
enum { P, Y, D, M, P_MAX, Y_MAX, SUMS };

/* A tensor with strides in elements; data is NULL for one that is not there. */
typedef struct {
    void *data;
    int64_t image, channel, row, column;
    int64_t type;
} tensor;

typedef struct {
    int64_t kind;
    tensor values;       /* labels (N, rows, columns) or probabilities (N, C, rows, columns) */
    int64_t ignores;     /* whether there is a value to ignore */
    int64_t ignore;
    double epsilon;      /* smoothing of labels */
    tensor where;        /* UINT8 (N, rows, columns), or not there for everywhere: labels that are
                            smoothed, probabilities that count */
} target;

typedef struct {
    int64_t N, C, rows, columns, K;
    int64_t h, w;                      /* low-resolution logits; 0 for full resolution */
    const int32_t *row_first, *column_first;
    const float *row_share, *column_share;
    tensor logits, valid, weights;
    const target *targets;
    int64_t cross_entropy, maxima, tile, units, threads;
    int64_t first, last;               /* the units to do, out of N units */
    double *sums;                      /* (N units, K, C, SUMS) */
    double *totals;                    /* (N units, K, 2): weight, cross-entropy */
    const float *dP, *dD, *dM, *dE;    /* (K, N, C), and (K, N) */
    tensor gradient;
    float *borders;                    /* (N units, 2, C, w): rows that two units share */
} job;

/* ---- one tile ------------------------------------------------------------------------------- */

typedef struct {
    const float *w;       /* weight of each pixel */
    const int32_t *label;
    const float *on, *off; /* y = label == c ? on : off */
    const float *y;       /* probabilities, pitch apart */
    int64_t pitch;
} known;

typedef struct {
    float *z, *p, *a;                   /* (C, tile) */
    float *y;                           /* (K, C, tile), where probabilities have to be converted */
    float *w, *on, *off;                /* (K, tile) */
    int32_t *label;                     /* (K, tile) */
    float *most, *sum, *scale, *dot, *any, *entropy; /* (tile) */
    float *low, *top, *bottom, *other;  /* (C, w + 1), and a line */
    double *banks;                      /* (4, BANKS, C) */
    known *knows;
} scratch;

/* exp to 1 ulp; 0 below -87, and no more than exp(88); NaN stays NaN. */
static inline float exp_(float x) {
    float low = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
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
    float e = q * as_float((uint32_t)((int32_t)n + 127) << 23);
    return x < -87.0f ? 0.0f : e;
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

/* Two loops each, for the compiler makes vectors of the first one alone. */
#define EACH(BODY)                                              \
    if (step == 1) for (int64_t t = 0, i = 0; t < size; t++, i++) BODY \
    else for (int64_t t = 0, i = 0; t < size; t++, i += step) BODY

static void read_floats(const tensor *x, const void *from, int64_t size, float *restrict to) {
    int64_t step = x->column;
    const float *f = from;
    const uint16_t *h = from;
    const uint8_t *b = from;
    switch (x->type) {
        case FLOAT32: EACH(to[t] = f[i];) break;
        case BFLOAT16: EACH(to[t] = as_float((uint32_t)h[i] << 16);) break;
        case FLOAT16: EACH(to[t] = from_half(h[i]);) break;
        default: EACH(to[t] = b[i];) break;
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

/* Labels become a class and weight 1, or class 0 and weight 0 where they are none. */
#define READ_LABELS(ctype)                                                               \
    EACH({                                                                               \
        int64_t value = ((const ctype *)from)[i];                                        \
        int counts = value >= 0 && value < classes && !(ignores && value == ignore);     \
        label[t] = counts ? (int32_t)value : 0;                                          \
        w[t] = counts ? 1.0f : 0.0f;                                                     \
    })

static void read_labels(const target *y, const void *from, int64_t size, int64_t classes,
                        int32_t *restrict label, float *restrict w) {
    int64_t step = y->values.column, ignore = y->ignore;
    int ignores = (int)y->ignores;
    switch (y->values.type) {
        case UINT8: READ_LABELS(uint8_t) break;
        case INT8: READ_LABELS(int8_t) break;
        case INT16: READ_LABELS(int16_t) break;
        case INT32: READ_LABELS(int32_t) break;
        default: READ_LABELS(int64_t) break;
    }
}

/* One target of labels that are not smoothed: `on` and `off` are 1 and 0. */
static int is_hard(const job *j) {
    return j->K == 1 && j->targets[0].kind == LABELS && j->targets[0].epsilon == 0.0;
}

/* What one target says of a tile: its weights, and labels or probabilities. */
static void read_target(const job *j, scratch *s, int64_t k, int64_t n, int64_t row,
                        int64_t column, int64_t size) {
    const target *y = &j->targets[k];
    float *w = s->w + k * j->tile, *on = s->on + k * j->tile, *off = s->off + k * j->tile;
    int32_t *label = s->label + k * j->tile;
    known *knows = &s->knows[k];
    *knows = (known){.w = w, .label = label, .on = on, .off = off};
    if (y->kind == LABELS) {
        read_labels(y, place(&y->values, n, 0, row, column), size, j->C, label, w);
        if (is_hard(j) && !j->maxima) return;
        float epsilon = (float)y->epsilon, share = epsilon / (float)j->C;
        if (y->where.data) {
            read_floats(&y->where, place(&y->where, n, 0, row, column), size, off);
            for (int64_t t = 0; t < size; t++) {
                on[t] = off[t] != 0.0f ? 1.0f - epsilon + share : 1.0f;
                off[t] = off[t] != 0.0f ? share : 0.0f;
            }
        } else {
            for (int64_t t = 0; t < size; t++) on[t] = 1.0f - epsilon + share, off[t] = share;
        }
        return;
    }
    knows->label = NULL;
    if (y->values.type == FLOAT32 && y->values.column == 1) {
        knows->y = place(&y->values, n, 0, row, column);
        knows->pitch = y->values.channel;
    } else {
        float *to = s->y + k * j->C * j->tile;
        for (int64_t c = 0; c < j->C; c++)
            read_floats(&y->values, place(&y->values, n, c, row, column), size, to + c * j->tile);
        knows->y = to;
        knows->pitch = j->tile;
    }
    for (int64_t t = 0; t < size; t++) w[t] = 1.0f;
    if (y->where.data) read_floats(&y->where, place(&y->where, n, 0, row, column), size, w);
    if (!y->ignores) return;
    float ignore = (float)y->ignore; /* a pixel with this value in every class does not count */
    for (int64_t t = 0; t < size; t++) w[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++)
        for (int64_t t = 0; t < size; t++)
            w[t] = knows->y[c * knows->pitch + t] != ignore ? 1.0f : w[t];
}

/* Join the weights of a target with those of the job; say whether every pixel counts. */
static int weigh(const job *j, scratch *s, int64_t k, int64_t n, int64_t row, int64_t column,
                 int64_t size) {
    float *w = s->w + k * j->tile, *given = s->dot;
    if (j->valid.data) {
        read_floats(&j->valid, place(&j->valid, n, 0, row, column), size, given);
        for (int64_t t = 0; t < size; t++) w[t] = given[t] != 0.0f ? w[t] : 0.0f;
    }
    if (j->weights.data) {
        read_floats(&j->weights, place(&j->weights, n, 0, row, column), size, given);
        for (int64_t t = 0; t < size; t++) w[t] = w[t] > 0.0f ? given[t] : 0.0f;
    }
    int all = 1;
    for (int64_t t = 0; t < size; t++) all &= w[t] > 0.0f;
    return all;
}

/* Interpolate row `row` of all classes vertically: (C, h, w) -> low (C, w + 1). */
static void read_low(const job *j, scratch *s, int64_t n, int64_t row) {
    int64_t first = j->row_first[row], next = first + 1 < j->h ? first + 1 : first;
    float share = j->row_share[row], *other = s->other;
    for (int64_t c = 0; c < j->C; c++) {
        float *low = s->low + c * (j->w + 1);
        read_floats(&j->logits, place(&j->logits, n, c, first, 0), j->w, low);
        read_floats(&j->logits, place(&j->logits, n, c, next, 0), j->w, other);
        for (int64_t x = 0; x < j->w; x++) low[x] = (1.0f - share) * low[x] + share * other[x];
        low[j->w] = low[j->w - 1];
    }
}

typedef struct {
    const float *data;
    int64_t pitch;
} rows_of;

/* The logits (C, tile) of a tile: in place where they are floats, otherwise in the buffer. */
static rows_of read_logits(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                           int64_t size, int all) {
    int in_place = !j->h && j->logits.type == FLOAT32 && j->logits.column == 1 && all;
    if (in_place)
        return (rows_of){place(&j->logits, n, 0, row, column), j->logits.channel};
    for (int64_t c = 0; c < j->C; c++) {
        float *z = s->z + c * j->tile;
        if (j->h) {
            const float *low = s->low + c * (j->w + 1), *share = j->column_share + column;
            const int32_t *first = j->column_first + column;
            for (int64_t t = 0; t < size; t++)
                z[t] = (1.0f - share[t]) * low[first[t]] + share[t] * low[first[t] + 1];
        } else {
            read_floats(&j->logits, place(&j->logits, n, c, row, column), size, z);
        }
        if (!all) /* before the arithmetic: 0 times NaN is NaN */
            for (int64_t t = 0; t < size; t++) z[t] = s->any[t] > 0.0f ? z[t] : 0.0f;
    }
    return (rows_of){s->z, j->tile};
}

/* p = exp(z - most) and its sum over the classes; with `u` also dot = sum_c u_c p_c. Returns the
 * largest |z|. */
static float exponentials(const job *j, scratch *s, rows_of z, int64_t size, const float *u) {
    const float *most = s->most;
    float *restrict sum = s->sum, *restrict dot = s->dot, largest = 0.0f;
    for (int64_t t = 0; t < size; t++) sum[t] = dot[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *row = z.data + c * z.pitch;
        float *restrict p = s->p + c * j->tile;
        float factor = u ? u[c] : 0.0f;
        if (c + 1 < j->C) /* the next row is far away in memory */
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

/* The softmax but for the division. Logits of a sane size need no maximum taken off, which saves a
 * third of the passes over the tile; when they turn out not to be, it is done again. */
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

/* Read targets and logits of a tile, and make the softmax (not yet divided by its sum). */
static rows_of begin(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                     int64_t size, const float *u) {
    int all = 0;
    for (int64_t k = 0; k < j->K; k++) {
        read_target(j, s, k, n, row, column, size);
        all |= weigh(j, s, k, n, row, column, size);
    }
    if (!all) {
        for (int64_t t = 0; t < size; t++) s->any[t] = 0.0f;
        for (int64_t k = 0; k < j->K; k++)
            for (int64_t t = 0; t < size; t++)
                s->any[t] = s->w[k * j->tile + t] > 0.0f ? 1.0f : s->any[t];
    }
    rows_of z = read_logits(j, s, n, row, column, size, all);
    softmax(j, s, z, size, u);
    return z;
}

static void sum_maxima(const job *j, scratch *s, int64_t k, int64_t size, double *sums) {
    const known *y = &s->knows[k];
    for (int64_t c = 0; c < j->C; c++) {
        const float *p = s->p + c * j->tile;
        float p_max = 0.0f, y_max = 0.0f;
        for (int64_t t = 0; t < size; t++) {
            float value = y->label ? (y->label[t] == c ? y->on[t] : y->off[t])
                                   : y->y[c * y->pitch + t];
            float prob = p[t] / s->sum[t];
            if (y->w[t] > 0.0f && prob > p_max) p_max = prob;
            if (y->w[t] > 0.0f && value > y_max) y_max = value;
        }
        double *found = sums + c * SUMS;
        if (p_max > found[P_MAX]) found[P_MAX] = p_max;
        if (y_max > found[Y_MAX]) found[Y_MAX] = y_max;
    }
}

/* Sums of what concerns the labels alone, pixel by pixel. Four of them in turn, for an addition to
 * the class of the pixel before would have to wait for it. */
enum { BANKS = 4 };

static void fold_banks(const job *j, scratch *s, int value, double *sums, int at) {
    double *bank = s->banks + value * BANKS * j->C;
    for (int64_t c = 0; c < j->C; c++)
        for (int b = 0; b < BANKS; b++) sums[c * SUMS + at] += bank[b * j->C + c];
}

/* log sum exp z of each pixel. */
static void log_sums(scratch *s, int64_t size) {
    for (int64_t t = 0; t < size; t++) s->entropy[t] = log_(s->sum[t]) + s->most[t];
}

/* One hard target. D is the mass of the prediction off the label plus what is missing on it, so that
 * no large numbers cancel; what is off the label is one product. */
static void sum_hard(const job *j, scratch *s, rows_of z, int64_t size, double *sums,
                     double *totals) {
    const known *y = &s->knows[0];
    float *restrict scale = s->scale;
    double cross_entropy = 0.0, weight = 0.0;
    memset(s->banks, 0, (size_t)(2 * BANKS * j->C) * sizeof(double));
    for (int64_t t = 0; t < size; t++) scale[t] = 1.0f / s->sum[t];
    for (int64_t t = 0; t < size; t++) {
        int64_t c = y->label[t];
        float *entry = s->p + c * j->tile + t, w = y->w[t];
        double *bank = s->banks + (t % BANKS) * j->C + c;
        bank[0] += w * (*entry * scale[t]);
        bank[BANKS * j->C] += w;
        *entry = 0.0f;
    }
    if (j->cross_entropy) {
        log_sums(s, size);
        for (int64_t t = 0; t < size; t++) {
            float z_label = z.data[y->label[t] * z.pitch + t];
            cross_entropy += y->w[t] > 0.0f ? y->w[t] * (s->entropy[t] - z_label) : 0.0f;
        }
    }
    for (int64_t t = 0; t < size; t++) scale[t] *= y->w[t];
    for (int64_t c = 0; c < j->C; c++) {
        const float *p = s->p + c * j->tile;
        float others = 0.0f;
        double hit = 0.0, mass = 0.0;
#pragma omp simd reduction(+ : others)
        for (int64_t t = 0; t < size; t++) others += p[t] * scale[t];
        for (int b = 0; b < BANKS; b++) {
            hit += s->banks[b * j->C + c];
            mass += s->banks[(BANKS + b) * j->C + c];
        }
        double *found = sums + c * SUMS;
        found[P] += others + hit;
        found[Y] += mass;
        found[D] += others + (mass - hit);
        found[M] += hit;
        weight += mass;
    }
    totals[0] += weight;
    totals[1] += cross_entropy;
}

/* Labels, perhaps smoothed: y is `off` but for the label, where it is `on`. For the time being p at
 * the label is `off`, too, so that the loop over the classes need not look for it. */
static void sum_labels(const job *j, scratch *s, rows_of z, int64_t k, int64_t size, double *sums,
                       double *totals) {
    const known *y = &s->knows[k];
    const float *w = y->w, *on = y->on, *off = y->off;
    float *restrict scale = s->scale, *restrict share = s->any, *restrict kept = s->dot;
    double weight = 0.0, spread = 0.0, cross_entropy = 0.0;
    memset(s->banks, 0, (size_t)(4 * BANKS * j->C) * sizeof(double));
    for (int64_t t = 0; t < size; t++) {
        int64_t c = y->label[t];
        float *entry = s->p + c * j->tile + t, p = *entry / s->sum[t];
        double *bank = s->banks + (t % BANKS) * j->C + c;
        kept[t] = *entry;
        *entry = off[t] * s->sum[t];
        scale[t] = w[t] / s->sum[t];
        share[t] = w[t] * off[t];
        bank[0] += w[t] * (p - off[t]);
        bank[BANKS * j->C] += w[t] * (on[t] - off[t]);
        bank[2 * BANKS * j->C] += w[t] * fabsf(p - on[t]);
        bank[3 * BANKS * j->C] += w[t] * (p * on[t] - off[t] * off[t]);
        spread += share[t];
        weight += w[t];
    }
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile;
        float sP = 0, sD = 0, sM = 0;
#pragma omp simd reduction(+ : sP, sD, sM)
        for (int64_t t = 0; t < size; t++) {
            float p = e[t] * scale[t];
            sP += p;
            sD += fabsf(p - share[t]);
            sM += p * off[t];
        }
        double *found = sums + c * SUMS;
        found[P] += sP;
        found[Y] += spread;
        found[D] += sD;
        found[M] += sM;
    }
    fold_banks(j, s, 0, sums, P);
    fold_banks(j, s, 1, sums, Y);
    fold_banks(j, s, 2, sums, D);
    fold_banks(j, s, 3, sums, M);
    if (j->cross_entropy) {
        log_sums(s, size);
        float *of_all = scale; /* sum over the classes of -log p */
        for (int64_t t = 0; t < size; t++) of_all[t] = 0.0f;
        for (int64_t c = 0; c < j->C; c++)
            for (int64_t t = 0; t < size; t++)
                of_all[t] += s->entropy[t] - z.data[c * z.pitch + t];
        for (int64_t t = 0; t < size; t++) {
            float own = s->entropy[t] - z.data[y->label[t] * z.pitch + t];
            float all = off[t] > 0.0f ? off[t] * of_all[t] : 0.0f;
            float rest = on[t] > off[t] ? (on[t] - off[t]) * own : 0.0f;
            cross_entropy += w[t] > 0.0f ? w[t] * (all + rest) : 0.0f;
        }
    }
    for (int64_t t = 0; t < size; t++) s->p[y->label[t] * j->tile + t] = kept[t];
    totals[0] += weight;
    totals[1] += cross_entropy;
}

/* Probabilities. */
static void sum_probs(const job *j, scratch *s, rows_of z, int64_t k, int64_t size, double *sums,
                      double *totals) {
    const known *knows = &s->knows[k];
    const float *w = knows->w;
    float *restrict scale = s->scale;
    const float *entropy = s->entropy;
    for (int64_t t = 0; t < size; t++) scale[t] = 1.0f / s->sum[t];
    if (j->cross_entropy) log_sums(s, size);
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile, *given = knows->y + c * knows->pitch;
        const float *row = z.data + c * z.pitch;
        float sP = 0, sY = 0, sD = 0, sM = 0, sE = 0;
#pragma omp simd reduction(+ : sP, sY, sD, sM)
        for (int64_t t = 0; t < size; t++) {
            float p = e[t] * scale[t], y = w[t] > 0.0f ? given[t] : 0.0f, wp = w[t] * p;
            sP += wp;
            sY += w[t] * y;
            sD += w[t] * fabsf(p - y);
            sM += wp * y;
        }
        if (j->cross_entropy) {
#pragma omp simd reduction(+ : sE)
            for (int64_t t = 0; t < size; t++) {
                float y = w[t] > 0.0f ? given[t] : 0.0f;
                sE += y != 0.0f ? w[t] * y * (entropy[t] - row[t]) : 0.0f;
            }
        }
        double *found = sums + c * SUMS;
        found[P] += sP;
        found[Y] += sY;
        found[D] += sD;
        found[M] += sM;
        totals[1] += sE;
    }
    float weight = 0.0f;
#pragma omp simd reduction(+ : weight)
    for (int64_t t = 0; t < size; t++) weight += w[t];
    totals[0] += weight;
}

static void sum_tile(const job *j, scratch *s, int64_t unit, int64_t n, int64_t row,
                     int64_t column, int64_t size) {
    rows_of z = begin(j, s, n, row, column, size, NULL);
    for (int64_t k = 0; k < j->K; k++) {
        double *sums = j->sums + (unit * j->K + k) * j->C * SUMS;
        double *totals = j->totals + (unit * j->K + k) * 2;
        if (j->maxima) sum_maxima(j, s, k, size, sums);
        if (is_hard(j)) sum_hard(j, s, z, size, sums, totals);
        else if (s->knows[k].label) sum_labels(j, s, z, k, size, sums, totals);
        else sum_probs(j, s, z, k, size, sums, totals);
    }
}

/* dz of a tile for hard labels. `out` and its pitch may be those of the gradient itself. */
static void slope_hard(const job *j, scratch *s, int64_t n, int64_t size, const float *u,
                       float *out, int64_t pitch) {
    const known *y = &s->knows[0];
    const float *dP = j->dP + n * j->C, *dD = j->dD + n * j->C, *dM = j->dM + n * j->C;
    float dE = j->dE[n], *restrict scale = s->scale, *restrict dot = s->dot;
    float *restrict at_label = s->entropy;
    for (int64_t t = 0; t < size; t++) {
        int64_t c = y->label[t];
        float p = s->p[c * j->tile + t] / s->sum[t], v = dP[c] - dD[c] + dM[c];
        float mean = dot[t] / s->sum[t] + (v - u[c]) * p;
        at_label[t] = y->w[t] * (p * (v + dE - mean) - dE);
        scale[t] = y->w[t] / s->sum[t];
        dot[t] = mean;
    }
    for (int64_t c = 0; c < j->C; c++) {
        const float *p = s->p + c * j->tile;
        float *restrict to = out + c * pitch, factor = u[c] + dE;
        for (int64_t t = 0; t < size; t++) to[t] = p[t] * scale[t] * (factor - dot[t]);
    }
    for (int64_t t = 0; t < size; t++) out[y->label[t] * pitch + t] = at_label[t];
}

/* The gradients of the sums of one target and image. */
typedef struct {
    const float *P, *D, *M;
    float E;
} cotangents;

static cotangents cotangents_of(const job *j, int64_t k, int64_t n) {
    int64_t at = (k * j->N + n) * j->C;
    return (cotangents){j->dP + at, j->dD + at, j->dM + at, j->dE[k * j->N + n]};
}

/* a_c of chunked.py for one target of weight 1. */
static inline float slope(float p, float y, float dP, float dD, float dM) {
    float sign = p > y ? dD : p < y ? -dD : 0.0f;
    return dP + sign + dM * y;
}

/* What it is at the label, y = on, less what it would be off it; without branches, for this is done
 * pixel by pixel and nobody can predict them. */
static inline float slope_at_label(float p, float on, float off, float dD, float dM) {
    float sign = (float)((p > on) - (p < on) - (p > off) + (p < off));
    return dD * sign + dM * (on - off);
}

/* Add w (E' sum_c y_c - sum_c p_c a_c) of one target to `rest`. */
static void add_rest(const job *j, scratch *s, int64_t k, int64_t n, int64_t size) {
    const known *knows = &s->knows[k];
    cotangents d = cotangents_of(j, k, n);
    const float *w = knows->w, *on = knows->on, *off = knows->off;
    float *restrict scale = s->scale, *restrict dot = s->dot, *restrict mass = s->any;
    for (int64_t t = 0; t < size; t++) dot[t] = mass[t] = 0.0f;
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile;
        float dP = d.P[c], dD = d.D[c], dM = d.M[c];
        if (knows->label) {
            for (int64_t t = 0; t < size; t++) {
                float p = e[t] * scale[t];
                dot[t] += p * slope(p, off[t], dP, dD, dM);
            }
        } else {
            const float *given = knows->y + c * knows->pitch;
            for (int64_t t = 0; t < size; t++) {
                float p = e[t] * scale[t], y = w[t] > 0.0f ? given[t] : 0.0f;
                dot[t] += p * slope(p, y, dP, dD, dM);
                mass[t] += y;
            }
        }
    }
    if (knows->label)
        for (int64_t t = 0; t < size; t++) {
            int64_t c = knows->label[t];
            float p = s->p[c * j->tile + t] * scale[t];
            dot[t] += p * slope_at_label(p, on[t], off[t], d.D[c], d.M[c]);
            mass[t] = 1.0f;
        }
    for (int64_t t = 0; t < size; t++) s->entropy[t] += w[t] * (d.E * mass[t] - dot[t]);
}

/* Add w (p_c a_c - E' y_c) of one target to dz; the first one writes it, with p_c rest. */
static void add_slope(const job *j, scratch *s, int64_t k, int64_t n, int64_t size, float *out,
                      int64_t pitch) {
    const known *knows = &s->knows[k];
    cotangents d = cotangents_of(j, k, n);
    const float *w = knows->w, *on = knows->on, *off = knows->off;
    const float *scale = s->scale, *rest = s->entropy;
    for (int64_t c = 0; c < j->C; c++) {
        const float *e = s->p + c * j->tile;
        const float *given = knows->label ? off : knows->y + c * knows->pitch;
        float *restrict to = out + c * pitch, dP = d.P[c], dD = d.D[c], dM = d.M[c];
        for (int64_t t = 0; t < size; t++) {
            float p = e[t] * scale[t], y = w[t] > 0.0f ? given[t] : 0.0f;
            float before = k ? to[t] : p * rest[t];
            to[t] = before + w[t] * (p * slope(p, y, dP, dD, dM) - d.E * y);
        }
    }
    if (!knows->label) return;
    for (int64_t t = 0; t < size; t++) {
        int64_t c = knows->label[t];
        float p = s->p[c * j->tile + t] * scale[t];
        float more = p * slope_at_label(p, on[t], off[t], d.D[c], d.M[c]);
        out[c * pitch + t] += w[t] * (more - d.E * (on[t] - off[t]));
    }
}

/* dz of a tile for any targets. */
static void slope_any(const job *j, scratch *s, int64_t n, int64_t size, float *out,
                      int64_t pitch) {
    for (int64_t t = 0; t < size; t++) {
        s->scale[t] = 1.0f / s->sum[t];
        s->entropy[t] = 0.0f;
    }
    for (int64_t k = 0; k < j->K; k++) add_rest(j, s, k, n, size);
    for (int64_t k = 0; k < j->K; k++) add_slope(j, s, k, n, size, out, pitch);
}

/* Add a tile's gradient to the low-resolution rows above and below it: top and bottom (C, w + 1). */
static void add_adjoint(const job *j, scratch *s, int64_t row, int64_t column, int64_t size,
                        const float *dz, int64_t pitch) {
    float below = j->row_share[row], above = 1.0f - below;
    for (int64_t c = 0; c < j->C; c++) {
        const float *g = dz + c * pitch;
        float *top = s->top + c * (j->w + 1), *bottom = s->bottom + c * (j->w + 1);
        for (int64_t t = 0; t < size;) {
            int32_t first = j->column_first[column + t];
            float left = 0.0f, right = 0.0f;
            for (; t < size && j->column_first[column + t] == first; t++) {
                float share = j->column_share[column + t];
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

static void slope_tile(const job *j, scratch *s, int64_t n, int64_t row, int64_t column,
                       int64_t size, const float *u) {
    int hard = is_hard(j);
    begin(j, s, n, row, column, size, hard ? u + n * j->C : NULL);
    const tensor *to = &j->gradient;
    int in_place = !j->h && to->type == FLOAT32 && to->column == 1;
    float *out = in_place ? place(to, n, 0, row, column) : s->a;
    int64_t pitch = in_place ? to->channel : j->tile;
    if (hard) slope_hard(j, s, n, size, u + n * j->C, out, pitch);
    else slope_any(j, s, n, size, out, pitch);
    if (j->h) add_adjoint(j, s, row, column, size, out, pitch);
    else if (!in_place)
        for (int64_t c = 0; c < j->C; c++)
            write_floats(to, place(to, n, c, row, column), size, out + c * pitch);
}

/* ---- units and threads ---------------------------------------------------------------------- */

typedef struct {
    const job *j;
    const float *u;        /* (N, C) dP + dD of hard labels; NULL when sums are wanted */
    atomic_llong next;
    atomic_int failed;
} work;

/* Write a finished row of the low-resolution gradient, or keep it when another unit shares it; the
 * row below becomes the upper one. */
static void finish(const job *j, scratch *s, int64_t n, int64_t unit, int64_t row, int64_t from,
                   int64_t to) {
    float *rows = s->top;
    if (row < j->h) {
        int border = row == from ? 0 : row == to ? 1 : -1;
        for (int64_t c = 0; c < j->C; c++) {
            float *x = rows + c * (j->w + 1);
            if (border >= 0)
                memcpy(j->borders + ((unit * 2 + border) * j->C + c) * j->w, x, (size_t)j->w * 4);
            else
                write_floats(&j->gradient, place(&j->gradient, n, c, row, 0), j->w, x);
        }
    }
    memset(rows, 0, (size_t)(j->C * (j->w + 1)) * 4);
    s->top = s->bottom;
    s->bottom = rows;
}

/* Full-resolution rows whose first source row is in [from, to). */
static void low_unit(work *work, scratch *s, int64_t n, int64_t unit, int64_t from, int64_t to) {
    const job *j = work->j;
    int64_t at = from;
    memset(s->top, 0, (size_t)(j->C * (j->w + 1)) * 4);
    memset(s->bottom, 0, (size_t)(j->C * (j->w + 1)) * 4);
    for (int64_t row = 0; row < j->rows; row++) {
        int64_t first = j->row_first[row];
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

static int allocate(const job *j, scratch *s, char **memory) {
    int64_t line = (j->tile + 15) / 16 * 16, block = j->C * line, low = j->C * (j->w + 1);
    int64_t converted = 0, lows = j->h ? 3 * low + j->w + 64 : 0;
    for (int64_t k = 0; k < j->K; k++) converted |= j->targets[k].kind == PROBS;
    int64_t floats = 3 * block + converted * j->K * block + 4 * j->K * line + 6 * line + lows;
    size_t bytes = (size_t)floats * 4 + (size_t)(4 * BANKS * j->C) * sizeof(double) +
                   (size_t)j->K * sizeof(known) + 128;
    *memory = malloc(bytes);
    if (!*memory) return 0;
    float *at = (float *)(((uintptr_t)*memory + 63) / 64 * 64);
    s->z = at, at += block;
    s->p = at, at += block;
    s->a = at, at += block;
    s->y = at, at += converted * j->K * block;
    s->w = at, at += j->K * line;
    s->on = at, at += j->K * line;
    s->off = at, at += j->K * line;
    s->label = (int32_t *)at, at += j->K * line;
    s->most = at, at += line;
    s->sum = at, at += line;
    s->scale = at, at += line;
    s->dot = at, at += line;
    s->any = at, at += line;
    s->entropy = at, at += line;
    s->low = at, at += j->h ? low : 0;
    s->top = at, at += j->h ? low : 0;
    s->bottom = at, at += j->h ? low : 0;
    s->other = at, at += j->h ? j->w : 0;
    s->banks = (double *)(((uintptr_t)at + 15) / 16 * 16);
    s->knows = (known *)(s->banks + 4 * BANKS * j->C);
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
    int64_t pieces = j->h ? (j->h > 1 ? j->h - 1 : 1) : j->rows * per_row;
    for (;;) {
        int64_t unit = j->first + atomic_fetch_add(&work->next, 1);
        if (unit >= j->last) break;
        int64_t n = unit / j->units, i = unit % j->units;
        int64_t from = pieces * i / j->units, to = pieces * (i + 1) / j->units;
        if (j->h) low_unit(work, &s, n, unit, from, to);
        else full_unit(work, &s, n, unit, from, to);
    }
    free(memory);
    return NULL;
}

static int run(work *work) {
    int64_t threads = work->j->threads;
#ifdef _OPENMP
    /* With the threads of torch, where both have the same OpenMP: others would fight for the cores
     * with those of torch, which keep spinning for a while after their work. */
#pragma omp parallel num_threads((int)threads)
    worker(work);
    (void)threads;
#else
    pthread_t *others = calloc((size_t)threads, sizeof(pthread_t));
    int64_t started = 0;
    if (others)
        while (started < threads - 1 && !pthread_create(&others[started], NULL, worker, work))
            started++;
    worker(work); /* this thread does its share, and all of it when no other could be started */
    for (int64_t i = 0; i < started; i++) pthread_join(others[i], NULL);
    free(others);
#endif
    return atomic_load(&work->failed);
}

/* Add up the low-resolution rows at which two units met, and write them: after the last unit. */
void softiou_join(const job *j) {
    int64_t pieces = j->h > 1 ? j->h - 1 : 1, line = j->C * j->w;
    for (int64_t unit = 0; unit < j->N * j->units; unit++) {
        int64_t n = unit / j->units, i = unit % j->units;
        int64_t from = pieces * i / j->units, to = pieces * (i + 1) / j->units;
        float *first = j->borders + unit * 2 * line, *last = first + line;
        if (i > 0)
            for (int64_t x = 0; x < line; x++) first[x] += first[x - line];
        for (int64_t c = 0; c < j->C; c++) {
            write_floats(&j->gradient, place(&j->gradient, n, c, from, 0), j->w,
                         first + c * j->w);
            if (i == j->units - 1 && to < j->h)
                write_floats(&j->gradient, place(&j->gradient, n, c, to, 0), j->w,
                             last + c * j->w);
        }
    }
}

/* Add up the sums of the units, in a fixed order: masses (4, K, N, C), maxima (2, K, N, C) and
 * totals (2, K, N). */
void softiou_total(const job *j, float *masses, float *maxima, float *totals) {
    for (int64_t n = 0; n < j->N; n++)
        for (int64_t k = 0; k < j->K; k++) {
            for (int64_t i = 0; i < j->C * SUMS; i++) {
                int64_t c = i / SUMS, which = i % SUMS;
                double total = 0.0;
                for (int64_t unit = n * j->units; unit < (n + 1) * j->units; unit++) {
                    double part = j->sums[(unit * j->K + k) * j->C * SUMS + i];
                    total = which < P_MAX ? total + part : part > total ? part : total;
                }
                float *to = which < P_MAX ? masses : maxima; /* NULL when nobody asked */
                if (to) to[((which % P_MAX * j->K + k) * j->N + n) * j->C + c] = (float)total;
            }
            for (int64_t which = 0; which < 2; which++) {
                double total = 0.0;
                for (int64_t unit = n * j->units; unit < (n + 1) * j->units; unit++)
                    total += j->totals[(unit * j->K + k) * 2 + which];
                totals[(which * j->K + k) * j->N + n] = (float)total;
            }
        }
}

/* Returns 0, or 1 when there is no memory. */
int softiou_gather(const job *j) {
    work work = {.j = j};
    return run(&work);
}

int softiou_gradient(const job *j, int64_t bytes) {
    int64_t entries = j->N * j->C;
    float *u = malloc((size_t)(entries + 1) * 4);
    if (!u) return 1;
    for (int64_t i = 0; i < entries; i++) u[i] = j->dP[i] + j->dD[i]; /* of the first target */
    work work = {.j = j, .u = u};
#ifdef MADV_HUGEPAGE
    /* Fresh memory costs a page fault every 4 KiB, a third of the whole pass; ask for large pages. */
    uintptr_t start = ((uintptr_t)j->gradient.data + 4095) / 4096 * 4096;
    uintptr_t end = ((uintptr_t)j->gradient.data + (uintptr_t)bytes) / 4096 * 4096;
    if (bytes >= 1 << 25) madvise((void *)start, end - start, MADV_HUGEPAGE);
#endif
    int failed = run(&work);
    free(u);
    return failed;
}
