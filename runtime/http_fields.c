#include "http_fields.h"

#include <string.h>
#include <strings.h>

void http_fields_add(struct buf *fields, const char *name, size_t name_len,
                     const char *value, size_t value_len)
{
    size_t len = name_len + 2 + value_len + 2;
    char *p = buf_reserve(fields, len);
    p = mempcpy(p, name, name_len);
    p = mempcpy(p, ": ", 2);
    p = mempcpy(p, value, value_len);
    memcpy(p, "\r\n", 2);
    buf_added(fields, len);
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct http_span trimmed(const char *text, uint32_t from, uint32_t to)
{
    while (from < to && is_blank(text[from]))
        from++;
    while (to > from && is_blank(text[to - 1]))
        to--;
    return (struct http_span){from, to - from};
}

/* Where the line that at is in ends: behind its LF. */
static uint32_t line_end(const struct buf *fields, uint32_t at)
{
    const char *text = buf_head(fields);
    const char *lf = memchr(text + at, '\n', buf_len(fields) - at);
    return (uint32_t)(lf + 1 - text);
}

/* Where the field after h begins. */
static uint32_t next_line(const struct buf *fields, const struct http_header *h)
{
    return h->name.len ? line_end(fields, h->value.at + h->value.len) : 0;
}

/* h is the field that begins at at: 1; at may be the end: 0. */
static int set_header(const struct buf *fields, struct http_header *h, uint32_t at)
{
    if (at == buf_len(fields))
        return 0;
    const char *text = buf_head(fields);
    const char *colon = memchr(text + at, ':', buf_len(fields) - at);
    h->name = (struct http_span){at, (uint32_t)(colon - text) - at};
    h->value =
        trimmed(text, at + h->name.len + 1, line_end(fields, at) - 2 /* CR and LF */);
    return 1;
}

/* Whether the field that begins at at has that name: its first colon is behind it. */
static int has_name(const struct buf *fields, uint32_t at, const char *name, size_t len)
{
    const char *line = buf_head(fields) + at;
    return buf_len(fields) - at > len && line[len] == ':' &&
           strncasecmp(line, name, len) == 0 && !memchr(line, ':', len);
}

int http_fields_next(const struct buf *fields, struct http_header *h)
{
    return set_header(fields, h, next_line(fields, h));
}

int http_fields_find(const struct buf *fields, struct http_header *h, const char *name,
                     size_t name_len)
{
    uint32_t at = next_line(fields, h);
    while (at < buf_len(fields) && !has_name(fields, at, name, name_len))
        at = line_end(fields, at);
    return set_header(fields, h, at);
}

/* The field at that place. The first letter says no at once to nearly all. */
static int is_named(const struct buf *fields, uint32_t at, const char *name)
{
    return (buf_head(fields)[at] | 0x20) == *name &&
           has_name(fields, at, name, strlen(name));
}

unsigned http_fields_which(const struct buf *fields, const char *const *names)
{
    unsigned found = 0;
    for (uint32_t at = 0; at < buf_len(fields); at = line_end(fields, at))
        for (int i = 0; names[i]; i++)
            found |= (unsigned)is_named(fields, at, names[i]) << i;
    return found;
}

static void remove_bytes(struct buf *b, uint32_t from, uint32_t to)
{
    memmove(buf_head(b) + from, buf_head(b) + to, buf_len(b) - to);
    b->end -= to - from;
}

void http_fields_remove(struct buf *fields, const char *name, size_t name_len)
{
    for (struct http_header h = {0}; http_fields_find(fields, &h, name, name_len);) {
        remove_bytes(fields, h.name.at, line_end(fields, h.name.at));
        h = (struct http_header){0};
    }
}
