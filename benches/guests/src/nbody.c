/* nbody: five bodies under softened gravity, leapfrog steps, in double.
 *
 * Stresses: double multiply, add, divide, square root in dependent chains;
 * NaN canonicalisation and fflags if an engine pays for them per operation.
 * Ignore when: the guest is not bound by the latency of arithmetic; here loads
 * and branches hide behind divide and square root.
 */
#include "../rt/rt.h"

#define QUICK 250
#define N_BODIES 5
#define STEPS_PER_SCALE 1000

struct body {
    double x, y, z, vx, vy, vz, mass;
};

static RT_OPAQUE void advance(struct body *bodies, double dt)
{
    for (int i = 0; i < N_BODIES; i++) {
        struct body *a = &bodies[i];
        for (int j = i + 1; j < N_BODIES; j++) {
            struct body *b = &bodies[j];
            double dx = b->x - a->x, dy = b->y - a->y, dz = b->z - a->z;
            double r2 = dx * dx + dy * dy + dz * dz + 0.01;
            double pull = dt / (r2 * __builtin_sqrt(r2));
            double on_a = b->mass * pull, on_b = a->mass * pull;
            a->vx += dx * on_a, a->vy += dy * on_a, a->vz += dz * on_a;
            b->vx -= dx * on_b, b->vy -= dy * on_b, b->vz -= dz * on_b;
        }
    }
    for (int i = 0; i < N_BODIES; i++) {
        struct body *a = &bodies[i];
        a->x += dt * a->vx, a->y += dt * a->vy, a->z += dt * a->vz;
    }
}

static RT_OPAQUE double energy(const struct body *bodies)
{
    double e = 0;
    for (int i = 0; i < N_BODIES; i++) {
        const struct body *a = &bodies[i];
        e += 0.5 * a->mass * (a->vx * a->vx + a->vy * a->vy + a->vz * a->vz);
        for (int j = i + 1; j < N_BODIES; j++) {
            const struct body *b = &bodies[j];
            double dx = b->x - a->x, dy = b->y - a->y, dz = b->z - a->z;
            e -= a->mass * b->mass / __builtin_sqrt(dx * dx + dy * dy + dz * dz + 0.01);
        }
    }
    return e;
}

int main(int argc, char **argv)
{
    struct body bodies[N_BODIES];
    uint64_t scale = rt_begin("nbody", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (int i = 0; i < N_BODIES; i++)
        bodies[i] = (struct body){ rt_unit(&random) * 4 - 2, rt_unit(&random) * 4 - 2,
                                   rt_unit(&random) * 4 - 2, rt_unit(&random) - 0.5,
                                   rt_unit(&random) - 0.5, rt_unit(&random) - 0.5,
                                   0.25 + rt_unit(&random) };
    for (uint64_t i = 0; i < scale; i++) {
        for (int step = 0; step < STEPS_PER_SCALE; step++)
            advance(bodies, 0x1p-12);
        sum = rt_mix(sum, rt_bits64(energy(bodies)));
    }
    return rt_end(sum);
}
