/* The runtime every guest shares: scale argument, text output, checksum.
 *
 * HARTLOOM_FREESTANDING is defined for the RV64 build: no libc, rt/crt0.S
 * starts the program, and `write` and `exit` are the only system calls.
 * Without it the same sources are an ordinary hosted program, which gives the
 * native time and the expected output.
 *
 * Rule for guests: print integers and bit patterns only, and never a NaN's
 * bits or an out-of-range float-to-integer conversion: those two differ
 * between instruction sets.
 */
#ifndef RT_H
#define RT_H

#include <stddef.h>
#include <stdint.h>

/* Declared here because a freestanding compiler need not have <string.h>. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
size_t strlen(const char *text);

/* A function the compiler calls as written: not inlined, and not cloned for
 * constant arguments (which would turn indirect calls into direct ones). */
#if defined(__clang__)
#define RT_OPAQUE __attribute__((noinline))
#else
#define RT_OPAQUE __attribute__((noinline, noclone))
#endif

/* argv[1] as a decimal number of at least 1, else `quick`. Prints
 * "<name> scale=<n>", the first line of every guest's output. */
uint64_t rt_begin(const char *name, int argc, char **argv, uint64_t quick);

/* Prints "checksum 0x<16 digits>", flushes; returns main's exit status. */
int rt_end(uint64_t checksum);

void rt_text(const char *text);
void rt_u64(uint64_t value);
void rt_hex(uint64_t value); /* 0x and sixteen digits */
void rt_line(const char *label, uint64_t value); /* "label value\n" */
void rt_flush(void);

/* The write system call itself, unbuffered. */
long rt_write(int fd, const void *bytes, size_t n_bytes);

/* xorshift64*: the state must not be zero. */
static inline uint64_t rt_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1du;
}

/* Folds `value` into the checksum `sum`; order matters. */
static inline uint64_t rt_mix(uint64_t sum, uint64_t value)
{
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    return sum ^ (sum >> 29);
}

static inline uint64_t rt_bits64(double value)
{
    union { double f; uint64_t u; } both = { .f = value };
    return both.u;
}

static inline uint32_t rt_bits32(float value)
{
    union { float f; uint32_t u; } both = { .f = value };
    return both.u;
}

/* A double in [0, 1), exact: 53 random bits over 2^53. */
static inline double rt_unit(uint64_t *state)
{
    return (double)(int64_t)(rt_random(state) >> 11) * 0x1p-53;
}

#endif
