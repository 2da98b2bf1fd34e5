#include "json_text.h"

#include <stddef.h>

static int is_tail(const char *s)
{
    return ((unsigned char)*s & 0xc0) == 0x80;
}

/* Bytes of the character at s, of which there are n; 0 if it is none (RFC 3629 4). */
static size_t utf8_length(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80)
        return 1;
    if (u[0] < 0xc2 || u[0] > 0xf4 || n < 2 || !is_tail(s + 1))
        return 0;
    if (u[0] < 0xe0)
        return 2;
    if (n < 3 || !is_tail(s + 2))
        return 0;
    if (u[0] < 0xf0) /* neither overlong nor a surrogate */
        return (u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] > 0x9f) ? 0 : 3;
    if (n < 4 || !is_tail(s + 3))
        return 0;
    return (u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] > 0x8f) ? 0 : 4;
}

enum { PLAIN, ESCAPED, BEYOND_ASCII };

static const unsigned char kinds[256] = {
    [0 ... 0x1f] = ESCAPED,
    ['"'] = ESCAPED,
    ['\\'] = ESCAPED,
    [0x80 ... 0xff] = BEYOND_ASCII,
};

const char *json_text_end(const char *s, const char *end)
{
    for (;;) {
        while (s < end && kinds[(unsigned char)*s] == PLAIN)
            s++;
        if (s == end || kinds[(unsigned char)*s] == ESCAPED)
            return s;
        size_t n = utf8_length(s, (size_t)(end - s));
        if (!n)
            return s;
        s += n;
    }
}
