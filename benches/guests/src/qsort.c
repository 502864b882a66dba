/* qsort: a generic sort that knows only element size and a comparator.
 *
 * Stresses: indirect calls to short leaf functions (three comparators, chosen
 * at run time), unpredictable branches, word-wise swaps of 24-byte records.
 * Ignore when: branch misprediction on the host dominates, as it does natively
 * too: the ratio to native then says little about the engine.
 */
#include "../rt/rt.h"

#define QUICK 40
#define N_RECORDS 4096

struct record {
    uint64_t key;
    int32_t rank;
    char name[12];
};

typedef int compare_fn(const void *, const void *);

static RT_OPAQUE int by_key(const void *a, const void *b)
{
    uint64_t x = ((const struct record *)a)->key, y = ((const struct record *)b)->key;
    return (x > y) - (x < y);
}

static RT_OPAQUE int by_rank_down(const void *a, const void *b)
{
    int32_t x = ((const struct record *)a)->rank, y = ((const struct record *)b)->rank;
    if (x != y)
        return x < y ? 1 : -1;
    return by_key(a, b);
}

static RT_OPAQUE int by_name(const void *a, const void *b)
{
    const char *x = ((const struct record *)a)->name, *y = ((const struct record *)b)->name;
    while (*x && *x == *y)
        x++, y++;
    if (*x != *y)
        return (unsigned char)*x - (unsigned char)*y;
    return by_key(a, b);
}

/* Bytes must be a multiple of eight and the elements aligned to eight. */
static void swap(char *a, char *b, size_t bytes)
{
    uint64_t *x = (uint64_t *)a, *y = (uint64_t *)b;
    for (size_t i = 0; i < bytes / 8; i++) {
        uint64_t t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}

static void insertion_sort(char *base, size_t count, size_t bytes, compare_fn *compare)
{
    for (size_t i = 1; i < count; i++)
        for (char *at = base + i * bytes; at > base && compare(at - bytes, at) > 0; at -= bytes)
            swap(at - bytes, at, bytes);
}

/* Median-of-three quicksort; recurses into the smaller half. */
static RT_OPAQUE void sort(char *base, size_t count, size_t bytes, compare_fn *compare)
{
    while (count > 12) {
        char *mid = base + count / 2 * bytes, *last = base + (count - 1) * bytes;
        if (compare(base, mid) > 0)
            swap(base, mid, bytes);
        if (compare(mid, last) > 0) {
            swap(mid, last, bytes);
            if (compare(base, mid) > 0)
                swap(base, mid, bytes);
        }
        /* The pivot waits at `base`; `last` stops the upward scan. */
        swap(base, mid, bytes);
        char *low = base, *high = last + bytes;
        for (;;) {
            do
                low += bytes;
            while (low < last && compare(low, base) < 0);
            do
                high -= bytes;
            while (compare(high, base) > 0);
            if (low >= high)
                break;
            swap(low, high, bytes);
        }
        swap(base, high, bytes);
        size_t below = (size_t)(high - base) / bytes, above = count - below - 1;
        if (below < above) {
            sort(base, below, bytes, compare);
            base = high + bytes;
            count = above;
        } else {
            sort(high + bytes, above, bytes, compare);
            count = below;
        }
    }
    insertion_sort(base, count, bytes, compare);
}

int main(int argc, char **argv)
{
    static struct record records[N_RECORDS];
    static compare_fn *const volatile orders[3] = { by_key, by_rank_down, by_name };
    uint64_t scale = rt_begin("qsort", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale, n_unordered = 0;
    for (uint64_t round = 0; round < scale; round++) {
        for (int i = 0; i < N_RECORDS; i++) {
            uint64_t r = rt_random(&random);
            records[i].key = r;
            records[i].rank = (int32_t)(r >> 20) % 1000;
            for (int j = 0; j < 11; j++, r >>= 4)
                records[i].name[j] = (char)('a' + (r & 7));
            records[i].name[r & 7] = 0;
        }
        compare_fn *order = orders[round % 3];
        sort((char *)records, N_RECORDS, sizeof records[0], order);
        for (int i = 1; i < N_RECORDS; i++) {
            n_unordered += order(&records[i - 1], &records[i]) > 0;
            sum = rt_mix(sum, records[i].key);
        }
    }
    rt_line("unordered", n_unordered);
    return rt_end(sum);
}
