#include "http_fields.h"

#include <string.h>
#include <strings.h>

static unsigned bit_of(const char *name, size_t len)
{
    return http_name_is(name, len, "date")           ? HTTP_DATE
           : http_name_is(name, len, "upgrade")      ? HTTP_UPGRADE
           : http_name_is(name, len, "content-type") ? HTTP_CONTENT_TYPE
                                                     : 0;
}

void http_fields_add(struct http_fields *f, const char *name, size_t name_len,
                     const char *value, size_t value_len)
{
    size_t len = name_len + 2 + value_len + 2;
    char *p = buf_reserve(&f->text, len);
    p = mempcpy(p, name, name_len);
    p = mempcpy(p, ": ", 2);
    p = mempcpy(p, value, value_len);
    memcpy(p, "\r\n", 2);
    buf_added(&f->text, len);
    f->has |= bit_of(name, name_len);
}

void http_fields_append(struct http_fields *f, const struct http_fields *more)
{
    buf_append(&f->text, buf_head(&more->text), buf_len(&more->text));
    f->has |= more->has;
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
static uint32_t line_end(const struct buf *text, uint32_t at)
{
    const char *begin = buf_head(text);
    const char *lf = memchr(begin + at, '\n', buf_len(text) - at);
    return (uint32_t)(lf + 1 - begin);
}

/* Where the field after h begins. */
static uint32_t next_line(const struct buf *text, const struct http_header *h)
{
    return h->name.len ? line_end(text, h->value.at + h->value.len) : 0;
}

/* h is the field that begins at at: 1; at may be the end: 0. */
static int set_header(const struct buf *text, struct http_header *h, uint32_t at)
{
    if (at == buf_len(text))
        return 0;
    const char *begin = buf_head(text);
    const char *colon = memchr(begin + at, ':', buf_len(text) - at);
    h->name = (struct http_span){at, (uint32_t)(colon - begin) - at};
    h->value =
        trimmed(begin, at + h->name.len + 1, line_end(text, at) - 2 /* CR and LF */);
    return 1;
}

/* Whether the field that begins at at has that name: its first colon is behind it. */
static int has_name(const struct buf *text, uint32_t at, const char *name, size_t len)
{
    const char *line = buf_head(text) + at;
    return buf_len(text) - at > len && line[len] == ':' &&
           strncasecmp(line, name, len) == 0 && !memchr(line, ':', len);
}

int http_fields_next(const struct buf *text, struct http_header *h)
{
    return set_header(text, h, next_line(text, h));
}

int http_fields_find(const struct buf *text, struct http_header *h, const char *name,
                     size_t name_len)
{
    uint32_t at = next_line(text, h);
    while (at < buf_len(text) && !has_name(text, at, name, name_len))
        at = line_end(text, at);
    return set_header(text, h, at);
}

static void remove_bytes(struct buf *b, uint32_t from, uint32_t to)
{
    memmove(buf_head(b) + from, buf_head(b) + to, buf_len(b) - to);
    b->end -= to - from;
}

void http_fields_remove(struct http_fields *f, const char *name, size_t name_len)
{
    struct buf *text = &f->text;
    for (struct http_header h = {0}; http_fields_find(text, &h, name, name_len);) {
        remove_bytes(text, h.name.at, line_end(text, h.name.at));
        h = (struct http_header){0};
    }
    f->has &= ~bit_of(name, name_len);
}
