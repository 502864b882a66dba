/* muldiv: Miller-Rabin on 64-bit numbers with Montgomery multiplication,
 * Euclid's gcd, integer square roots, digit sums in varying bases.
 *
 * Stresses: mul, mulhu, div, divu, rem, remu and their 32-bit forms, whose
 * results for a zero divisor and overflow an engine must check for.
 * Ignore when: the guest divides by constants only (compilers multiply), or
 * comparing hosts: 64-bit division took 40 cycles before 2019 and takes 10.
 */
#include "../rt/rt.h"

#define QUICK 900

static inline uint64_t high_product(uint64_t a, uint64_t b)
{
    return (uint64_t)((unsigned __int128)a * b >> 64);
}

/* a * b / 2^64 mod n, for odd n and inverse = -1/n mod 2^64, below 2n. */
static inline uint64_t redc_product(uint64_t a, uint64_t b, uint64_t n, uint64_t inverse)
{
    uint64_t low = a * b, high = high_product(a, b);
    uint64_t q = low * inverse;
    return high + high_product(q, n) + (low != 0);
}

static inline uint64_t below(uint64_t a, uint64_t n)
{
    return a >= n ? a - n : a;
}

/* n odd, 2 < n < 2^62. */
static RT_OPAQUE int probably_prime(uint64_t n, uint64_t base)
{
    uint64_t inverse = n; /* Newton: 3 correct bits, doubled five times */
    for (int i = 0; i < 5; i++)
        inverse *= 2 - n * inverse;
    inverse = -inverse;
    uint64_t one = -n % n, minus_one = n - one;
    uint64_t square = one; /* 2^64 mod n, doubled 64 times: 2^128 mod n */
    for (int i = 0; i < 64; i++)
        square = below(square * 2, n);
    uint64_t power = n - 1, n_twos = 0;
    while (!(power & 1))
        power >>= 1, n_twos++;
    uint64_t x = one, b = below(redc_product(base % n, square, n, inverse), n);
    for (; power; power >>= 1) {
        if (power & 1)
            x = below(redc_product(x, b, n, inverse), n);
        b = below(redc_product(b, b, n, inverse), n);
    }
    if (x == one || x == minus_one)
        return 1;
    while (--n_twos) {
        x = below(redc_product(x, x, n, inverse), n);
        if (x == minus_one)
            return 1;
    }
    return 0;
}

static RT_OPAQUE uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* Extended Euclid with signed quotients: a's inverse mod m, 0 if none. */
static RT_OPAQUE int64_t inverse_mod(int64_t a, int64_t m)
{
    int64_t r0 = m, r1 = a % m, t0 = 0, t1 = 1;
    while (r1) {
        int64_t q = r0 / r1, r = r0 % r1, t = t0 - q * t1;
        r0 = r1, r1 = r;
        t0 = t1, t1 = t;
    }
    return r0 == 1 ? (t0 < 0 ? t0 + m : t0) : 0;
}

static RT_OPAQUE uint64_t square_root(uint64_t n)
{
    uint64_t x = n, y = n / 2 + 1;
    while (y < x) {
        x = y;
        y = (x + n / x) / 2;
    }
    return x;
}

static RT_OPAQUE uint32_t digit_sum(uint32_t value, uint32_t base)
{
    uint32_t sum = 0;
    for (; value; value /= base)
        sum += value % base;
    return sum;
}

static RT_OPAQUE int32_t signed_words(int32_t a, int32_t b)
{
    return a / b + a % b * 3;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("muldiv", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale, n_primes = 0;
    for (uint64_t i = 0; i < scale; i++) {
        for (int j = 0; j < 20; j++) {
            uint64_t n = rt_random(&random) >> 2 | 1, r = rt_random(&random);
            n_primes += (uint64_t)(probably_prime(n, 2) && probably_prime(n, 3) && probably_prime(n, 325));
            sum += gcd(n, r);
            sum ^= (uint64_t)inverse_mod((int64_t)(r >> 33), (int64_t)(n >> 31 | 1));
            sum += square_root(r >> 16);
            for (uint32_t base = 3; base < 11; base++)
                sum = sum * 5 + digit_sum((uint32_t)r, base);
            for (int k = 0; k < 8; k++) {
                r = r << 8 | r >> 56;
                sum += (uint64_t)signed_words((int32_t)r, (int32_t)(n >> 40) | 1);
                sum ^= high_product(r, n);
            }
        }
        sum = rt_mix(sum, n_primes);
    }
    rt_line("primes", n_primes);
    return rt_end(sum);
}
