/* sha256: SHA-256 (FIPS 180-4) of a 4 KiB buffer, each digest fed back.
 *
 * Stresses: 32-bit rotates, adds and sign extensions in long straight-line
 * code; register pressure (about 20 live values); byte-swapped loads.
 * Ignore when: judging branches, calls or memory: there are hardly any. The
 * native compiler has a rotate instruction, RV64GC needs three.
 */
#include "../rt/rt.h"

#define QUICK 1200
#define BUFFER_BYTES 4096

static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotr(uint32_t x, int by)
{
    return x >> by | x << (32 - by);
}

static RT_OPAQUE void compress(uint32_t state[8], const uint8_t *chunk)
{
    uint32_t w[64];
    for (int i = 0; i < 16; i++, chunk += 4)
        w[i] = (uint32_t)chunk[0] << 24 | (uint32_t)chunk[1] << 16 | (uint32_t)chunk[2] << 8 | chunk[3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
        uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constant[i] + w[i];
        uint32_t s0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
        uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static RT_OPAQUE void sha256(const uint8_t *data, size_t bytes, uint8_t digest[32])
{
    uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                          0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    uint8_t last[128] = { 0 };
    size_t whole = bytes / 64 * 64, rest = bytes - whole;
    size_t last_bytes = rest < 56 ? 64 : 128;
    for (size_t at = 0; at < whole; at += 64)
        compress(state, data + at);
    for (size_t i = 0; i < rest; i++)
        last[i] = data[whole + i];
    last[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        last[last_bytes - 1 - i] = (uint8_t)((uint64_t)bytes * 8 >> 8 * i);
    for (size_t at = 0; at < last_bytes; at += 64)
        compress(state, last + at);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

static uint64_t first8(const uint8_t digest[32])
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value = value << 8 | digest[i];
    return value;
}

int main(int argc, char **argv)
{
    static uint8_t buffer[BUFFER_BYTES];
    uint8_t digest[32];
    uint64_t scale = rt_begin("sha256", argc, argv, QUICK);

    /* The standard's first example: must begin 0xba7816bf8f01cfea. */
    sha256((const uint8_t *)"abc", 3, digest);
    rt_text("abc ");
    rt_hex(first8(digest));
    rt_text("\n");

    uint64_t random = scale | 1, sum = scale;
    for (int i = 0; i < BUFFER_BYTES; i++)
        buffer[i] = (uint8_t)(rt_random(&random) >> 56);
    for (uint64_t i = 0; i < scale; i++) {
        /* Lengths vary so that both padding cases run. */
        sha256(buffer, BUFFER_BYTES - (i & 63), digest);
        for (int j = 0; j < 32; j++)
            buffer[(i * 32 + (uint64_t)j) % BUFFER_BYTES] ^= digest[j];
        sum = rt_mix(sum, first8(digest));
    }
    return rt_end(sum);
}
