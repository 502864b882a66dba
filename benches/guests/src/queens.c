/* queens: counts the ways to place n queens, once with bit masks and once
 * with byte arrays.
 *
 * Stresses: recursion with live state across the call, backtracking stores,
 * short loops with data-dependent exits.
 * Ignore when: judging memory or arithmetic; the working set is a few lines.
 */
#include "../rt/rt.h"

#define QUICK 1100

static RT_OPAQUE uint64_t with_masks(uint32_t all, uint32_t columns, uint32_t left, uint32_t right)
{
    if (columns == all)
        return 1;
    uint64_t n_ways = 0;
    for (uint32_t free = all & ~(columns | left | right); free; free &= free - 1) {
        uint32_t queen = free & -free;
        n_ways += with_masks(all, columns | queen, (left | queen) << 1, (right | queen) >> 1);
    }
    return n_ways;
}

struct board {
    int size;
    uint8_t column[16], sum_diagonal[32], difference_diagonal[32];
};

static RT_OPAQUE uint64_t with_arrays(struct board *board, int row)
{
    if (row == board->size)
        return 1;
    uint64_t n_ways = 0;
    for (int c = 0; c < board->size; c++) {
        if (board->column[c] | board->sum_diagonal[row + c] | board->difference_diagonal[row - c + 15])
            continue;
        board->column[c] = board->sum_diagonal[row + c] = board->difference_diagonal[row - c + 15] = 1;
        n_ways += with_arrays(board, row + 1);
        board->column[c] = board->sum_diagonal[row + c] = board->difference_diagonal[row - c + 15] = 0;
    }
    return n_ways;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("queens", argc, argv, QUICK);
    uint64_t sum = scale;
    for (uint64_t i = 0; i < scale; i++) {
        struct board board = { .size = 6 + (int)(i % 3) };
        /* 4, 40, 92 ways at sizes 6, 7, 8. */
        sum = rt_mix(sum, with_arrays(&board, 0));
        sum = rt_mix(sum, with_masks((1u << (board.size + 1)) - 1, 0, 0, 0));
    }
    struct board eight = { .size = 8 };
    rt_line("eight", with_arrays(&eight, 0));
    return rt_end(sum);
}
