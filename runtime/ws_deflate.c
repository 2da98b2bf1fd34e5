#include "ws_deflate.h"

#include "alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    WINDOW_BITS = -15,
    MEMORY_LEVEL = 8,
    PIECE = 16384
}; /* negative: no zlib header */

/* What a flush ends with; it is left out on the way (RFC 7692 7.2.1). */
static const char tail[] = {0, 0, (char)0xff, (char)0xff};

struct ws_deflate {
    z_stream in, out;
};

struct ws_deflate *ws_deflate_new(void)
{
    struct ws_deflate *d = alloc_zero(sizeof *d);
    if (inflateInit2(&d->in, WINDOW_BITS) != Z_OK ||
        deflateInit2(&d->out, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS,
                     MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        alloc_failed();
    return d;
}

void ws_deflate_free(struct ws_deflate *d)
{
    if (!d)
        return;
    inflateEnd(&d->in);
    deflateEnd(&d->out);
    free(d);
}

static void buf_empty(struct buf *b)
{
    buf_skip(b, buf_len(b));
}

static void set_input(z_stream *z, const char *data, size_t len)
{
    z->next_in = (Bytef *)data;
    z->avail_in = (uInt)len;
}

static void set_output(z_stream *z, struct buf *out, size_t n)
{
    z->next_out = (Bytef *)buf_reserve(out, n);
    z->avail_out = (uInt)n;
}

void ws_deflate_pack(struct ws_deflate *d, const char *data, size_t len, struct buf *out)
{
    buf_empty(out);
    deflateReset(&d->out);
    set_input(&d->out, data, len);
    do {
        set_output(&d->out, out, PIECE);
        deflate(&d->out, Z_SYNC_FLUSH);
        buf_added(out, PIECE - d->out.avail_out);
    } while (d->out.avail_out == 0);
    if (buf_len(out) >= sizeof tail)
        out->end -= (uint32_t)sizeof tail;
}

/* Goes on until all input is used: 0, or -1 and errno. */
static int unpack_all(z_stream *z, const char *data, size_t len, size_t limit,
                      struct buf *out)
{
    set_input(z, data, len);
    do {
        set_output(z, out, PIECE);
        int how = inflate(z, Z_SYNC_FLUSH);
        buf_added(out, PIECE - z->avail_out);
        errno = buf_len(out) > limit ? EMSGSIZE : EBADMSG;
        if (how == Z_STREAM_END) /* a last block need not be the last: 7692 7.2.3.4 */
            how = inflateReset(z);
        if (buf_len(out) > limit || (how != Z_OK && how != Z_BUF_ERROR))
            return -1;
    } while (z->avail_in || z->avail_out == 0);
    return 0;
}

int ws_deflate_unpack(struct ws_deflate *d, const char *data, size_t len, size_t limit,
                      struct buf *out)
{
    buf_empty(out);
    inflateReset(&d->in);
    return unpack_all(&d->in, data, len, limit, out) < 0 ||
                   unpack_all(&d->in, tail, sizeof tail, limit, out) < 0
               ? -1
               : 0;
}
