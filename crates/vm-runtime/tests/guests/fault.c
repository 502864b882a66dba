/* Ends in the way that argv[1] names. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static volatile int sink;
static long words;

static int deep(int n)
{
    volatile char frame[512];
    frame[n % 512] = (char)n;
    return deep(n + 1) + frame[n % 512];
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    printf("before %s\n", how);
    fflush(stdout);
    if (!strcmp(how, "abort"))
        abort();
    if (!strcmp(how, "null"))
        sink = *(volatile int *)(long)sink;
    if (!strcmp(how, "write-text"))
        *(volatile char *)(void *)main = 0;
    if (!strcmp(how, "jump"))
        ((void (*)(void))(long)(sink + 16))();
    if (!strcmp(how, "illegal"))
        __asm__ volatile(".word 0");
    if (!strcmp(how, "overflow"))
        return deep(0);
    if (!strcmp(how, "break"))
        __asm__ volatile("ebreak");
    if (!strcmp(how, "term"))
        raise(SIGTERM);
    if (!strcmp(how, "misaligned"))
        __asm__ volatile("amoadd.w zero, zero, (%0)" ::"r"((char *)&words + 1) : "memory");
    if (!strcmp(how, "pipe"))
        for (;;)
            if (write(1, "yyyyyyyyyyyyyyyy", 16) < 0)
                return 9;
    return atoi(how);
}
