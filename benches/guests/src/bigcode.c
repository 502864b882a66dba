/* bigcode: 512 different functions, called in an order that changes each
 * round; scale counts rounds.
 *
 * Stresses: translation: with a scale of 1 nearly every block runs once, with
 * more of them the code cache, its lookup and the host's instruction cache.
 * Ignore when: the guest has a hot loop. Native time is mostly start-up, so
 * the ratio to native means little at the quick size.
 */
#include "../rt/rt.h"

#define QUICK 20

/* Function k differs from the others in constants and in which of the steps
 * the compiler leaves in. */
#define FUNCTION(k)                                                              \
    static RT_OPAQUE uint64_t f##k(uint64_t x, uint64_t *slot)                   \
    {                                                                            \
        x = x * (2 * 0x##k##u + 0x9e3779b1u) + 0x##k##u * 77u;                   \
        if (0x##k##u & 1)                                                        \
            x ^= x >> (0x##k##u % 23 + 5);                                       \
        if (0x##k##u & 2)                                                        \
            *slot += x & 0x##k##u;                                               \
        if (0x##k##u & 4)                                                        \
            for (uint64_t n = x & 3; n; n--)                                     \
                x += *slot >> n;                                                 \
        if ((x & 0xf) == (0x##k##u & 0xf))                                       \
            x = ~x + *slot;                                                      \
        else if ((x & 0x70) > (0x##k##u & 0x70))                                 \
            x -= 0x##k##u + (x << 3);                                            \
        if (0x##k##u & 8)                                                        \
            *slot = (uint32_t)(*slot ^ x) % (0x##k##u + 3);                      \
        return 0x##k##u & 16 ? x + *slot : x ^ *slot;                            \
    }

/* EACH(X) applies X to the hexadecimal numbers 000 to 1ff. */
#define SIXTEEN(X, p) X(p##0) X(p##1) X(p##2) X(p##3) X(p##4) X(p##5) X(p##6) X(p##7) \
                      X(p##8) X(p##9) X(p##a) X(p##b) X(p##c) X(p##d) X(p##e) X(p##f)
#define PAGE(X, p)                                                               \
    SIXTEEN(X, p##0) SIXTEEN(X, p##1) SIXTEEN(X, p##2) SIXTEEN(X, p##3)          \
    SIXTEEN(X, p##4) SIXTEEN(X, p##5) SIXTEEN(X, p##6) SIXTEEN(X, p##7)          \
    SIXTEEN(X, p##8) SIXTEEN(X, p##9) SIXTEEN(X, p##a) SIXTEEN(X, p##b)          \
    SIXTEEN(X, p##c) SIXTEEN(X, p##d) SIXTEEN(X, p##e) SIXTEEN(X, p##f)
#define EACH(X) PAGE(X, 0) PAGE(X, 1)

EACH(FUNCTION)

#define ADDRESS(k) f##k,

int main(int argc, char **argv)
{
    static uint64_t (*const functions[512])(uint64_t, uint64_t *) = { EACH(ADDRESS) };
    static uint64_t slots[16];
    uint64_t scale = rt_begin("bigcode", argc, argv, QUICK);
    uint64_t sum = scale;
    for (uint64_t round = 0; round < scale; round++) {
        /* An odd step visits all 512. */
        uint64_t step = sum >> 20 | 1, at = round;
        for (int i = 0; i < 512; i++, at += step)
            sum = functions[at & 511](sum, &slots[at & 15]);
        sum = rt_mix(sum, slots[round & 15]);
    }
    return rt_end(sum);
}
