/* fpconv: float and double together: widening and narrowing, conversions from
 * and to signed and unsigned integers of both widths, sign tricks, compares,
 * single-precision divide and square root.
 *
 * Stresses: fcvt, fmv and fsgnj in all directions, rounding towards zero, NaN
 * boxing when both widths share registers.
 * Ignore when: the guest stays in one format. x86-64 has no conversion from
 * or to unsigned 64-bit before AVX-512, so native pays a branch there too.
 */
#include "../rt/rt.h"

#define QUICK 900
#define N_VALUES 2048

static RT_OPAQUE uint64_t integers(const uint64_t *values)
{
    uint64_t sum = 0;
    for (int i = 0; i < N_VALUES; i++) {
        /* Scaled down so that every result fits the type it returns to. */
        double signed64 = (double)(int64_t)values[i], unsigned64 = (double)values[i];
        float signed32 = (float)(int32_t)values[i], unsigned32 = (float)(uint32_t)values[i];
        sum += (uint64_t)(int64_t)(signed64 * 0.75) + (uint64_t)(unsigned64 * 0.75);
        sum ^= (uint64_t)(int32_t)(signed32 * 0.75f) + (uint32_t)(unsigned32 * 0.75f);
        sum += (uint64_t)(int64_t)(float)(int64_t)(values[i] >> 20);
    }
    return sum;
}

static RT_OPAQUE double widths(const float *in, float *out)
{
    double total = 0;
    for (int i = 0; i < N_VALUES; i++) {
        double wide = (double)in[i] * 1.0000001 + (double)(i & 7);
        float narrow = (float)wide;
        total += wide - (double)narrow;
        out[i] = __builtin_copysignf(narrow, in[(i + 1) % N_VALUES]);
    }
    return total;
}

static RT_OPAQUE float roots(const float *in)
{
    float total = 0;
    for (int i = 0; i < N_VALUES; i++) {
        float size = __builtin_fabsf(in[i]) + 0.5f;
        total += __builtin_sqrtf(size) / (1.0f + size);
        total -= in[i] < total ? -in[i] : in[i] * 0.5f;
        total *= 0.5f;
    }
    return total;
}

/* Quantises to a signed fixed-point number of 16 fraction bits, saturating. */
static RT_OPAQUE int64_t quantised(const float *in)
{
    int64_t sum = 0;
    for (int i = 0; i < N_VALUES; i++) {
        float scaled = in[i] * 65536.0f;
        int32_t fixed = scaled >= 200000.0f ? 200000 : scaled <= -200000.0f ? -200000 : (int32_t)scaled;
        sum = sum * 3 + fixed;
    }
    return sum;
}

int main(int argc, char **argv)
{
    static uint64_t values[N_VALUES];
    static float in[N_VALUES], out[N_VALUES];
    uint64_t scale = rt_begin("fpconv", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (int i = 0; i < N_VALUES; i++) {
        values[i] = rt_random(&random);
        in[i] = (float)(rt_unit(&random) * 16 - 8);
    }
    for (uint64_t i = 0; i < scale; i++) {
        values[i % N_VALUES] ^= sum;
        in[i % N_VALUES] = (float)(rt_unit(&random) * 16 - 8);
        sum = rt_mix(sum, integers(values));
        sum = rt_mix(sum, rt_bits64(widths(in, out)));
        sum = rt_mix(sum, rt_bits32(roots(out)));
        sum = rt_mix(sum, (uint64_t)quantised(out));
    }
    return rt_end(sum);
}
