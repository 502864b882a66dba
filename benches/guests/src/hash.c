/* hash: four hash functions over one buffer: table-driven CRC-32, a
 * multiply-rotate hash with four lanes, FNV-1a, and an add-rotate-xor hash.
 *
 * Stresses: table loads addressed by data, 64-bit multiply and rotate, byte
 * and double-word loads, latency of one long dependency chain.
 * Ignore when: judging control flow; every loop here is counted.
 */
#include "../rt/rt.h"

#define QUICK 1700
#define BUFFER_WORDS 1024

static uint32_t crc_table[256];

static void crc_prepare(uint32_t polynomial)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ polynomial : crc >> 1;
        crc_table[i] = crc;
    }
}

static RT_OPAQUE uint32_t crc32(const uint8_t *data, size_t bytes)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < bytes; i++)
        crc = crc_table[(crc ^ data[i]) & 255] ^ crc >> 8;
    return ~crc;
}

static inline uint64_t rotl(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static RT_OPAQUE uint64_t lanes(const uint64_t *data, size_t words, uint64_t seed)
{
    const uint64_t p = 0x9fb21c651e98df25u, q = 0xc2b2ae3d27d4eb4fu;
    uint64_t a = seed, b = seed ^ p, c = seed + q, d = ~seed;
    for (size_t i = 0; i + 4 <= words; i += 4) {
        a = rotl(a + data[i] * q, 31) * p;
        b = rotl(b + data[i + 1] * q, 29) * p;
        c = rotl(c + data[i + 2] * q, 33) * p;
        d = rotl(d + data[i + 3] * q, 27) * p;
    }
    uint64_t h = rotl(a, 1) + rotl(b, 7) + rotl(c, 12) + rotl(d, 18);
    h = (h ^ h >> 32) * p;
    return h ^ h >> 28;
}

static RT_OPAQUE uint64_t fnv1a(const uint8_t *data, size_t bytes)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ data[i]) * 0x100000001b3u;
    return h;
}

static RT_OPAQUE uint64_t add_rotate_xor(const uint64_t *data, size_t words, uint64_t key)
{
    uint64_t a = key, b = key ^ 0x736f6d6570736575u, c = ~key, d = key + 0x646f72616e646f6du;
    for (size_t i = 0; i < words; i++) {
        d ^= data[i];
        for (int round = 0; round < 2; round++) {
            a += b, b = rotl(b, 13) ^ a, a = rotl(a, 32);
            c += d, d = rotl(d, 16) ^ c;
            a += d, d = rotl(d, 21) ^ a;
            c += b, b = rotl(b, 17) ^ c, c = rotl(c, 32);
        }
        a ^= data[i];
    }
    return a ^ b ^ c ^ d;
}

int main(int argc, char **argv)
{
    static uint64_t words[BUFFER_WORDS];
    uint64_t scale = rt_begin("hash", argc, argv, QUICK);
    uint64_t random = scale * 2 + 1, sum = scale;
    for (int i = 0; i < BUFFER_WORDS; i++)
        words[i] = rt_random(&random);
    crc_prepare(0xedb88320u);
    /* The usual check value of this CRC: 3421780262. */
    rt_line("crc32(123456789)", crc32((const uint8_t *)"123456789", 9));
    for (uint64_t i = 0; i < scale; i++) {
        /* A quarter of the buffer for the byte-wise ones, so that no function dominates. */
        sum = rt_mix(sum, crc32((const uint8_t *)words + (sum & 7), BUFFER_WORDS * 2));
        sum = rt_mix(sum, lanes(words, BUFFER_WORDS, sum));
        sum = rt_mix(sum, fnv1a((const uint8_t *)words + (sum & 7), BUFFER_WORDS * 2));
        sum = rt_mix(sum, add_rotate_xor(words, BUFFER_WORDS / 2, sum));
        words[i % BUFFER_WORDS] ^= sum;
    }
    return rt_end(sum);
}
