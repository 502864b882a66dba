/* Time goes on, sleeping takes as long as asked, random bytes differ. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
    struct timespec a, b, nap = {0, 20000000};
    clock_gettime(CLOCK_MONOTONIC, &a);
    nanosleep(&nap, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    long ns = (b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec;
    printf("slept %d\n", ns >= 20000000 && ns < 2000000000);
    struct timeval tv;
    gettimeofday(&tv, NULL);
    printf("now %d\n", tv.tv_sec > 1700000000 && time(NULL) - tv.tv_sec < 5);
    unsigned char x[32], y[32];
    printf("random %d\n", getrandom(x, 32, 0) == 32 && getrandom(y, 32, 0) == 32 && memcmp(x, y, 32));
    struct rusage usage;
    printf("usage %d\n", getrusage(RUSAGE_SELF, &usage));
    printf("clock %d\n", clock() >= 0);
    printf("cpus %d\n", sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    return 0;
}
