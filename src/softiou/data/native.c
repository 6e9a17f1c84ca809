/* Distinct mask values for reading.py, colours for transforms.py, exact areas for coverage.py, and
 * modification times for names.py; these modules explain and check the arguments.
 *
 * Shapes: E edges, S shapes, N files, R rows and K columns of pieces, h and w of the raster.
 */

static uint8_t as_byte(float value) {
    return (uint8_t)(value < 0.0f ? 0.0f : value > 255.0f ? 255.0f : value);
}

/* Interpolate the matrix m (B, B + 1), whose last column is an offset, towards grey: scale by f and
 * add `towards` times the grey value of each pixel, or with `mean` (B,) that of the whole image. */
static void change(double m[3][4], int64_t B, double f, const double *mean, double towards) {
    static const double shares[2][3] = {{1.0}, {0.2989, 0.587, 0.114}};
    double grey[4] = {0.0};
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i <= B; i++) grey[i] += shares[B == 3][b] * m[b][i];
    if (mean) {
        for (int64_t i = 0; i < B; i++) {
            grey[B] += grey[i] * mean[i];
            grey[i] = 0.0;
        }
    }
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i <= B; i++) m[b][i] = f * m[b][i] + towards * grey[i];
}

/* changed (B, h, w) = image (B, h, w, with strides; B = 1 or 3) after brightness (0), contrast (1)
 * and saturation (2) changes in the given order, rounded to the nearest integer. */
void softiou_jitter(const uint8_t *image, int64_t B, int64_t h, int64_t w, int64_t band,
                    int64_t line, int64_t step, const int64_t *order, int64_t changes,
                    const float *factors, uint8_t *restrict changed) {
    double mean[3] = {0.0}, exact[3][4] = {{0.0}};
    float m[3][4];
    for (int64_t b = 0; b < B; b++) {
        int64_t sum = 0;
        for (int64_t r = 0; r < h; r++) {
            const uint8_t *from = image + b * band + r * line;
            for (int64_t c = 0; c < w; c++) sum += from[c * step];
        }
        mean[b] = (double)sum / (double)(h * w);
        exact[b][b] = 1.0;
    }
    for (int64_t i = 0; i < changes; i++)
        if (order[i] < 3) {
            double f = factors[order[i]];
            change(exact, B, f, order[i] == 1 ? mean : NULL, order[i] ? 1.0 - f : 0.0);
        }
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0; i <= B; i++) m[b][i] = (float)(exact[b][i] + (i == B ? 0.5 : 0.0));
    for (int64_t r = 0; r < h; r++) {
        const uint8_t *from = image + r * line;
        uint8_t *to = changed + r * w;
        if (B == 1) {
            for (int64_t c = 0; c < w; c++) to[c] = as_byte(m[0][0] * from[c * step] + m[0][1]);
            continue;
        }
        for (int64_t c = 0; c < w; c++, from += step) {
            float x = from[0], y = from[band], z = from[2 * band];
            to[c] = as_byte(m[0][0] * x + m[0][1] * y + m[0][2] * z + m[0][3]);
            to[c + h * w] = as_byte(m[1][0] * x + m[1][1] * y + m[1][2] * z + m[1][3]);
            to[c + 2 * h * w] = as_byte(m[2][0] * x + m[2][1] * y + m[2][2] * z + m[2][3]);
        }
    }
}

/* Paeth predictor of PNG: the one of a (left), b (above), c (above left) nearest to a + b - c. */
static uint8_t nearest(int a, int b, int c) {
    int from_a = abs(b - c), from_b = abs(a - c), from_c = abs(a + b - 2 * c);
    return (uint8_t)(from_a <= from_b && from_a <= from_c ? a : from_b <= from_c ? b : c);
}

/* Undo the filter of one PNG row with b bytes per pixel; inlined so that b is a constant. */
static inline __attribute__((always_inline)) int unfilter(const uint8_t *from, int64_t line,
                                                          int64_t b, uint8_t *restrict to) {
    const uint8_t *above = to - line;
    int64_t i = 0;
    switch (*from++) {
    case 0:
        memcpy(to, from, (size_t)line);
        return 0;
    case 1:
        memcpy(to, from, (size_t)b);
        for (i = b; i < line; i++) to[i] = (uint8_t)(from[i] + to[i - b]);
        return 0;
    case 2:
        for (; i < line; i++) to[i] = (uint8_t)(from[i] + above[i]);
        return 0;
    case 3:
        for (; i < b; i++) to[i] = (uint8_t)(from[i] + above[i] / 2);
        for (; i < line; i++) to[i] = (uint8_t)(from[i] + (to[i - b] + above[i]) / 2);
        return 0;
    case 4:
        for (; i < b; i++) to[i] = (uint8_t)(from[i] + above[i]);
        for (; i < line; i++)
            to[i] = (uint8_t)(from[i] + nearest(to[i - b], above[i], above[i - b]));
        return 0;
    }
    return 1;
}

/* Undo the filters of PNG rows (h, 1 + line). pixels (1 + h, line) starts with a row of zeros.
 * Returns 1 for an unknown filter. */
int softiou_unfilter(const uint8_t *rows, int64_t h, int64_t line, int64_t b, uint8_t *pixels) {
    int wrong = 0;
    for (int64_t r = 0; r < h && !wrong; r++, rows += 1 + line) {
        pixels += line;
        wrong = b == 1 ? unfilter(rows, line, 1, pixels) : unfilter(rows, line, 3, pixels);
    }
    return wrong;
}

/* Set seen (256,) for each byte value; eight bytes equal to the previous eight are skipped. */
void softiou_mark_bytes(const uint8_t *bytes, int64_t count, uint8_t *seen) {
    if (count == 0) return;
    uint64_t word, before = UINT64_C(0x0101010101010101) * bytes[0];
    int64_t i = 0;
    seen[bytes[0]] = 1;
    for (; i + 8 <= count; i += 8) {
        memcpy(&word, bytes + i, 8);
        if (word == before) continue;
        before = word;
        for (int64_t j = i; j < i + 8; j++) seen[bytes[j]] = 1;
    }
    for (; i < count; i++) seen[bytes[i]] = 1;
}

/* Add the signed area between a piece of an edge and the right end of the box to a row: to the
 pixel * that the piece crosses, and to the next one. */
static void add_piece(float *row, double near, double far, double height, double left,
                      double right) {
    if (far <= left) {
        row[0] += (float)height;
    } else if (near >= right) {
        row[(int64_t)(right - left)] += (float)height;
    } else {
        double first = fmax(floor(near), left - 1.0), last = fmin(ceil(far), right + 1.0);
        for (double column = first; column < last || column == first; column += 1.0) {
            double start = column == first ? near : column;
            double end = column + 1.0 >= last ? far : column + 1.0;
            double part = far > near ? height * ((end - start) / (far - near)) : height;
            if (column < left) {
                row[0] += (float)part;
            } else if (column >= right) {
                row[(int64_t)(right - left)] += (float)part;
            } else {
                double share = (start + end) / 2 - column;
                int64_t at = (int64_t)(column - left);
                row[at] += (float)(part * (1.0 - share));
                row[at + 1] += (float)(part * share);
            }
        }
    }
}

/* edges (9, E): x0, y0, x1, y1, weight, and top, bottom, left, right of the shape's box. */
void softiou_add_edges(const double *edges, const int64_t *offsets, int64_t E, float *flat) {
    for (int64_t e = 0; e < E; e++) {
        const double *one = edges + e;
        double x0 = one[0], y0 = one[E], x1 = one[2 * E], y1 = one[3 * E], weight = one[4 * E];
        double top = one[5 * E], bottom = one[6 * E], left = one[7 * E], right = one[8 * E];
        double low = fmax(fmin(y0, y1), top), high = fmin(fmax(y0, y1), bottom);
        if (!(low < high) || !(left < right)) continue;
        double slope = (x1 - x0) / (y1 - y0), least = fmin(x0, x1), most = fmax(x0, x1);
        weight = y0 < y1 ? weight : -weight;
        for (double line = floor(low); line < high; line += 1.0) {
            double start = fmax(low, line), end = fmin(high, line + 1.0);
            double a = fmin(fmax(x0 + (start - y0) * slope, least), most);
            double b = fmin(fmax(x0 + (end - y0) * slope, least), most);
            float *row = flat + offsets[e] + (int64_t)((line - top) * (right - left + 1.0));
            add_piece(row, fmin(a, b), fmax(a, b), (end - start) * weight, left, right);
        }
    }
}

/* Sum `lines` rows in parallel, because each sum depends on the previous one of its row. */
static inline void sum_lines(float *rows, int64_t lines, int64_t width) {
    double sums[4] = {0.0};
    for (int64_t i = 0; i < width; i++)
        for (int64_t line = 0; line < lines; line++) {
            float *at = rows + line * width + i;
            double share = fabs(sums[line] += *at);
            *at = (float)(share < 1.0 ? share : 1.0);
        }
}

/* Compute cumulative sums along the rows of each box, and clip their absolute values to 1. */
void softiou_sum_rows(const double *boxes, const int64_t *offsets, int64_t S, float *flat) {
    for (int64_t s = 0; s < S; s++) {
        int64_t width = (int64_t)(boxes[4 * s + 3] - boxes[4 * s + 2]) + 1, at = offsets[s];
        for (; at + 4 * width <= offsets[s + 1]; at += 4 * width) sum_lines(flat + at, 4, width);
        for (; at < offsets[s + 1]; at += width) sum_lines(flat + at, 1, width);
    }
}

/* shares (C, h, w) += areas of the pieces (R, K), with their labels from labels (H, W). */
void softiou_add_areas(const int64_t *labels, int64_t W, const int64_t *rows,
                       const int64_t *new_rows, const double *heights, int64_t R,
                       const int64_t *columns, const int64_t *new_columns, const double *widths,
                       int64_t K, int64_t h, int64_t w, float *shares) {
    for (int64_t r = 0; r < R; r++) {
        const int64_t *source = labels + rows[r] * W;
        float *target = shares + new_rows[r] * w;
        for (int64_t k = 0; k < K; k++)
            target[source[columns[k]] * h * w + new_columns[k]] += (float)(heights[r] * widths[k]);
    }
}

/* Move min(shares, left) (rows, columns) from `left` to `plane`, which have w columns each. */
void softiou_paint(const float *shares, int64_t stride, int64_t rows, int64_t columns,
                   float *restrict plane, float *restrict left, int64_t w) {
    for (int64_t r = 0; r < rows; r++, shares += stride, plane += w, left += w)
        for (int64_t c = 0; c < columns; c++) {
            float seen = shares[c] < left[c] ? shares[c] : left[c];
            plane[c] += seen;
            left[c] -= seen;
        }
}

#ifndef _WIN32
#include <fcntl.h>
#include <sys/stat.h>
#ifdef __APPLE__
#define st_mtim st_mtimespec
#endif

/* facts (N, 2) = size and modification time (ns) of files in an open folder, given names (N, size)
 * padded with zeros; rows of files that cannot be read are left unchanged. */
void softiou_ask(int64_t folder, const char *names, int64_t size, int64_t N, int64_t *facts) {
    char name[4096];
    struct stat found;
    for (int64_t n = 0; n < N && size < (int64_t)sizeof name; n++) {
        memcpy(name, names + n * size, (size_t)size);
        name[size] = 0;
        if (!*name || fstatat((int)folder, name, &found, 0)) continue;
        facts[2 * n] = (int64_t)found.st_size;
        facts[2 * n + 1] = (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec;
    }
}
#endif
