/* matmul: product of two 96x96 double matrices in two loop orders, then the
 * result scaled back into the next round's input.
 *
 * Stresses: double loads and multiply-adds with strided addresses, address
 * arithmetic, three nested counted loops.
 * Ignore when: comparing with native code built with vector flags; at -O2 the
 * host compiler uses SSE2 for the row-wise order and RV64GC has no vectors.
 */
#include "../rt/rt.h"

#define QUICK 14
#define N 96

typedef double matrix[N][N];

static RT_OPAQUE void by_dots(matrix out, matrix a, matrix b)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double dot = 0;
            for (int k = 0; k < N; k++)
                dot += a[i][k] * b[k][j];
            out[i][j] = dot;
        }
}

static RT_OPAQUE void by_rows(matrix out, matrix a, matrix b)
{
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++)
            out[i][j] = 0;
        for (int k = 0; k < N; k++)
            for (int j = 0; j < N; j++)
                out[i][j] += a[i][k] * b[k][j];
    }
}

int main(int argc, char **argv)
{
    static matrix a, b, c, d;
    uint64_t scale = rt_begin("matmul", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale, n_different = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = rt_unit(&random) - 0.5;
            b[i][j] = rt_unit(&random) - 0.5;
        }
    for (uint64_t round = 0; round < scale; round++) {
        by_dots(c, a, b);
        by_rows(d, a, b);
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                /* Same additions in the same order, so the same bits. */
                n_different += rt_bits64(c[i][j]) != rt_bits64(d[i][j]);
                sum = sum * 31 + rt_bits64(c[i][j]);
                a[i][j] = c[i][j] * 0.25 + (rt_unit(&random) - 0.5);
            }
        sum = rt_mix(sum, round);
    }
    rt_line("different", n_different);
    return rt_end(sum);
}
