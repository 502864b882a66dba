/* hello: prints a line, scale times, each with its own system call.
 *
 * Stresses: start and end of a run: ELF loading, first blocks, one write.
 * Ignore when: judging anything that runs longer than a millisecond.
 */
#include "../rt/rt.h"

#define QUICK 1

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("hello", argc, argv, QUICK);
    for (uint64_t i = 0; i < scale; i++) {
        rt_text("hello, world\n");
        rt_flush();
    }
    return rt_end(scale);
}
