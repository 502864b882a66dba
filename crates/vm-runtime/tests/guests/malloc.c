/* The heap, hard: many sizes, growth by realloc, big blocks that mremap. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    static unsigned char *blocks[1000];
    static size_t sizes[1000];
    uint64_t x = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        int i = x % 1000;
        size_t size = (x >> 20) % 100 == 0 ? (x >> 30) % 400000 : (x >> 30) % 500;
        if (blocks[i] && sizes[i] && blocks[i][0] != (unsigned char)i)
            return 1;
        if ((x >> 50) & 1) {
            free(blocks[i]);
            blocks[i] = malloc(size);
        } else {
            blocks[i] = realloc(blocks[i], size);
        }
        sizes[i] = size;
        if (size)
            memset(blocks[i], i, size);
    }
    size_t bytes = 100000;
    unsigned char *big = malloc(bytes);
    memset(big, 7, bytes);
    while (bytes < 40000000) {
        big = realloc(big, bytes * 2);
        memset(big + bytes, 7, bytes);
        bytes *= 2;
    }
    for (size_t i = 0; i < bytes; i += 4093)
        if (big[i] != 7)
            return 2;
    free(big);
    printf("malloc fine, refused %d\n", malloc((size_t)1 << 40) == NULL);
    return 0;
}
