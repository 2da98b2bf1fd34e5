/*
 * http_fields: header or trailer fields as text in a buf, "Name: value\r\n" each, in
 * their order. Names compare without regard to case (RFC 9110 5.1).
 */
#ifndef MOONPOOL_HTTP_FIELDS_H
#define MOONPOOL_HTTP_FIELDS_H

#include "buf.h"
#include "http.h"

void http_fields_add(struct buf *fields, const char *name, size_t name_len,
                     const char *value, size_t value_len);
void http_fields_remove(struct buf *fields, const char *name, size_t name_len);

/*
 * Goes on to the next field: 1, or 0 after the last. h, zeroed, is before the first; its
 * spans are of buf_head(fields), the value's without the white space around it.
 */
int http_fields_next(const struct buf *fields, struct http_header *h);
/* The same, to the next one of that name. */
int http_fields_find(const struct buf *fields, struct http_header *h, const char *name,
                     size_t name_len);
/* Which of these names, in lower case and ended by NULL, there are: bit i for names[i]. */
unsigned http_fields_which(const struct buf *fields, const char *const *names);

#endif
