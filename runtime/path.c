#include "path.h"

#include <string.h>

size_t path_decode(const char *path, size_t len, char *out)
{
    const char *end = path + len;
    size_t n = 0;
    while (path < end)
        out[n++] = (char)path_byte(&path, end);
    return n;
}

/* How many dots a segment is: 1 or 2, plain or encoded; 0 for any other. */
static int segment_dots(const char *s, size_t len)
{
    const char *end = s + len;
    int dots = 0;
    while (s < end && dots < 3)
        if (path_byte(&s, end) == '.')
            dots++;
        else
            return 0;
    return dots < 3 ? dots : 0;
}

/* Where the last segment of what has been kept begins, with its "/". */
static size_t last_segment(const struct buf *kept)
{
    const char *slash = memrchr(buf_head(kept), '/', buf_len(kept));
    return (size_t)(slash - buf_head(kept));
}

static const char *segment_end(const char *s, const char *end)
{
    const char *slash = memchr(s, '/', (size_t)(end - s));
    return slash ? slash : end;
}

/* Segment by segment; dots at the end leave the "/" that they stand for. */
static int remove_dots(const char *path, const char *end, struct buf *kept)
{
    while (path < end) {
        const char *stop = segment_end(path + 1, end);
        int dots = segment_dots(path + 1, (size_t)(stop - path - 1));
        if (dots == 2 && !buf_len(kept))
            return -1;
        if (dots == 2)
            kept->end = kept->start + (uint32_t)last_segment(kept);
        if (dots == 0)
            buf_append(kept, path, (size_t)(stop - path));
        if (dots && stop == end)
            buf_append(kept, "/", 1);
        path = stop;
    }
    return 0;
}

/* What only an encoded "/" can hide from remove_dots, and what C would cut a name at. */
static int is_devious(const char *path, size_t len)
{
    const char *end = path + len;
    int dots = 0; /* in this segment, which has been nothing else; -1: it has */
    while (path < end) {
        unsigned char c = path_byte(&path, end);
        if (c == '\0' || (c == '/' && dots > 0 && dots < 3))
            return 1;
        dots = c == '/' ? 0 : c == '.' && dots >= 0 ? dots + 1 : -1;
    }
    return dots == 1 || dots == 2;
}

/* Nearly all paths: nothing encoded, and no dot behind a "/". */
static int is_plain(const char *path, size_t len)
{
    if (memchr(path, '%', len))
        return 0;
    return !memmem(path, len, "/.", 2);
}

int path_clean(const char *path, size_t len, struct buf *clean, const char **why)
{
    if (is_plain(path, len))
        return 0;
    *why = "the path leaves the root";
    if (remove_dots(path, path + len, clean) < 0)
        return -1;
    *why = "the path hides what it names";
    if (is_devious(buf_head(clean), buf_len(clean)))
        return -1;
    return buf_len(clean) != len; /* it only ever becomes shorter */
}
