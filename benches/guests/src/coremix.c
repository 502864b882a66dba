/* coremix: a round of everyday embedded work: sort and reverse a linked list,
 * multiply 16-bit matrices, run a number scanner over text, fold all into a
 * bit-serial 16-bit CRC.
 *
 * Stresses: a mix of short blocks, most of its instructions compressed; no
 * single loop dominates, so it shows region formation and spills.
 * Ignore when: one particular operation is in question; the others say which.
 * Not CoreMark, and its figures cannot be compared with CoreMark's.
 */
#include "../rt/rt.h"

#define QUICK 900
#define N_ITEMS 200
#define N 12
#define TEXT_BYTES 600

struct item {
    struct item *next;
    int16_t weight, id;
};

static struct item items[N_ITEMS];
static int16_t left[N][N], right[N][N];
static int32_t product[N][N];
static char text[TEXT_BYTES + 1];

static RT_OPAQUE uint16_t crc16(uint16_t crc, uint32_t value, int n_bits)
{
    for (; n_bits; n_bits--, value >>= 1) {
        uint16_t carry = (uint16_t)((crc ^ value) & 1);
        crc >>= 1;
        if (carry)
            crc ^= 0xa001;
    }
    return crc;
}

static RT_OPAQUE struct item *make_list(uint64_t *random)
{
    struct item *head = 0;
    for (int i = 0; i < N_ITEMS; i++) {
        /* 79 is prime to 200: neighbours in the list are far apart in memory. */
        struct item *item = &items[i * 79 % N_ITEMS];
        item->weight = (int16_t)(rt_random(random) >> 48);
        item->id = (int16_t)i;
        item->next = head;
        head = item;
    }
    return head;
}

static RT_OPAQUE int lighter(const struct item *a, const struct item *b, int16_t bias)
{
    return (int16_t)(a->weight ^ bias) <= (int16_t)(b->weight ^ bias);
}

/* Bottom-up merge sort: runs of 1, 2, 4, ... */
static RT_OPAQUE struct item *sort_list(struct item *head, int16_t bias)
{
    for (int run = 1;; run *= 2) {
        struct item *rest = head, **tail = &head;
        int n_merges = 0;
        while (rest) {
            struct item *a = rest, *b = rest;
            int n_a = 0, n_b = run;
            while (b && n_a < run)
                b = b->next, n_a++;
            n_merges++;
            while (n_a || (n_b && b)) {
                struct item *taken;
                if (n_a && (!n_b || !b || lighter(a, b, bias)))
                    taken = a, a = a->next, n_a--;
                else
                    taken = b, b = b->next, n_b--;
                *tail = taken;
                tail = &taken->next;
            }
            rest = b;
        }
        *tail = 0;
        if (n_merges <= 1)
            return head;
    }
}

static RT_OPAQUE struct item *reverse(struct item *head)
{
    struct item *done = 0;
    while (head) {
        struct item *next = head->next;
        head->next = done;
        done = head;
        head = next;
    }
    return done;
}

static RT_OPAQUE const struct item *find(const struct item *at, int16_t id)
{
    while (at && at->id != id)
        at = at->next;
    return at;
}

static RT_OPAQUE uint16_t list_work(struct item *head, uint16_t crc)
{
    head = sort_list(head, (int16_t)crc);
    head = reverse(head);
    for (int16_t id = 3; id < N_ITEMS; id += 17) {
        const struct item *found = find(head, id);
        crc = crc16(crc, (uint16_t)found->weight, 16);
    }
    return crc;
}

static RT_OPAQUE void multiply(void)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            int32_t dot = 0;
            for (int k = 0; k < N; k++)
                dot += left[i][k] * right[k][j];
            product[i][j] = dot;
        }
}

static RT_OPAQUE uint16_t matrix_work(int16_t value, uint16_t crc)
{
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            left[i][j] = (int16_t)(left[i][j] + value);
            right[j][i] = (int16_t)((i * j + value) & 0xff);
        }
    multiply();
    int32_t previous = 0, clipped = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            /* Bit field, comparison and clipping, as control code has them. */
            int32_t x = product[i][j];
            clipped += x > previous ? 10 : (x >> 2 & 15) * (x >> 5 & 127);
            if (clipped > 20000)
                clipped -= 20000;
            previous = x;
        }
    return crc16(crc, (uint32_t)clipped, 32);
}

enum state { START, SIGN, WHOLE, POINT, FRACTION, EXPONENT, EXPONENT_SIGN, POWER, WRONG, N_STATES };

static RT_OPAQUE enum state next_state(enum state state, char c)
{
    int digit = c >= '0' && c <= '9';
    switch (state) {
    case START: return digit ? WHOLE : c == '+' || c == '-' ? SIGN : c == '.' ? POINT : WRONG;
    case SIGN: return digit ? WHOLE : c == '.' ? POINT : WRONG;
    case WHOLE: return digit ? WHOLE : c == '.' ? FRACTION : c == 'e' ? EXPONENT : WRONG;
    case POINT: return digit ? FRACTION : WRONG;
    case FRACTION: return digit ? FRACTION : c == 'e' ? EXPONENT : WRONG;
    case EXPONENT: return digit ? POWER : c == '+' || c == '-' ? EXPONENT_SIGN : WRONG;
    case EXPONENT_SIGN: return digit ? POWER : WRONG;
    case POWER: return digit ? POWER : WRONG;
    default: return WRONG;
    }
}

static RT_OPAQUE void make_text(uint64_t *random)
{
    static const char alphabet[16] = "0123456789.e+-,x";
    for (int i = 0; i < TEXT_BYTES; i++) {
        uint64_t r = rt_random(random);
        /* A comma ends a field; digits are the most frequent. */
        text[i] = i % 9 == 8 ? ',' : alphabet[r >> 60 < 13 ? r >> 56 & 7 : r >> 56 & 15];
    }
    text[TEXT_BYTES] = 0;
}

static RT_OPAQUE uint16_t scan_work(uint16_t crc)
{
    uint32_t n_ended[N_STATES] = { 0 };
    enum state state = START;
    for (const char *c = text; *c; c++) {
        if (*c == ',') {
            n_ended[state]++;
            state = START;
        } else if (state != WRONG) {
            state = next_state(state, *c);
        }
    }
    for (int i = 0; i < N_STATES; i++)
        crc = crc16(crc, n_ended[i], 16);
    return crc;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("coremix", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    uint16_t crc = (uint16_t)scale;
    make_text(&random);
    for (uint64_t i = 0; i < scale; i++) {
        struct item *head = make_list(&random);
        crc = list_work(head, crc);
        for (int j = 0; j < 3; j++)
            crc = matrix_work((int16_t)crc, crc);
        for (int j = 0; j < 3; j++) {
            text[crc % TEXT_BYTES] ^= 1;
            crc = scan_work(crc);
        }
        sum = rt_mix(sum, crc);
    }
    rt_line("crc", crc);
    return rt_end(sum);
}
