/* Floating point through printf and libm, sorting, jumping far. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static jmp_buf back;

int main(void)
{
    double values[64];
    for (int i = 0; i < 64; i++)
        values[i] = sin(i) * pow(1.5, i % 11) + sqrt(i);
    qsort(values, 64, sizeof values[0], descending);
    for (int i = 0; i < 64; i += 7)
        printf("%.17g %a %e\n", values[i], values[i], values[i]);
    printf("%.10Lf %f %d\n", 1.0L / 3, strtod("1e-5", NULL), (int)strtol("-0x7f", NULL, 0));
    int jumps = setjmp(back);
    if (jumps < 3)
        longjmp(back, jumps + 1);
    printf("jumps %d\n", jumps);
    printf("%d %d %d\n", isnan(NAN), isinf(1 / (values[0] - values[0])), (int)fmod(17, 5));
    return 0;
}
