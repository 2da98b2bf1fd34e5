#include "buf.h"

#include "alloc.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUF_MIN = 512 };

static void buf_slide(struct buf *b)
{
    size_t len = buf_len(b);
    memmove(b->data, buf_head(b), len);
    b->start = 0;
    b->end = (uint32_t)len;
}

static void buf_grow(struct buf *b, size_t need)
{
    size_t size = b->size ? b->size : BUF_MIN;
    while (size < need)
        size *= 2;
    assert(size <= UINT32_MAX);
    b->data = alloc_array(b->data, size, 1);
    b->size = (uint32_t)size;
}

/* Sliding less than twice what has left since the last time costs each byte little. */
void buf_make_room(struct buf *b, size_t n)
{
    if (b->start && b->start * 2 >= buf_len(b))
        buf_slide(b);
    if (buf_room(b) < n)
        buf_grow(b, b->end + n);
}

/* Into another block: what is left of this one as a whole is of more use to others. */
void buf_fit(struct buf *b)
{
    struct buf fit = {.size = (uint32_t)buf_len(b)};
    if (!fit.size || fit.size == b->size)
        return;
    fit.data = alloc(fit.size);
    buf_append(&fit, buf_head(b), buf_len(b));
    buf_free(b);
    *b = fit;
}

int buf_load(struct buf *b, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -1;
    for (off_t at = 0; at < st.st_size;) {
        size_t left = (size_t)(st.st_size - at);
        ssize_t n = pread(fd, buf_reserve(b, left), left, at);
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return -1;
        buf_added(b, (size_t)n);
        at += n;
    }
    return 0;
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){0};
}
