/*
 * buf: bytes that come in at the end and leave at the beginning. An empty buf may be
 * released at any time and then holds no memory; zeroed memory is an empty buf.
 */
#ifndef MOONPOOL_BUF_H
#define MOONPOOL_BUF_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *data;
    uint32_t start, end, size;
};

static inline char *buf_head(const struct buf *b)
{
    return b->data + b->start;
}

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

static inline size_t buf_room(const struct buf *b)
{
    return b->size - b->end;
}

void buf_make_room(struct buf *b, size_t n); /* there is less than that now */

/* Where n more bytes may be put. */
static inline char *buf_reserve(struct buf *b, size_t n)
{
    if (buf_room(b) < n)
        buf_make_room(b, n);
    return b->data + b->end;
}

/* n bytes were put there. */
static inline void buf_added(struct buf *b, size_t n)
{
    assert(n <= buf_room(b));
    b->end += (uint32_t)n;
}

static inline void buf_append(struct buf *b, const void *data, size_t n)
{
    if (n) {
        memcpy(buf_reserve(b, n), data, n);
        buf_added(b, n);
    }
}

/* The first n bytes are done with. */
static inline void buf_skip(struct buf *b, size_t n)
{
    assert(n <= buf_len(b));
    b->start += (uint32_t)n;
    if (b->start == b->end)
        b->start = b->end = 0;
}

void buf_fit(struct buf *b);         /* gives back the room around its bytes */
int buf_load(struct buf *b, int fd); /* appends all of a file; 0, or -1 and errno */
void buf_free(struct buf *b);

/* Forgets what it holds and gives memory back. */
static inline void buf_release(struct buf *b)
{
    if (b->data)
        buf_free(b);
}

/* Forgets what it holds, and keeps the memory if that is no more than most. */
static inline void buf_clear(struct buf *b, size_t most)
{
    if (b->size > most)
        buf_free(b);
    b->start = b->end = 0;
}

#endif
