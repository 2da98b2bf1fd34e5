/*
 * path: paths of requests, as they came and decoded (RFC 3986).
 *
 * A path is taken apart while it is still encoded, so that "%2F" is a byte of a segment
 * and not a boundary; what is found in it is decoded afterwards.
 */
#ifndef MOONPOOL_PATH_H
#define MOONPOOL_PATH_H

#include "buf.h"

/* The byte at *p, which moves on; "%XX" is one (2.1), a "%" without XX is itself. */
static inline unsigned char path_byte(const char **p, const char *end);

/* Decodes len bytes to out, which has room for as many: how many it has become. */
size_t path_decode(const char *path, size_t len, char *out);

/*
 * Removes dot segments (5.2.4), encoded ones too (2.3): 0 there are none; 1 clean, which
 * was empty, has the path without them; -1 it is refused and *why says so: it leaves the
 * root, or would by an encoded "/", or has a NUL. path begins with "/".
 */
int path_clean(const char *path, size_t len, struct buf *clean, const char **why);

static inline int path_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline unsigned char path_byte(const char **p, const char *end)
{
    const char *s = (*p)++;
    if (*s != '%' || end - s < 3 || path_hex(s[1]) < 0 || path_hex(s[2]) < 0)
        return (unsigned char)*s;
    *p += 2;
    return (unsigned char)(path_hex(s[1]) << 4 | path_hex(s[2]));
}

#endif
