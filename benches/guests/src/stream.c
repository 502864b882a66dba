/* stream: copy, scale, add and triad over three 4 MiB arrays of doubles.
 *
 * Stresses: sequential loads and stores, the cost an engine adds per access
 * (masks, bounds, translation), host memory bandwidth behind it.
 * Ignore when: the host is out of memory bandwidth, or judging random access.
 * The native compiler copies with 16-byte moves.
 */
#include "../rt/rt.h"

#define QUICK 16
#define N_DOUBLES (512u << 10)

static double a[N_DOUBLES], b[N_DOUBLES], c[N_DOUBLES];

static RT_OPAQUE void copy(double *restrict to, const double *restrict from)
{
    for (uint32_t i = 0; i < N_DOUBLES; i++)
        to[i] = from[i];
}

static RT_OPAQUE void multiply(double *restrict to, const double *restrict from, double by)
{
    for (uint32_t i = 0; i < N_DOUBLES; i++)
        to[i] = by * from[i];
}

static RT_OPAQUE void add(double *restrict to, const double *restrict x, const double *restrict y)
{
    for (uint32_t i = 0; i < N_DOUBLES; i++)
        to[i] = x[i] + y[i];
}

static RT_OPAQUE void triad(double *restrict to, const double *restrict x, const double *restrict y, double by)
{
    for (uint32_t i = 0; i < N_DOUBLES; i++)
        to[i] = x[i] + by * y[i];
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("stream", argc, argv, QUICK);
    uint64_t sum = scale;
    for (uint32_t i = 0; i < N_DOUBLES; i++)
        a[i] = (double)(int)(i % 1000 + scale % 7) * 0.125;
    for (uint64_t round = 0; round < scale; round++) {
        copy(c, a);
        multiply(b, c, 0.5);
        add(c, a, b);
        triad(a, b, c, 0.25);
        for (uint32_t i = 0; i < N_DOUBLES; i += 997)
            sum = sum * 31 + rt_bits64(a[i]);
    }
    return rt_end(rt_mix(sum, rt_bits64(c[N_DOUBLES - 1])));
}
