/* fir32: a 32-tap FIR filter, a cascade of three biquads and a peak follower
 * over a signal, all in float.
 *
 * Stresses: single-precision multiply and add, NaN boxing of values that live
 * in memory between calls, contiguous loads.
 * Ignore when: the guest uses doubles only. With -ffp-contract=off there is no
 * fused multiply-add here, though real RV64GC filters have it.
 */
#include "../rt/rt.h"

#define QUICK 140
#define N_TAPS 32
#define N_SAMPLES 4096

struct biquad {
    float b0, b1, b2, a1, a2, x1, x2, y1, y2;
};

static RT_OPAQUE void fir(float *restrict out, const float *restrict in, const float *restrict taps)
{
    for (int i = 0; i < N_SAMPLES; i++) {
        float even = 0, odd = 0;
        for (int k = 0; k < N_TAPS; k += 2) {
            even += in[i + k] * taps[k];
            odd += in[i + k + 1] * taps[k + 1];
        }
        out[i] = even + odd;
    }
}

static RT_OPAQUE void biquad(float *samples, struct biquad *q)
{
    for (int i = 0; i < N_SAMPLES; i++) {
        float x = samples[i];
        float y = q->b0 * x + q->b1 * q->x1 + q->b2 * q->x2 - q->a1 * q->y1 - q->a2 * q->y2;
        q->x2 = q->x1, q->x1 = x;
        q->y2 = q->y1, q->y1 = y;
        samples[i] = y;
    }
}

static RT_OPAQUE float follow_peak(const float *samples, float peak)
{
    for (int i = 0; i < N_SAMPLES; i++) {
        float level = samples[i] < 0 ? -samples[i] : samples[i];
        peak = level > peak ? level : peak * 0.9995f + level * 0.0005f;
    }
    return peak;
}

int main(int argc, char **argv)
{
    static float in[N_SAMPLES + N_TAPS], out[N_SAMPLES];
    float taps[N_TAPS], peak = 0;
    struct biquad cascade[3] = {
        { 0.2f, 0.4f, 0.2f, -0.6f, 0.25f, 0, 0, 0, 0 },
        { 0.5f, -0.3f, 0.1f, -0.4f, 0.3f, 0, 0, 0, 0 },
        { 0.9f, 0.1f, -0.2f, 0.2f, 0.15f, 0, 0, 0, 0 },
    };
    uint64_t scale = rt_begin("fir32", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (int i = 0; i < N_TAPS; i++)
        taps[i] = (float)(rt_unit(&random) - 0.5) * 0.25f;
    for (int i = 0; i < N_SAMPLES + N_TAPS; i++)
        in[i] = (float)(rt_unit(&random) - 0.5);
    for (uint64_t i = 0; i < scale; i++) {
        in[i % N_SAMPLES] = (float)(rt_unit(&random) - 0.5);
        fir(out, in, taps);
        for (int k = 0; k < 3; k++)
            biquad(out, &cascade[k]);
        peak = follow_peak(out, peak);
        sum = rt_mix(sum, rt_bits32(peak));
        sum = rt_mix(sum, rt_bits32(out[i * 37 % N_SAMPLES]));
    }
    return rt_end(sum);
}
