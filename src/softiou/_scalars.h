/* What the compiled files share; the build puts it in front of each. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum type { FLOAT32, BFLOAT16, FLOAT16, UINT8, INT8, INT16, INT32, INT64 };

static inline float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

/* log of a normal x > 0 to 1 ulp; NaN stays NaN. */
static inline __attribute__((always_inline)) float log_(float x) {
    int32_t bits = (int32_t)as_bits(x) - 0x3f3504f3; /* sqrt(1/2) */
    int32_t n = bits >> 23;
    float m = as_float(((uint32_t)bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
    float q = 7.0376836292e-2f;
    q = fmaf(q, m, -1.1514610310e-1f);
    q = fmaf(q, m, 1.1676998740e-1f);
    q = fmaf(q, m, -1.2420140846e-1f);
    q = fmaf(q, m, 1.4249322787e-1f);
    q = fmaf(q, m, -1.6668057665e-1f);
    q = fmaf(q, m, 2.0000714765e-1f);
    q = fmaf(q, m, -2.4999993993e-1f);
    q = fmaf(q, m, 3.3333331174e-1f);
    float square = m * m;
    float value = fmaf(q * m, square, -0.5f * square) + m;
    value = fmaf((float)n, 0.693147181f, value);
    return x == x ? value : x;
}

static inline float from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
    float value = as_float(rest << 13) * as_float(0x77800000u); /* 2^112: mends the exponent */
    if (rest >= 0x7c00) value = as_float(0x7f800000u | (rest & 0x3ff) << 13);
    return as_float(as_bits(value) | sign);
}

/* Windows and macOS have no OpenMP of torch under this name. */
#if defined(__linux__)
extern void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned) __attribute__((weak));
#endif

/* Run a worker in several threads: those of torch's OpenMP where it is loaded, because others would
 * compete for the cores with threads that keep spinning after their work; or POSIX threads. */
static void run_threads(void *(*worker)(void *), void *work, int64_t threads) {
#if defined(__linux__)
    if (GOMP_parallel && threads > 1) {
        GOMP_parallel((void (*)(void *))worker, work, (unsigned)threads, 0);
        return;
    }
#endif
    pthread_t *others = threads > 1 ? calloc((size_t)threads, sizeof(pthread_t)) : NULL;
    int64_t started = 0;
    if (others)
        while (started < threads - 1 && !pthread_create(&others[started], NULL, worker, work))
            started++;
    worker(work); /* this thread does its share, and all of it when no other could be started */
    for (int64_t i = 0; i < started; i++) pthread_join(others[i], NULL);
    free(others);
}
