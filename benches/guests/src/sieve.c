/* sieve: Eratosthenes over odd numbers, one byte each, limit near one million.
 *
 * Stresses: byte stores at a stride that grows from 3 to 1000, single-block
 * loops, then a linear scan; works in 512 KiB.
 * Ignore when: the host's second-level cache is much smaller than that.
 */
#include "../rt/rt.h"

#define QUICK 23
#define LIMIT_MAX 1000000u

static uint8_t composite[LIMIT_MAX / 2];

static RT_OPAQUE uint32_t sieve(uint32_t limit)
{
    uint32_t half = limit / 2, n_primes = 1;
    for (uint32_t i = 0; i < half; i++)
        composite[i] = 0;
    /* Index i stands for the number 2i + 1. */
    for (uint32_t i = 1; 2 * i * (i + 1) < half; i++)
        if (!composite[i])
            for (uint32_t j = 2 * i * (i + 1); j < half; j += 2 * i + 1)
                composite[j] = 1;
    for (uint32_t i = 1; i < half; i++)
        n_primes += !composite[i];
    return n_primes;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("sieve", argc, argv, QUICK);
    uint64_t sum = scale;
    /* 78498 primes below a million. */
    rt_line("primes", sieve(LIMIT_MAX));
    for (uint64_t i = 0; i < scale; i++)
        sum = rt_mix(sum, sieve(LIMIT_MAX - (uint32_t)(sum % 50000)));
    return rt_end(sum);
}
