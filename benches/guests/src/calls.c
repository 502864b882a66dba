/* calls: objects of eight kinds in random order, each called through its
 * kind's method table, and a scanner whose states return the next state.
 *
 * Stresses: indirect calls with many targets per call site, so the lookup of
 * computed targets and return prediction; loads of function pointers.
 * Ignore when: the guest calls directly. The host predictor misses natively
 * as well, so the ratio to native flatters a slow lookup.
 */
#include "../rt/rt.h"

#define QUICK 1100
#define N_OBJECTS 1024

struct object;

struct methods {
    uint64_t (*measure)(const struct object *);
    void (*advance)(struct object *, uint64_t);
};

struct object {
    const struct methods *methods;
    uint64_t a, b;
};

#define KIND(name, measured, advanced)                                           \
    static RT_OPAQUE uint64_t name##_measure(const struct object *o)             \
    {                                                                            \
        return measured;                                                         \
    }                                                                            \
    static RT_OPAQUE void name##_advance(struct object *o, uint64_t by)          \
    {                                                                            \
        (void)by;                                                                \
        advanced;                                                                \
    }                                                                            \
    static const struct methods name##_methods = { name##_measure, name##_advance }

KIND(square, o->a * o->a, o->a += by);
KIND(oblong, o->a * o->b, (o->a += by, o->b ^= by));
KIND(ring, (o->a - o->b) * (o->a + o->b), o->b += o->a);
KIND(counter, o->a, o->a++);
KIND(toggle, o->a & 1 ? o->b : ~o->b, o->a ^= by);
KIND(queue, o->b >> (o->a & 31), o->b = o->b << 1 | (by & 1));
KIND(mixer, o->a ^ o->b >> 7, (o->a += o->b, o->b = o->b << 13 ^ by));
KIND(longest, o->a > o->b ? o->a : o->b, (by > o->a ? (o->a = by) : (o->b += 3)));

static const struct methods *const kinds[8] = { &square_methods, &oblong_methods, &ring_methods,
                                                &counter_methods, &toggle_methods, &queue_methods,
                                                &mixer_methods, &longest_methods };

static RT_OPAQUE uint64_t visit(struct object *objects, uint64_t sum)
{
    for (int i = 0; i < N_OBJECTS; i++) {
        sum += objects[i].methods->measure(&objects[i]);
        objects[i].methods->advance(&objects[i], sum >> 5);
    }
    return sum;
}

struct scanner {
    uint64_t n_words, n_numbers, n_marks;
};

/* A function cannot return its own type; a struct around the pointer can. */
struct state {
    struct state (*step)(struct scanner *, unsigned char);
};

static struct state between(struct scanner *, unsigned char);

static RT_OPAQUE struct state in_word(struct scanner *s, unsigned char c)
{
    return c >= 64 ? (struct state){ in_word } : between(s, c);
}

static RT_OPAQUE struct state in_number(struct scanner *s, unsigned char c)
{
    return c < 20 ? (struct state){ in_number } : between(s, c);
}

static RT_OPAQUE struct state after_mark(struct scanner *s, unsigned char c)
{
    s->n_marks += c & 1;
    return (struct state){ between };
}

static RT_OPAQUE struct state between(struct scanner *s, unsigned char c)
{
    if (c >= 64) {
        s->n_words++;
        return (struct state){ in_word };
    }
    if (c < 20) {
        s->n_numbers++;
        return (struct state){ in_number };
    }
    return (struct state){ c < 28 ? after_mark : between };
}

static RT_OPAQUE void scan(struct scanner *scanner, const unsigned char *text, int bytes)
{
    struct state state = { between };
    for (int i = 0; i < bytes; i++)
        state = state.step(scanner, text[i] & 127);
}

int main(int argc, char **argv)
{
    static struct object objects[N_OBJECTS];
    static unsigned char text[2048];
    struct scanner scanner = { 0 };
    uint64_t scale = rt_begin("calls", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (int i = 0; i < N_OBJECTS; i++) {
        uint64_t r = rt_random(&random);
        objects[i] = (struct object){ kinds[r >> 61], r & 0xffff, r >> 16 & 0xffff };
    }
    for (int i = 0; i < 2048; i++)
        text[i] = (unsigned char)(rt_random(&random) >> 56);
    for (uint64_t i = 0; i < scale; i++) {
        sum = visit(objects, sum);
        scan(&scanner, text, 2048);
        text[i % 2048] ^= (unsigned char)sum;
    }
    sum = rt_mix(sum, scanner.n_marks);
    rt_line("words", scanner.n_words);
    rt_line("numbers", scanner.n_numbers);
    return rt_end(sum);
}
