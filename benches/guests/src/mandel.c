/* mandel: escape counts of z*z + c over a grid, in double.
 *
 * Stresses: a short floating-point loop held in registers, a compare and
 * branch on doubles per iteration; no memory traffic.
 * Ignore when: judging loads, stores or calls.
 */
#include "../rt/rt.h"

#define QUICK 29
#define GRID 64
#define MAX_ITERATIONS 200

static RT_OPAQUE uint32_t escape(double cr, double ci)
{
    double zr = 0, zi = 0;
    uint32_t n = 0;
    while (n < MAX_ITERATIONS) {
        double rr = zr * zr, ii = zi * zi;
        if (rr + ii > 4)
            break;
        zi = 2 * zr * zi + ci;
        zr = rr - ii + cr;
        n++;
    }
    return n;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("mandel", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale, n_inside = 0;
    for (uint64_t i = 0; i < scale; i++) {
        double left = -2.2 + 0.2 * rt_unit(&random), top = -1.3 + 0.2 * rt_unit(&random);
        for (int y = 0; y < GRID; y++)
            for (int x = 0; x < GRID; x++) {
                uint32_t n = escape(left + x * (3.0 / GRID), top + y * (2.4 / GRID));
                n_inside += n == MAX_ITERATIONS;
                sum = sum * 31 + n;
            }
    }
    rt_line("inside", n_inside);
    return rt_end(rt_mix(sum, n_inside));
}
