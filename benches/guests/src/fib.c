/* fib: doubly recursive Fibonacci.
 *
 * Stresses: call and return, prologue and epilogue stores, return prediction;
 * almost nothing else happens between two calls.
 * Ignore when: the guest at hand rarely calls small functions. Inlining of
 * guest calls moves this one by 3x and most others by little.
 */
#include "../rt/rt.h"

#define QUICK 420

static RT_OPAQUE uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("fib", argc, argv, QUICK);
    uint64_t sum = scale;
    for (uint64_t i = 0; i < scale; i++)
        sum = rt_mix(sum, fib(20 + (sum >> 17 & 3)));
    return rt_end(sum);
}
