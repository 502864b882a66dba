/* Runs the cases of a file under qemu-riscv64; see qemu.rs.
 *
 *   for each case: pages as it wants them -> sigreturn into it -> SIGTRAP,
 *   SIGSEGV or SIGILL -> its registers and data to standard output
 *
 * Freestanding: in the handler gp and tp are the case's, so nothing may use
 * them. Hence no libc, no thread-local data, and no linker relaxation.
 */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#define TEXT 0x10000
#define DATA 0x20000
#define DATA_BYTES 0x3000
#define TEXT_BYTES_MAX 0x4000

static const uint64_t *next; /* what is left of the input */
static uint64_t n_left;
static int started;
static char stack[1 << 16] __attribute__((aligned(16)));

static long call(long n, long a, long b, long c, long d, long e, long f)
{
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    register long a7 __asm__("a7") = n;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7)
                     : "memory");
    return a0;
}

static void quit(int status)
{
    for (;;)
        call(93, status, 0, 0, 0, 0, 0);
}

static void put(const void *bytes, size_t n_bytes)
{
    const char *at = bytes;
    while (n_bytes) {
        long written = call(64, 1, (long)at, n_bytes, 0, 0, 0);
        if (written <= 0)
            quit(2);
        at += written;
        n_bytes -= written;
    }
}

static void map(uint64_t start, uint64_t n_bytes, int prot)
{
    /* private, anonymous, fixed */
    if (call(222, start, n_bytes, prot, 0x32, -1, 0) != (long)start)
        quit(3);
}

static void fill(uint64_t start, uint64_t n_bytes)
{
    volatile uint64_t *to = (volatile uint64_t *)start;
    for (uint64_t i = 0; i < n_bytes / 8; i++)
        to[i] = *next++;
}

static void protect(uint64_t start, uint64_t n_bytes, int prot)
{
    if (call(226, start, n_bytes, prot, 0, 0, 0))
        quit(4);
}

static void handler(int signal, siginfo_t *info, void *context)
{
    mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
    uint64_t word;
    (void)info;
    if (started) {
        word = signal;
        put(&word, 8);
        put(m->__gregs, 32 * 8); /* pc stands in the place of x0 */
        put(m->__fpregs.__d.__f, 32 * 8);
        word = m->__fpregs.__d.__fcsr;
        put(&word, 8);
        protect(DATA, DATA_BYTES, 1);
        put((void *)DATA, DATA_BYTES);
    }
    started = 1;
    if (n_left-- == 0)
        quit(0);
    for (int i = 1; i < 32; i++)
        m->__gregs[i] = *next++;
    for (int i = 0; i < 32; i++)
        m->__fpregs.__d.__f[i] = *next++;
    m->__fpregs.__d.__fcsr = *next++;
    m->__gregs[0] = TEXT;
    uint64_t writable = *next++, text_bytes = *next++;
    call(215, TEXT, TEXT_BYTES_MAX, 0, 0, 0, 0);
    map(TEXT, text_bytes, 3);
    fill(TEXT, text_bytes);
    protect(TEXT, text_bytes, writable ? 7 : 5);
    map(DATA, DATA_BYTES, 3);
    fill(DATA, DATA_BYTES);
    protect(DATA + 0x2000, 0x1000, 1);
    __asm__ volatile("fence.i" ::: "memory");
}

struct kernel_sigaction {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    unsigned long mask;
};

__attribute__((used)) void start(long *args)
{
    long file = call(56, -100, args[2], 0, 0, 0, 0);
    long n_bytes = call(62, file, 0, 2, 0, 0, 0);
    next = (const uint64_t *)call(222, 0, n_bytes, 1, 2, file, 0);
    if (file < 0 || ((long)next < 0 && (long)next > -4096))
        quit(5);
    n_left = *next++;
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    call(132, (long)&alternate, 0, 0, 0, 0, 0);
    struct kernel_sigaction action = { handler, SA_SIGINFO | SA_ONSTACK | SA_NODEFER, 0 };
    static const int signals[] = { SIGTRAP, SIGSEGV, SIGILL, SIGBUS };
    for (int i = 0; i < 4; i++)
        call(134, signals[i], (long)&action, 0, 8, 0, 0);
    __asm__ volatile("ebreak");
    quit(6);
}

__asm__(".globl _start\n_start: mv a0, sp\n call start\n");
