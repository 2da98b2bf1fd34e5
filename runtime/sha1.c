#include "sha1.h"

#include <string.h>

enum { BLOCK = 64 };

static uint32_t rotate(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* RFC 3174 5: f(t; B, C, D) + K(t) */
static uint32_t mix(int t, uint32_t b, uint32_t c, uint32_t d)
{
    if (t < 20)
        return ((b & c) | (~b & d)) + 0x5a827999;
    if (t < 40)
        return (b ^ c ^ d) + 0x6ed9eba1;
    if (t < 60)
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    return (b ^ c ^ d) + 0xca62c1d6;
}

/* RFC 3174 6.1 */
static void add_block(uint32_t h[5], const uint8_t *block)
{
    uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int t = 0; t < 16; t++)
        w[t] = big_endian(block + 4 * t);
    for (int t = 16; t < 80; t++)
        w[t] = rotate(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1);
    for (int t = 0; t < 80; t++) {
        uint32_t next = rotate(a, 5) + mix(t, b, c, d) + e + w[t];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    h[0] += a;
    h[1] += b;
    h[2] += c;
    h[3] += d;
    h[4] += e;
}

/* The rest of the data, a 1 bit, zeros, and the length in bits (RFC 3174 4). */
static void add_last(uint32_t h[5], const char *rest, size_t len, uint64_t total)
{
    uint8_t block[2 * BLOCK] = {0};
    size_t size = len < BLOCK - 8 ? BLOCK : 2 * BLOCK;
    memcpy(block, rest, len);
    block[len] = 0x80;
    for (int i = 0; i < 8; i++)
        block[size - 1 - (size_t)i] = (uint8_t)(total * 8 >> 8 * i);
    for (size_t at = 0; at < size; at += BLOCK)
        add_block(h, block + at);
}

void sha1(const char *data, size_t len, uint8_t digest[SHA1_SIZE])
{
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t at = 0;
    for (; len - at >= BLOCK; at += BLOCK)
        add_block(h, (const uint8_t *)data + at);
    add_last(h, data + at, len - at, len);
    for (int i = 0; i < SHA1_SIZE; i++)
        digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}
