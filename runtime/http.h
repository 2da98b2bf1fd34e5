/*
 * http: reads HTTP/1.1 requests (RFC 9112), strictly, with no Lua, no descriptor and no
 * allocation. The bytes stay the caller's; what was found are offsets into them.
 *
 * A request begins at data[0]. http_parse is called again with the same beginning and
 * more bytes until it returns 1; it never looks twice at a line that it has finished, so
 * it may be fed byte by byte.
 */
#ifndef MOONPOOL_HTTP_H
#define MOONPOOL_HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum { HTTP_HEADERS_MAX = 100 };

struct http_span {
    uint32_t at, len;
};

struct http_header {
    struct http_span name, value; /* value without the white space around it */
};

struct http_limits {
    uint32_t head;    /* bytes of request line and header fields together */
    uint32_t target;  /* bytes of the request-target */
    uint32_t headers; /* number of fields, at most HTTP_HEADERS_MAX */
};

enum http_form { HTTP_ORIGIN, HTTP_ABSOLUTE, HTTP_AUTHORITY, HTTP_ASTERISK };
enum http_body { HTTP_NO_BODY, HTTP_LENGTH, HTTP_CHUNKED };

struct http_request {
    /* valid once http_parse has returned 1 */
    struct http_span method, target;
    struct http_span path;  /* of the target, still encoded; empty where it has none */
    struct http_span query; /* of the target, still encoded, without "?" */
    struct http_span host;  /* with its port: the target's, or else Host's value */
    enum http_form form;
    int is_plain;        /* in the target there is no "%", "." or "?" */
    int minor;           /* HTTP/1.minor: 0 or 1 */
    int keep_alive;      /* RFC 9112 9.3: what the client's side says */
    int expect_continue; /* RFC 9110 10.1.1 */
    int upgrade;         /* Connection names "upgrade" and there is an Upgrade field */
    int trailers;        /* TE says that the client keeps them (9110 10.1.4) */
    enum http_body body;
    uint64_t length;   /* of the body where body is HTTP_LENGTH */
    uint32_t head_len; /* bytes of the head: where the body begins */
    uint32_t header_count;
    /* valid once http_parse has returned -1 */
    int status;         /* the answer: 400, 411, 414, 417, 431, 501, 505 */
    const char *reason; /* a sentence for a person: what is wrong */
    /* private: where the parser stands, and which fields it has seen */
    uint32_t line, scanned, seen;
    int state;
    /* header_count of them; last, because what is before is zeroed for each request */
    struct http_header headers[HTTP_HEADERS_MAX];
};

void http_request_init(struct http_request *rq);

/*
 * 1: the head is whole; 0: more bytes are needed; -1: refused, see status and reason.
 * It never answers 0 to limits->head bytes: a buffer of that size is always enough.
 */
int http_parse(struct http_request *rq, const char *data, size_t len,
               const struct http_limits *limits);

/* The first field of that name (any case), or NULL. name is lower case. */
const struct http_header *http_find(const struct http_request *rq, const char *data,
                                    const char *name);

/* Whether a field's name is the other, in any case (RFC 9110 5.1). */
static inline int http_name_is(const char *name, size_t len, const char *other)
{
    return len == strlen(other) && strncasecmp(name, other, len) == 0;
}

/* Whether that can be a field's name (RFC 9110 5.6.2), or its value (5.5) with the white
 * space around it. */
int http_is_token(const char *s, size_t len);
int http_is_value(const char *s, size_t len);

/*
 * Chunked bodies (RFC 9112 7.1). http_chunked_next looks at the data after the head and
 * says in *used how many bytes it is done with and in *body where content lies in them:
 * 1: *body is content (maybe more follows), 2: the body and its trailer section are over,
 * 0: more bytes are needed, -1: refused, see status and reason, HTTP_CHUNKED_TRAILER:
 * *body is some of the trailer section, which is in all "Name:value\r\n" for each field.
 * Whatever it answers, the next call begins after the *used bytes.
 */
enum { HTTP_CHUNKED_TRAILER = 3 };

struct http_chunked {
    uint64_t left; /* bytes of the chunk still to come */
    int status;
    const char *reason;
    /* private, all for the limits: bytes of the size line or trailer section being read,
       and bytes of extensions not yet outweighed by content */
    uint32_t line, extensions;
    int state;
};

void http_chunked_init(struct http_chunked *ck);
int http_chunked_next(struct http_chunked *ck, const char *data, size_t len,
                      struct http_span *body, size_t *used);

/* The standard phrase for a status code, or "Unknown" (RFC 9110 15). */
const char *http_phrase(int status);

#endif
