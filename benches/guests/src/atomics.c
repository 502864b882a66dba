/* atomics: read-modify-write operations of both widths, compare-and-swap
 * loops, a ticket lock, a tagged free list and a sequence lock; one thread.
 *
 * Stresses: AMOs, LR/SC loops (GCC makes them of compare-exchange and of the
 * operations without an AMO), fences and acquire/release orderings.
 * Ignore when: judging contention; nobody else touches these lines. Engines
 * that keep LR/SC exact across threads pay for it here.
 */
#include "../rt/rt.h"

#define QUICK 1000
#define N_SLOTS 64

static uint64_t counter64, maximum, bits, lock_next, lock_serving, sequence, pair[2];
static uint32_t counter32, flags32;
static uint64_t free_head; /* low 32 bits: slot + 1, high 32 bits: tag */
static uint32_t next_slot[N_SLOTS];

static RT_OPAQUE uint64_t operations(uint64_t r)
{
    uint64_t sum = __atomic_fetch_add(&counter64, r, __ATOMIC_RELAXED);
    sum ^= __atomic_fetch_or(&bits, r, __ATOMIC_ACQUIRE);
    sum += __atomic_fetch_and(&bits, ~(r >> 7), __ATOMIC_RELEASE);
    sum ^= __atomic_fetch_xor(&bits, r << 3, __ATOMIC_ACQ_REL);
    sum += __atomic_exchange_n(&counter32, (uint32_t)r, __ATOMIC_SEQ_CST);
    sum ^= __atomic_fetch_sub(&counter32, 17, __ATOMIC_RELAXED);
    sum += __atomic_fetch_or(&flags32, (uint32_t)(r >> 9), __ATOMIC_SEQ_CST);
    sum ^= __atomic_fetch_nand(&flags32, (uint32_t)r | 1, __ATOMIC_RELAXED);
    return sum;
}

static RT_OPAQUE uint64_t raise_maximum(uint64_t value)
{
    uint64_t seen = __atomic_load_n(&maximum, __ATOMIC_RELAXED);
    /* Decays first, so that the exchange keeps happening. */
    __atomic_store_n(&maximum, seen - seen / 8, __ATOMIC_RELAXED);
    seen = __atomic_load_n(&maximum, __ATOMIC_ACQUIRE);
    while (seen < value)
        if (__atomic_compare_exchange_n(&maximum, &seen, value, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return 1;
    return 0;
}

static RT_OPAQUE void with_lock(uint64_t value)
{
    uint64_t ticket = __atomic_fetch_add(&lock_next, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&lock_serving, __ATOMIC_ACQUIRE) != ticket)
        ;
    uint64_t now = __atomic_load_n(&sequence, __ATOMIC_RELAXED);
    __atomic_store_n(&sequence, now + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    __atomic_store_n(&pair[0], value, __ATOMIC_RELAXED);
    __atomic_store_n(&pair[1], ~value, __ATOMIC_RELAXED);
    __atomic_store_n(&sequence, now + 2, __ATOMIC_RELEASE);
    __atomic_store_n(&lock_serving, ticket + 1, __ATOMIC_RELEASE);
}

static RT_OPAQUE uint64_t read_pair(void)
{
    for (;;) {
        uint64_t before = __atomic_load_n(&sequence, __ATOMIC_ACQUIRE);
        uint64_t x = __atomic_load_n(&pair[0], __ATOMIC_RELAXED);
        uint64_t y = __atomic_load_n(&pair[1], __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (!(before & 1) && before == __atomic_load_n(&sequence, __ATOMIC_RELAXED))
            return x ^ y << 1;
    }
}

static RT_OPAQUE uint32_t pop(void)
{
    uint64_t head = __atomic_load_n(&free_head, __ATOMIC_ACQUIRE);
    for (;;) {
        uint32_t slot = (uint32_t)head;
        if (!slot)
            return 0;
        uint64_t next = ((head >> 32) + 1) << 32 | next_slot[slot - 1];
        if (__atomic_compare_exchange_n(&free_head, &head, next, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            return slot;
    }
}

static RT_OPAQUE void push(uint32_t slot)
{
    uint64_t head = __atomic_load_n(&free_head, __ATOMIC_RELAXED), mine;
    do {
        next_slot[slot - 1] = (uint32_t)head;
        mine = ((head >> 32) + 1) << 32 | slot;
    } while (!__atomic_compare_exchange_n(&free_head, &head, mine, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("atomics", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale, n_raised = 0;
    for (uint32_t i = 1; i <= N_SLOTS; i++)
        push(i);
    for (uint64_t i = 0; i < scale; i++) {
        for (int j = 0; j < 500; j++) {
            uint64_t r = rt_random(&random);
            sum += operations(r);
            n_raised += raise_maximum(r);
            with_lock(r);
            sum ^= read_pair();
            uint32_t first = pop(), second = pop();
            push(first);
            push(second);
            sum += first;
        }
        sum = rt_mix(sum, counter64 ^ flags32);
    }
    rt_line("raised", n_raised);
    return rt_end(rt_mix(sum, free_head));
}
