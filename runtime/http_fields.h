/*
 * http_fields: header or trailer fields as text, "Name: value\r\n" each, in their order.
 * Names compare without regard to case (RFC 9110 5.1).
 */
#ifndef MOONPOOL_HTTP_FIELDS_H
#define MOONPOOL_HTTP_FIELDS_H

#include "buf.h"
#include "http.h"

/* Those on which it depends what else is in a response's head. */
enum { HTTP_DATE = 1, HTTP_UPGRADE = 2, HTTP_CONTENT_TYPE = 4 };

struct http_fields { /* zeroed: none */
    struct buf text;
    unsigned has; /* which of those above */
};

void http_fields_add(struct http_fields *f, const char *name, size_t name_len,
                     const char *value, size_t value_len);
void http_fields_append(struct http_fields *f, const struct http_fields *more);
void http_fields_remove(struct http_fields *f, const char *name, size_t name_len);

/*
 * Goes on to the next field in text: 1, or 0 after the last. h, zeroed, is before the
 * first; its spans are of buf_head(text), the value's without the white space around it.
 */
int http_fields_next(const struct buf *text, struct http_header *h);
/* The same, to the next one of that name. */
int http_fields_find(const struct buf *text, struct http_header *h, const char *name,
                     size_t name_len);

#endif
