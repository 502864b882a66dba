/* trees: binary trees on our own allocator (bump pointer, one free list per
 * size class): full trees built, walked and freed, then a treap under random
 * insertion and deletion.
 *
 * Stresses: dependent loads through pointers, allocation fast paths, recursion,
 * compare-and-branch on loaded keys.
 * Ignore when: looking at garbage collection; the guest frees by hand.
 */
#include "../rt/rt.h"

#define QUICK 40
#define ARENA_BYTES (4u << 20)
#define CLASS_BYTES 16
#define N_CLASSES 8

static _Alignas(16) unsigned char arena[ARENA_BYTES];
static size_t arena_used;
static void *free_list[N_CLASSES];
static uint64_t n_allocated, n_reused;

static RT_OPAQUE void *allocate(size_t bytes)
{
    size_t class = (bytes + CLASS_BYTES - 1) / CLASS_BYTES;
    n_allocated++;
    void *block = free_list[class];
    if (block) {
        free_list[class] = *(void **)block;
        n_reused++;
        return block;
    }
    if (arena_used + class * CLASS_BYTES > ARENA_BYTES)
        return 0;
    block = arena + arena_used;
    arena_used += class * CLASS_BYTES;
    return block;
}

static RT_OPAQUE void release(void *block, size_t bytes)
{
    size_t class = (bytes + CLASS_BYTES - 1) / CLASS_BYTES;
    *(void **)block = free_list[class];
    free_list[class] = block;
}

struct node {
    struct node *left, *right;
    uint64_t value;
};

static RT_OPAQUE struct node *full_tree(int depth, uint64_t value)
{
    struct node *node = allocate(sizeof *node);
    node->value = value;
    node->left = depth ? full_tree(depth - 1, value * 2) : 0;
    node->right = depth ? full_tree(depth - 1, value * 2 + 1) : 0;
    return node;
}

static RT_OPAQUE uint64_t walk(const struct node *node)
{
    return node ? node->value ^ (walk(node->left) + 3 * walk(node->right)) : 1;
}

static RT_OPAQUE void release_tree(struct node *node)
{
    if (!node)
        return;
    release_tree(node->left);
    release_tree(node->right);
    release(node, sizeof *node);
}

struct treap {
    struct treap *child[2];
    uint64_t key;
    uint32_t priority, count;
};

static RT_OPAQUE struct treap *rotate(struct treap *top, int side)
{
    struct treap *up = top->child[side];
    top->child[side] = up->child[!side];
    up->child[!side] = top;
    return up;
}

static RT_OPAQUE struct treap *insert(struct treap *top, uint64_t key, uint32_t priority)
{
    if (!top) {
        top = allocate(sizeof *top);
        *top = (struct treap){ .key = key, .priority = priority, .count = 1 };
        return top;
    }
    if (key == top->key) {
        top->count++;
        return top;
    }
    int side = key > top->key;
    top->child[side] = insert(top->child[side], key, priority);
    return top->child[side]->priority > top->priority ? rotate(top, side) : top;
}

static RT_OPAQUE struct treap *join(struct treap *low, struct treap *high)
{
    if (!low)
        return high;
    if (!high)
        return low;
    if (low->priority > high->priority) {
        low->child[1] = join(low->child[1], high);
        return low;
    }
    high->child[0] = join(low, high->child[0]);
    return high;
}

static RT_OPAQUE struct treap *delete(struct treap *top, uint64_t key)
{
    struct treap **link = &top, *at;
    while ((at = *link) && at->key != key)
        link = &at->child[key > at->key];
    if (at) {
        *link = join(at->child[0], at->child[1]);
        release(at, sizeof *at);
    }
    return top;
}

static RT_OPAQUE uint64_t in_order(const struct treap *top, uint64_t sum)
{
    for (; top; top = top->child[1]) {
        sum = in_order(top->child[0], sum);
        sum = rt_mix(sum, top->key + top->count);
    }
    return sum;
}

static RT_OPAQUE void release_treap(struct treap *top)
{
    if (!top)
        return;
    release_treap(top->child[0]);
    release_treap(top->child[1]);
    release(top, sizeof *top);
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("trees", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (uint64_t i = 0; i < scale; i++) {
        struct node *tree = full_tree(10 + (int)(sum & 3), sum | 1);
        sum = rt_mix(sum, walk(tree));
        release_tree(tree);

        struct treap *treap = 0;
        for (int j = 0; j < 4000; j++) {
            uint64_t r = rt_random(&random);
            if (j > 1000 && r & 1 << 20)
                treap = delete(treap, r >> 52);
            else
                treap = insert(treap, r >> 52, (uint32_t)r);
        }
        sum = in_order(treap, sum);
        release_treap(treap);
    }
    rt_line("allocated", n_allocated);
    rt_line("reused", n_reused);
    return rt_end(sum);
}
