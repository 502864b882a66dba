/* Output, argument and memory helpers; see rt.h. */
#include "rt.h"

static char out[1024];
static size_t out_bytes;

#ifdef HARTLOOM_FREESTANDING

static long system_call3(long number, long a, long b, long c)
{
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a7) : "memory");
    return a0;
}

long rt_write(int fd, const void *bytes, size_t n_bytes)
{
    return system_call3(64, fd, (long)bytes, (long)n_bytes);
}

/* Called by crt0.S with main's result. */
void rt_exit(int status)
{
    for (;;)
        system_call3(93, status, 0, 0);
}

/* The compiler may call these four for struct copies and initialisers. The
 * build passes -fno-tree-loop-distribute-patterns, so the loops below do not
 * become calls to themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if (((uintptr_t)t | (uintptr_t)f) % 8 == 0)
        for (; bytes >= 8; bytes -= 8, t += 8, f += 8)
            *(uint64_t __attribute__((may_alias)) *)t = *(const uint64_t __attribute__((may_alias)) *)f;
    while (bytes--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= bytes)
        return memcpy(to, from, bytes);
    while (bytes--)
        t[bytes] = f[bytes];
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *t = to;
    uint64_t eight = (unsigned char)value * 0x0101010101010101u;
    if ((uintptr_t)t % 8 == 0)
        for (; bytes >= 8; bytes -= 8, t += 8)
            *(uint64_t __attribute__((may_alias)) *)t = eight;
    while (bytes--)
        *t++ = (unsigned char)value;
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes)
{
    const unsigned char *x = a, *y = b;
    for (; bytes; bytes--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}

size_t strlen(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

#else

#include <unistd.h>

long rt_write(int fd, const void *bytes, size_t n_bytes)
{
    return write(fd, bytes, n_bytes);
}

#endif

void rt_flush(void)
{
    size_t done = 0;
    while (done < out_bytes) {
        long n = rt_write(1, out + done, out_bytes - done);
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    out_bytes = 0;
}

void rt_text(const char *text)
{
    for (; *text; text++) {
        if (out_bytes == sizeof out)
            rt_flush();
        out[out_bytes++] = *text;
    }
}

void rt_u64(uint64_t value)
{
    char digits[21];
    char *at = digits + 20;
    *at = 0;
    do
        *--at = (char)('0' + value % 10);
    while (value /= 10);
    rt_text(at);
}

void rt_hex(uint64_t value)
{
    char digits[19] = "0x";
    for (int i = 0; i < 16; i++)
        digits[2 + i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    digits[18] = 0;
    rt_text(digits);
}

void rt_line(const char *label, uint64_t value)
{
    rt_text(label);
    rt_text(" ");
    rt_u64(value);
    rt_text("\n");
}

uint64_t rt_begin(const char *name, int argc, char **argv, uint64_t quick)
{
    uint64_t scale = quick;
    if (argc > 1) {
        scale = 0;
        for (const char *c = argv[1]; *c >= '0' && *c <= '9'; c++)
            scale = scale * 10 + (uint64_t)(*c - '0');
        if (scale == 0)
            scale = 1;
    }
    rt_text(name);
    rt_text(" scale=");
    rt_u64(scale);
    rt_text("\n");
    return scale;
}

int rt_end(uint64_t checksum)
{
    rt_text("checksum ");
    rt_hex(checksum);
    rt_text("\n");
    rt_flush();
    return 0;
}
