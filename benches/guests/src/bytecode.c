/* bytecode: a stack machine with a switch, running three small programs:
 * a prime sieve by trial division, Collatz lengths, and an array shuffle.
 *
 * Stresses: one indirect jump per few instructions through a jump table, so
 * block lookup and prediction of computed jumps; loads of operands.
 * Ignore when: nothing interprets in the guest. An engine that compiles the
 * interpreter loop as one region gains far more here than elsewhere.
 */
#include "../rt/rt.h"

#define QUICK 40

enum op {
    HALT, PUSH, GET, SET, LOAD, STORE, ADD, SUB, MUL, DIV, REM, AND, OR, XOR, SHL, SHR,
    LESS, EQUAL, NOT, JUMP, JUMP_ZERO, DUP, SWAP, DROP, CALL, RETURN, INCREMENT, EMIT
};

/* Each cell is an opcode or its operand; jump targets are cell indices. */
static const int32_t primes[] = {
    /*  0 */ PUSH, 2, SET, 1,                           /* candidate = 2      */
    /*  4 */ GET, 1, GET, 0, LESS, JUMP_ZERO, 46,       /* while c < limit    */
    /* 11 */ PUSH, 2, SET, 2,                           /*   d = 2            */
    /* 15 */ GET, 1, GET, 2, DUP, MUL, LESS, NOT,       /*   while d*d <= c   */
    /* 23 */ JUMP_ZERO, 39,
    /* 25 */ GET, 1, GET, 2, REM, JUMP_ZERO, 42,        /*     composite?     */
    /* 32 */ INCREMENT, 2, JUMP, 15,
    /* 36 */ HALT, HALT, HALT,
    /* 39 */ GET, 1, EMIT,
    /* 42 */ INCREMENT, 1, JUMP, 4,
    /* 46 */ HALT,
};

static const int32_t collatz[] = {
    /*  0 */ PUSH, 1, SET, 1,                           /* n = 1              */
    /*  4 */ GET, 1, GET, 0, LESS, JUMP_ZERO, 23,
    /* 11 */ GET, 1, CALL, 24, EMIT,                    /* emit length(n)     */
    /* 16 */ INCREMENT, 1, JUMP, 4,
    /* 20 */ HALT, HALT, HALT,
    /* 23 */ HALT,
    /* 24 */ SET, 2, PUSH, 0, SET, 3,                   /* length(x):         */
    /* 30 */ GET, 2, PUSH, 1, EQUAL, JUMP_ZERO, 40,     /*   until x == 1     */
    /* 37 */ GET, 3, RETURN,
    /* 40 */ INCREMENT, 3,
    /* 42 */ GET, 2, PUSH, 1, AND, JUMP_ZERO, 59,
    /* 49 */ GET, 2, PUSH, 3, MUL, PUSH, 1, ADD, JUMP, 64,
    /* 59 */ GET, 2, PUSH, 1, SHR,
    /* 64 */ SET, 2, JUMP, 30,
};

static const int32_t shuffle[] = {
    /*  0 */ PUSH, 0, SET, 1,
    /*  4 */ GET, 1, PUSH, 256, LESS, JUMP_ZERO, 25,    /* memory[i] = i * 7  */
    /* 11 */ GET, 1, PUSH, 7, MUL, GET, 1, STORE,
    /* 19 */ INCREMENT, 1, JUMP, 4,
    /* 23 */ HALT, HALT,
    /* 25 */ GET, 0, SET, 2, PUSH, 0, SET, 1,           /* x = seed, i = 0    */
    /* 33 */ GET, 1, PUSH, 2048, LESS, JUMP_ZERO, 84,
    /* 40 */ GET, 2, PUSH, 1103515245, MUL, PUSH, 12345, ADD, PUSH, 0x7fffffff, AND, SET, 2,
    /* 53 */ GET, 2, PUSH, 8, SHR, PUSH, 255, AND, SET, 3, /* j              */
    /* 63 */ GET, 3, LOAD, GET, 1, PUSH, 255, AND, LOAD,   /* m[j] m[i]      */
    /* 72 */ GET, 3, STORE, GET, 1, PUSH, 255, AND, STORE, /* swapped back   */
    /* 81 */ JUMP, 90, HALT,
    /* 84 */ PUSH, 77, LOAD, EMIT, HALT, HALT,
    /* 90 */ GET, 2, PUSH, 3, OR, PUSH, 5, XOR, PUSH, 1, SHL, DROP,
    /* 102 */ INCREMENT, 1, JUMP, 33,
};

struct machine {
    int64_t local[4], stack[64], memory[256];
    uint64_t n_executed, emitted;
};

static RT_OPAQUE void run(struct machine *m, const int32_t *code)
{
    int64_t *sp = m->stack; /* points at the top element; stack[0] is unused */
    const int32_t *pc = code;
    uint64_t n = 0;
    for (;;) {
        n++;
        switch ((enum op)*pc++) {
        case HALT: m->n_executed += n; return;
        case PUSH: *++sp = *pc++; break;
        case GET: *++sp = m->local[*pc++]; break;
        case SET: m->local[*pc++] = *sp--; break;
        case LOAD: *sp = m->memory[*sp & 255]; break;
        case STORE: sp -= 2; m->memory[sp[2] & 255] = sp[1]; break;
        case ADD: sp--; *sp += sp[1]; break;
        case SUB: sp--; *sp -= sp[1]; break;
        case MUL: sp--; *sp = (int64_t)((uint64_t)*sp * (uint64_t)sp[1]); break;
        case DIV: sp--; *sp = sp[1] ? *sp / sp[1] : 0; break;
        case REM: sp--; *sp = sp[1] ? *sp % sp[1] : 0; break;
        case AND: sp--; *sp &= sp[1]; break;
        case OR: sp--; *sp |= sp[1]; break;
        case XOR: sp--; *sp ^= sp[1]; break;
        case SHL: sp--; *sp = (int64_t)((uint64_t)*sp << (sp[1] & 63)); break;
        case SHR: sp--; *sp >>= sp[1] & 63; break;
        case LESS: sp--; *sp = *sp < sp[1]; break;
        case EQUAL: sp--; *sp = *sp == sp[1]; break;
        case NOT: *sp = !*sp; break;
        case JUMP: pc = code + *pc; break;
        case JUMP_ZERO: pc = *sp-- ? pc + 1 : code + *pc; break;
        case DUP: sp++; *sp = sp[-1]; break;
        case SWAP: { int64_t t = *sp; *sp = sp[-1]; sp[-1] = t; break; }
        case DROP: sp--; break;
        case CALL: {
            /* The return address goes below the one argument. */
            int64_t argument = *sp;
            *sp = pc + 1 - code;
            *++sp = argument;
            pc = code + *pc;
            break;
        }
        case RETURN: { int64_t result = *sp--; pc = code + *sp; *sp = result; break; }
        case INCREMENT: m->local[*pc++]++; break;
        case EMIT: m->emitted = rt_mix(m->emitted, (uint64_t)*sp--); break;
        }
    }
}

int main(int argc, char **argv)
{
    static const int32_t *const volatile programs[3] = { primes, collatz, shuffle };
    static struct machine machine;
    uint64_t scale = rt_begin("bytecode", argc, argv, QUICK);
    machine.emitted = scale;
    for (uint64_t i = 0; i < scale; i++)
        for (int p = 0; p < 3; p++) {
            machine.local[0] = (int64_t)(300 + i % 64);
            run(&machine, programs[p]);
        }
    rt_line("executed", machine.n_executed);
    return rt_end(machine.emitted);
}
