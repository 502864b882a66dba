/* strings: makes a text, then searches, tokenises, counts words, formats and
 * parses numbers, folds case.
 *
 * Stresses: byte loads with early exits, short loops of unknown length, hash
 * probing, division by ten, many small calls.
 * Ignore when: judging libc's string functions; these are plain C loops, and
 * RV64GC has no wider way to do them.
 */
#include "../rt/rt.h"

#define QUICK 30
#define TEXT_BYTES 32768
#define TABLE_SLOTS 1024 /* power of two */

static const char *const syllables[16] = { "ka", "lo", "mi", "tre", "sun", "ba", "or", "en",
                                           "vi", "quo", "da", "pel", "ri", "sto", "ul", "ma" };

static char text[TEXT_BYTES + 64];
static char folded[TEXT_BYTES + 64];

static RT_OPAQUE size_t length(const char *s)
{
    const char *end = s;
    while (*end)
        end++;
    return (size_t)(end - s);
}

static RT_OPAQUE char *append(char *to, const char *from)
{
    while ((*to = *from))
        to++, from++;
    return to;
}

static RT_OPAQUE size_t make_text(uint64_t *random)
{
    char *at = text;
    while (at < text + TEXT_BYTES) {
        uint64_t r = rt_random(random) >> 8;
        char *word = at;
        for (uint64_t n = 1 + (r & 3), bits = r >> 8; n; n--, bits >>= 4)
            at = append(at, syllables[bits & 15]);
        if ((r >> 40 & 7) == 0)
            *word = (char)(*word - 'a' + 'A');
        at = append(at, (r >> 44 & 15) == 0 ? ".\n" : (r >> 44 & 15) == 1 ? ", " : " ");
    }
    return (size_t)(at - text);
}

static RT_OPAQUE uint64_t count_naive(const char *hay, const char *needle)
{
    uint64_t n_found = 0;
    for (; *hay; hay++) {
        const char *h = hay, *n = needle;
        while (*n && *h == *n)
            h++, n++;
        n_found += !*n;
    }
    return n_found;
}

/* Horspool: skip by the last byte of the window. */
static RT_OPAQUE uint64_t count_skipping(const char *hay, size_t bytes, const char *needle)
{
    uint8_t skip[256];
    size_t n = length(needle);
    uint64_t n_found = 0;
    for (int i = 0; i < 256; i++)
        skip[i] = (uint8_t)n;
    for (size_t i = 0; i + 1 < n; i++)
        skip[(uint8_t)needle[i]] = (uint8_t)(n - 1 - i);
    for (size_t at = 0; at + n <= bytes; at += skip[(uint8_t)hay[at + n - 1]]) {
        size_t i = n;
        while (i && hay[at + i - 1] == needle[i - 1])
            i--;
        n_found += i == 0;
    }
    return n_found;
}

struct word {
    const char *start;
    uint32_t bytes, n_seen;
};

static struct word table[TABLE_SLOTS];

static int is_letter(char c)
{
    return (unsigned char)((c | 32) - 'a') < 26;
}

static RT_OPAQUE int same(const char *a, const char *b, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

/* Counts words; words past three quarters of the table are only hashed. */
static RT_OPAQUE uint64_t tokenise(const char *at, uint64_t sum)
{
    uint32_t n_words = 0;
    for (int i = 0; i < TABLE_SLOTS; i++)
        table[i] = (struct word){ 0 };
    while (*at) {
        while (*at && !is_letter(*at))
            at++;
        const char *start = at;
        uint32_t hash = 5381;
        while (is_letter(*at))
            hash = hash * 33 + (unsigned char)*at++;
        uint32_t bytes = (uint32_t)(at - start);
        uint32_t slot = hash ^ hash >> 15;
        for (;; slot++) {
            struct word *word = &table[slot % TABLE_SLOTS];
            if (!word->start) {
                if (bytes && n_words < TABLE_SLOTS * 3 / 4) {
                    *word = (struct word){ start, bytes, 1 };
                    n_words++;
                }
                break;
            }
            if (word->bytes == bytes && same(word->start, start, bytes)) {
                word->n_seen++;
                break;
            }
        }
        sum += hash;
    }
    for (int i = 0; i < TABLE_SLOTS; i++)
        if (table[i].n_seen > 1)
            sum = rt_mix(sum, table[i].n_seen * 256u + table[i].bytes);
    return sum;
}

static RT_OPAQUE size_t fold_case(char *to, const char *from)
{
    size_t n = 0;
    for (; from[n]; n++)
        to[n] = from[n] >= 'A' && from[n] <= 'Z' ? (char)(from[n] | 32) : from[n];
    to[n] = 0;
    return n;
}

/* Understands %u %d %x %s and a width such as %8u. */
static RT_OPAQUE char *format(char *to, const char *pattern, const uint64_t *values, const char *const *strings)
{
    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            *to++ = *pattern;
            continue;
        }
        int width = 0, negative = 0, n = 0;
        char digits[24];
        while (*++pattern >= '0' && *pattern <= '9')
            width = width * 10 + *pattern - '0';
        if (*pattern == 's') {
            to = append(to, *strings++);
            continue;
        }
        uint64_t value = *values++, base = *pattern == 'x' ? 16 : 10;
        if (*pattern == 'd' && (int64_t)value < 0)
            negative = 1, value = -value;
        do
            digits[n++] = "0123456789abcdef"[value % base];
        while (value /= base);
        if (negative)
            digits[n++] = '-';
        for (int pad = width - n; pad > 0; pad--)
            *to++ = ' ';
        while (n)
            *to++ = digits[--n];
    }
    *to = 0;
    return to;
}

static RT_OPAQUE uint64_t parse_numbers(const char *at)
{
    uint64_t sum = 0;
    while (*at) {
        int negative = *at == '-';
        at += negative;
        uint64_t value = 0;
        const char *start = at;
        while (*at >= '0' && *at <= '9')
            value = value * 10 + (uint64_t)(*at++ - '0');
        sum = sum * 7 + (negative ? -value : value);
        at += at == start && *at;
    }
    return sum;
}

int main(int argc, char **argv)
{
    uint64_t scale = rt_begin("strings", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale, n_bytes = 0;
    for (uint64_t i = 0; i < scale; i++) {
        size_t bytes = make_text(&random);
        n_bytes += bytes;
        sum = rt_mix(sum, count_naive(text, syllables[i & 15]));
        char needle[16];
        append(append(needle, syllables[i & 15]), syllables[i >> 4 & 15]);
        sum = rt_mix(sum, count_skipping(text, bytes, needle));
        sum = tokenise(text, sum);
        sum = rt_mix(sum, fold_case(folded, text));
        sum = rt_mix(sum, tokenise(folded, 0));
        char line[160];
        for (int j = 0; j < 200; j++) {
            uint64_t values[4] = { rt_random(&random) >> 40, rt_random(&random), sum, (uint64_t)j };
            const char *names[1] = { syllables[j & 15] };
            format(line, "%8u, %d, %x (%s) %3u\n", values, names);
            sum = rt_mix(sum, parse_numbers(line));
        }
    }
    rt_line("bytes", n_bytes);
    return rt_end(sum);
}
