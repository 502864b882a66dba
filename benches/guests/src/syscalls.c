/* syscalls: zero-byte writes to standard output, with a little work between.
 *
 * Stresses: the round trip from guest code to the system call handler and
 * back; zero bytes, so no file or terminal work is measured.
 * Ignore when: the guest computes. Native time is the host kernel's, and on a
 * host that filters or emulates system calls it can exceed ours.
 */
#include "../rt/rt.h"

#define QUICK 75
#define CALLS_PER_SCALE 1000

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("syscalls", argc, argv, QUICK);
    uint64_t sum = scale, n_failed = 0;
    for (uint64_t i = 0; i < scale; i++) {
        for (int j = 0; j < CALLS_PER_SCALE; j++) {
            long result = rt_write(1, &sum, 0);
            n_failed += result != 0;
            sum += (uint64_t)result + (uint64_t)j;
        }
        sum = rt_mix(sum, i);
    }
    rt_line("failed", n_failed);
    return rt_end(sum);
}
