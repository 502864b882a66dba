/* deeprec: deep recursion three ways: Ackermann's function, a recursive
 * descent over nested expressions, and a descent that leaves through a
 * non-local jump.
 *
 * Stresses: call depths of thousands, where host call/return prediction and
 * any shadow stack overflow; stack pages touched for the first time; returns
 * that never happen.
 * Ignore when: call depth stays below a few dozen; fib covers that.
 */
#include "../rt/rt.h"

#define QUICK 87
#define EXPRESSION_BYTES 16384
#define ROOMY_BYTES 8192 /* past it, each open level adds three bytes at most */
#define DEPTH_MAX 6000

static RT_OPAQUE uint32_t ackermann(uint32_t m, uint32_t n)
{
    if (m == 0)
        return n + 1;
    return ackermann(m - 1, n ? ackermann(m, n - 1) : 1);
}

static char expression[EXPRESSION_BYTES];
static const char *at;

/* expression := digit | '(' expression operator expression ')' */
static RT_OPAQUE void make_expression(char **to, uint64_t *random, int depth)
{
    uint64_t r = rt_random(random) >> 32;
    if (depth == 0 || *to > expression + ROOMY_BYTES) {
        *(*to)++ = (char)('0' + r % 10);
        return;
    }
    *(*to)++ = '(';
    /* Leans to the left: deep, not bushy. */
    make_expression(to, random, depth - 1);
    *(*to)++ = "+-*^"[r & 3];
    make_expression(to, random, (r >> 2 & 15) == 0 && depth > 5 ? 5 : 0);
    *(*to)++ = ')';
}

static RT_OPAQUE uint64_t evaluate(void)
{
    char c = *at++;
    if (c != '(')
        return (uint64_t)(c - '0');
    uint64_t a = evaluate();
    char operator = *at++;
    uint64_t b = evaluate();
    at++;
    switch (operator) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return a * (b | 1);
    default: return a ^ b << 7;
    }
}

/* The five words __builtin_setjmp wants. */
static void *escape_to[5];
static volatile uint64_t found;

static RT_OPAQUE uint64_t search(uint64_t x, uint32_t depth)
{
    if (depth == 0) {
        found = x;
        __builtin_longjmp(escape_to, 1);
    }
    /* Used after the call, so no tail call. */
    return search(x * 6364136223846793005u + depth, depth - 1) ^ x;
}

static RT_OPAQUE uint64_t search_and_escape(uint64_t x, uint32_t depth)
{
    if (__builtin_setjmp(escape_to))
        return found;
    return search(x, depth);
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("deeprec", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (uint64_t i = 0; i < scale; i++) {
        sum = rt_mix(sum, ackermann(2 + (i & 1), 4 + (uint32_t)(sum & 1)));
        sum = rt_mix(sum, ackermann(2, 150 + (uint32_t)(sum & 63)));
        char *to = expression;
        make_expression(&to, &random, 1000 + (int)(rt_random(&random) >> 54));
        *to = 0;
        for (int j = 0; j < 4; j++) {
            at = expression;
            sum = rt_mix(sum, evaluate());
            sum = rt_mix(sum, search_and_escape(sum, 1 + (uint32_t)(sum % DEPTH_MAX)));
        }
    }
    return rt_end(sum);
}
