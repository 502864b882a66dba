/* bytecode: a stack machine with a switch, running three small programs:
 * primes by trial division, Collatz lengths, and an array shuffle.
 *
 * Stresses: one indirect jump per few instructions through a jump table, so
 * block lookup and prediction of computed jumps; loads of operands.
 * Ignore when: nothing interprets in the guest. An engine that compiles the
 * interpreter loop as one region gains far more here than elsewhere.
 */
#include "../rt/rt.h"

#define QUICK 37

enum op {
    HALT, PUSH, GET, SET, LOAD, STORE, ADD, SUB, MUL, DIV, REM, AND, OR, XOR, SHL, SHR,
    LESS, EQUAL, NOT, JUMP, JUMP_ZERO, DUP, SWAP, DROP, CALL, RETURN, INCREMENT, EMIT
};

/* Programs as written: opcodes, operands and labels. AT(k) marks a place and
 * takes no cell; TO(k) is that place as a jump operand. Resolved by assemble. */
#define N_LABELS 8
#define AT(k) (-1000 - (k))
#define TO(k) (-2000 - (k))
#define MAX_CELLS 160

static const int32_t primes[] = {
    PUSH, 2, SET, 1,
    AT(0), GET, 1, GET, 0, LESS, JUMP_ZERO, TO(4),      /* while c < limit    */
    PUSH, 2, SET, 2,
    AT(1), GET, 1, GET, 2, DUP, MUL, LESS, NOT,         /*   while d*d <= c   */
    JUMP_ZERO, TO(2),
    GET, 1, GET, 2, REM, JUMP_ZERO, TO(3),              /*     composite: out */
    INCREMENT, 2, JUMP, TO(1),
    AT(2), GET, 1, EMIT,
    AT(3), INCREMENT, 1, JUMP, TO(0),
    AT(4), HALT,
};

static const int32_t collatz[] = {
    PUSH, 1, SET, 1,
    AT(0), GET, 1, GET, 0, LESS, JUMP_ZERO, TO(1),      /* while n < limit    */
    GET, 1, CALL, TO(2), EMIT,
    INCREMENT, 1, JUMP, TO(0),
    AT(1), HALT,
    AT(2), SET, 2, PUSH, 0, SET, 3,                     /* length of x        */
    AT(3), GET, 2, PUSH, 1, EQUAL, JUMP_ZERO, TO(4),
    GET, 3, RETURN,
    AT(4), INCREMENT, 3,
    GET, 2, PUSH, 1, AND, JUMP_ZERO, TO(5),
    GET, 2, PUSH, 3, MUL, PUSH, 1, ADD, JUMP, TO(6),
    AT(5), GET, 2, PUSH, 1, SHR,
    AT(6), SET, 2, JUMP, TO(3),
};

static const int32_t shuffle[] = {
    PUSH, 0, SET, 1,
    AT(0), GET, 1, PUSH, 256, LESS, JUMP_ZERO, TO(1),   /* memory[i] = i * 7  */
    GET, 1, PUSH, 7, MUL, GET, 1, STORE,
    INCREMENT, 1, JUMP, TO(0),
    AT(1), GET, 0, SET, 2, PUSH, 0, SET, 1,
    AT(2), GET, 1, PUSH, 2048, LESS, JUMP_ZERO, TO(3),
    GET, 2, PUSH, 1103515245, MUL, PUSH, 12345, ADD, PUSH, 0x7fffffff, AND, SET, 2,
    GET, 2, PUSH, 8, SHR, PUSH, 255, AND, SET, 3,       /* j from the seed    */
    GET, 3, LOAD, GET, 1, LOAD,                         /* m[j] and m[i] ...  */
    GET, 3, STORE, GET, 1, STORE,                       /* ... swapped back   */
    INCREMENT, 1, JUMP, TO(2),
    AT(3), PUSH, 77, LOAD, PUSH, 200, LOAD, SUB, EMIT, HALT,
};

static RT_OPAQUE void assemble(int32_t *code, const int32_t *written, size_t n_written)
{
    int32_t place[N_LABELS] = { 0 };
    for (int pass = 0; pass < 2; pass++) {
        int32_t n = 0;
        for (size_t i = 0; i < n_written; i++) {
            int32_t cell = written[i];
            if (cell <= AT(0) && cell > AT(N_LABELS))
                place[AT(0) - cell] = n;
            else
                code[n++] = cell <= TO(0) && cell > TO(N_LABELS) ? place[TO(0) - cell] : cell;
        }
    }
}

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
    static int32_t code[3][MAX_CELLS];
    static struct machine machine;
    uint64_t scale = rt_begin("bytecode", argc, argv, QUICK);
    assemble(code[0], primes, sizeof primes / sizeof primes[0]);
    assemble(code[1], collatz, sizeof collatz / sizeof collatz[0]);
    assemble(code[2], shuffle, sizeof shuffle / sizeof shuffle[0]);
    machine.emitted = scale;
    for (uint64_t i = 0; i < scale; i++)
        for (int p = 0; p < 3; p++) {
            machine.local[0] = (int64_t)(300 + i % 64);
            run(&machine, code[p]);
        }
    rt_line("executed", machine.n_executed);
    return rt_end(machine.emitted);
}
