/* chase: follows one random cycle through 8 MiB of 64-byte nodes, then reads
 * one word per 4 KiB page in order.
 *
 * Stresses: dependent loads that miss caches and TLBs: the guest-to-host
 * translation of an engine that has a software TLB, the host's otherwise.
 * Ignore when: comparing instruction speed; native waits for memory as well,
 * so the ratio tends to 1.
 */
#include "../rt/rt.h"

#define QUICK 6
#define N_NODES (128u << 10)
#define HOPS_PER_SCALE 40000
#define WORDS_PER_PAGE 512

struct node {
    uint64_t next, value, spare[6];
};

static _Alignas(4096) struct node nodes[N_NODES];

/* Sattolo's shuffle: always a single cycle. */
static RT_OPAQUE void link_nodes(uint64_t random)
{
    for (uint32_t i = 0; i < N_NODES; i++)
        nodes[i].next = i;
    for (uint32_t i = N_NODES - 1; i > 0; i--) {
        uint32_t j = (uint32_t)((rt_random(&random) >> 32) * i >> 32);
        uint64_t t = nodes[i].next;
        nodes[i].next = nodes[j].next;
        nodes[j].next = t;
        nodes[i].value = random;
    }
}

static RT_OPAQUE uint64_t follow(uint64_t at, uint64_t n_hops, uint64_t *sum)
{
    uint64_t s = *sum;
    while (n_hops--) {
        s += nodes[at].value;
        at = nodes[at].next;
    }
    *sum = s;
    return at;
}

static RT_OPAQUE uint64_t touch_pages(const uint64_t *words, uint64_t offset)
{
    uint64_t sum = 0;
    for (size_t i = offset % WORDS_PER_PAGE; i < sizeof nodes / 8; i += WORDS_PER_PAGE)
        sum = sum * 3 + words[i];
    return sum;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("chase", argc, argv, QUICK);
    uint64_t sum = scale, at = 0;
    link_nodes(scale * 2 + 1);
    for (uint64_t i = 0; i < scale; i++) {
        at = follow(at, HOPS_PER_SCALE, &sum);
        sum = rt_mix(sum, touch_pages((const uint64_t *)nodes, sum));
    }
    rt_line("at", at);
    return rt_end(sum);
}
