/*
 * A head is read line by line. memchr looks for the LF from where the last call stopped;
 * a finished line is parsed at once and never looked at again. What a line means is kept
 * as offsets and bits, and what only the whole head can tell (Host, framing, keep-alive)
 * is decided at the empty line.
 *
 * The outcome does not depend on how the input was cut. Two rules see to it: a limit cuts
 * the input, so that bytes beyond it are as if they had not come, and what is refused
 * before its line is whole is refused for its first byte or for its length alone, in
 * that order, however much of the line is at hand.
 *
 * Each rule names its section: "9112 3" is RFC 9112, section 3. Where the RFC leaves a
 * choice between repairing and refusing, this refuses: every repair is a difference
 * between two readers of the same bytes, and that is what request smuggling is made of.
 */
#include "http.h"

#include <assert.h>
#include <string.h>

enum {
    METHOD_MAX = 32,
    REQUEST_LINE_REST = METHOD_MAX + sizeof "  HTTP/1.1\r\n" - 1, /* without the target */
    PORT_MAX = 65535,
    CHUNK_DIGITS_MAX = 16,
    CHUNK_LINE_MAX = 256,        /* bytes of a chunk-size line with its extensions */
    CHUNK_EXTENSIONS_MAX = 8192, /* by which extensions may outweigh the content */
    TRAILERS_MAX = 8192,         /* bytes of the trailer section */
};

/* Classes of bytes. */
enum {
    TOKEN = 1,    /* tchar (9110 5.6.2) */
    TARGET = 2,   /* visible ASCII without "#" (9112 3.2) */
    VALUE = 4,    /* field-vchar, SP and HTAB (9110 5.5) */
    NAME = 8,     /* of a reg-name, without "%" (3986 3.2.2) */
    ADDRESS = 16, /* of an address in brackets (3986 3.2.2) */
    HEX = 32,
    DIGIT = 64,
    SPECIAL = 128, /* in a target: what may make a path something else than it looks */
    /* and the sums of them that occur */
    VISIBLE = TARGET | VALUE,
    DELIMITER = VISIBLE | NAME,
    MARK = VISIBLE | TOKEN,
    LETTER = MARK | NAME,
    HEX_LETTER = LETTER | HEX | ADDRESS,
    NUMBER = HEX_LETTER | DIGIT,
};

static const unsigned char classes[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = LETTER,
    ['"'] = VISIBLE,
    ['#'] = TOKEN | VALUE,
    ['$'] = LETTER,
    ['%'] = MARK | SPECIAL,
    ['&' ... '\''] = LETTER,
    ['(' ... ')'] = DELIMITER,
    ['*' ... '+'] = LETTER,
    [','] = DELIMITER,
    ['-'] = LETTER,
    ['.'] = LETTER | ADDRESS | SPECIAL,
    ['/'] = VISIBLE,
    ['0' ... '9'] = NUMBER,
    [':'] = VISIBLE | ADDRESS,
    [';'] = DELIMITER,
    ['<'] = VISIBLE,
    ['='] = DELIMITER,
    ['>'] = VISIBLE,
    ['?'] = VISIBLE | SPECIAL,
    ['@'] = VISIBLE,
    ['A' ... 'F'] = HEX_LETTER,
    ['G' ... 'Z'] = LETTER,
    ['[' ... ']'] = VISIBLE,
    ['^'] = MARK,
    ['_'] = LETTER,
    ['`'] = MARK,
    ['a' ... 'f'] = HEX_LETTER,
    ['g' ... 'z'] = LETTER,
    ['{'] = VISIBLE,
    ['|'] = MARK,
    ['}'] = VISIBLE,
    ['~'] = LETTER,
    [0x80 ... 0xff] = VALUE, /* obs-text */
};

/* Some bytes of the caller's. */
struct text {
    const char *at;
    size_t len;
};

static int byte_is(char c, int class)
{
    return classes[(unsigned char)c] & class;
}

static char byte_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

static int byte_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct text text_of(const char *data, struct http_span s)
{
    return (struct text){data + s.at, s.len};
}

static struct http_span text_span(struct text t, const char *data)
{
    return (struct http_span){(uint32_t)(t.at - data), (uint32_t)t.len};
}

static struct text text_skip(struct text t, size_t n)
{
    return (struct text){t.at + n, t.len - n};
}

/* How many bytes at its beginning are of the class. */
static size_t text_run(struct text t, int class)
{
    size_t n = 0;
    while (n < t.len && byte_is(t.at[n], class))
        n++;
    return n;
}

/* The same, and which other classes those bytes are of. */
static size_t text_run_others(struct text t, int class, int *others)
{
    size_t n = 0;
    for (int of; n < t.len && (of = classes[(unsigned char)t.at[n]]) & class; n++)
        *others |= of;
    return n;
}

/* Where c is, or the length. */
static size_t text_find(struct text t, char c)
{
    const char *found = t.len ? memchr(t.at, c, t.len) : NULL;
    return found ? (size_t)(found - t.at) : t.len;
}

/* lower is a literal, whose length is known only where this is inlined. */
#define LITERAL __attribute__((always_inline)) static inline

LITERAL int text_begins(struct text t, const char *lower)
{
    size_t n = strlen(lower);
    if (t.len < n)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (byte_lower(t.at[i]) != lower[i])
            return 0;
    return 1;
}

LITERAL int text_is(struct text t, const char *lower)
{
    return t.len == strlen(lower) && text_begins(t, lower);
}

static int text_is_exactly(struct text t, const char *s)
{
    return t.len == strlen(s) && memcmp(t.at, s, t.len) == 0;
}

static inline struct text text_trim(struct text t)
{
    while (t.len && byte_is_blank(t.at[0]))
        t = text_skip(t, 1);
    while (t.len && byte_is_blank(t.at[t.len - 1]))
        t.len--;
    return t;
}

/* Eight bytes at once: none below SP, none DEL. HTAB fails here and is no harm. */
static int word_is_plain(const char *at)
{
    const uint64_t ones = UINT64_MAX / 255;
    uint64_t w, del;
    memcpy(&w, at, sizeof w);
    del = w ^ ones * 0x7f;
    return !((((w - ones * ' ') & ~w) | ((del - ones) & ~del)) & ones * 0x80);
}

/* No CR, NUL or other control but HTAB in a field's value (9110 5.5). */
static int text_is_value(struct text t)
{
    size_t plain = 0;
    while (t.len - plain >= 8 && word_is_plain(t.at + plain))
        plain += 8;
    if (t.len >= 8 && t.len - plain < 8 && word_is_plain(t.at + t.len - 8))
        return 1; /* the last word overlaps the one before */
    return text_run(text_skip(t, plain), VALUE) == t.len - plain;
}

int http_is_token(const char *s, size_t len)
{
    return len > 0 && text_run((struct text){s, len}, TOKEN) == len;
}

int http_is_value(const char *s, size_t len)
{
    return text_is_value((struct text){s, len});
}

/* Decimal digits, at least one and nothing else, up to most. */
static int text_number(struct text t, uint64_t most, uint64_t *number)
{
    uint64_t n = 0, tenth = most / 10, last = most % 10;
    for (size_t i = 0; i < t.len; i++) {
        unsigned digit = (unsigned char)t.at[i] - '0';
        if (digit > 9 || n > tenth || (n == tenth && digit > last))
            return 0;
        n = n * 10 + digit;
    }
    *number = n;
    return t.len > 0;
}

/*
 * The next element of a comma-separated list (9110 5.6.1), empty ones too, since not
 * every list may have them. rest->at is NULL when none is left.
 */
static int list_next(struct text *rest, struct text *element)
{
    if (!rest->at)
        return 0;
    size_t n = text_find(*rest, ',');
    *element = text_trim((struct text){rest->at, n});
    *rest = n < rest->len ? text_skip(*rest, n + 1) : (struct text){NULL, 0};
    return 1;
}

/* uri-host, not empty (3986 3.2.2): its bytes, 0 where there is none. */
static size_t host_run(struct text t)
{
    if (t.len && t.at[0] == '[') {
        size_t inside = text_run(text_skip(t, 1), ADDRESS);
        return inside && inside + 1 < t.len && t.at[inside + 1] == ']' ? inside + 2 : 0;
    }
    size_t n = text_run(t, NAME);
    while (n < t.len && t.at[n] == '%' && n + 2 < t.len && byte_is(t.at[n + 1], HEX) &&
           byte_is(t.at[n + 2], HEX)) {
        n += 3;
        n += text_run(text_skip(t, n), NAME);
    }
    return n;
}

/* uri-host [ ":" port ]; without userinfo, which is an error (9110 4.2.4). */
static int host_is_valid(struct text t, int port_needed)
{
    uint64_t port;
    size_t host = host_run(t);
    if (host == 0)
        return 0;
    if (host == t.len)
        return !port_needed;
    if (t.at[host] != ':')
        return 0;
    t = text_skip(t, host + 1);
    if (t.len == 0)
        return !port_needed;
    return text_number(t, PORT_MAX, &port) && (port || !port_needed);
}

/* Request heads. */

enum { HEAD_START = 0, HEAD_AFTER_EMPTY_LINE, HEAD_FIELDS, HEAD_WHOLE, HEAD_REFUSED };

/* What the fields have said so far. */
enum {
    SEEN_HOST = 1,
    SEEN_LENGTH = 2,
    SEEN_CODING = 4,
    SEEN_CHUNKED = 8,
    SEEN_OTHER_CODING = 16,
    SEEN_CLOSE = 32,
    SEEN_KEEP_ALIVE = 64,
    SEEN_UPGRADE_OPTION = 128,
    SEEN_UPGRADE = 256,
};

void http_request_init(struct http_request *rq)
{
    memset(rq, 0, offsetof(struct http_request, headers));
}

static int head_refuse(struct http_request *rq, int status, const char *reason)
{
    rq->state = HEAD_REFUSED;
    rq->status = status;
    rq->reason = reason;
    return -1;
}

/* HTTP-version (9112 2.3); a major or minor that is not spoken here: 9110 15.6.6. */
static int version_parse(struct http_request *rq, struct text t)
{
    if (t.len != 8 || memcmp(t.at, "HTTP/", 5) != 0 || !byte_is(t.at[5], DIGIT) ||
        t.at[6] != '.' || !byte_is(t.at[7], DIGIT))
        return head_refuse(rq, 400, "the request line does not end in an HTTP version");
    if (t.at[5] != '1' || t.at[7] > '1')
        return head_refuse(rq, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    rq->minor = t.at[7] - '0';
    return 0;
}

static void target_split(struct http_request *rq, const char *data, struct text t)
{
    size_t path = rq->is_plain ? t.len : text_find(t, '?');
    rq->path = text_span((struct text){t.at, path}, data);
    rq->query = text_span(text_skip(t, path < t.len ? path + 1 : path), data);
}

/* authority-form, of CONNECT alone (9112 3.2.3); the port is needed (9110 9.3.6). */
static int target_authority(struct http_request *rq, struct text t)
{
    if (!host_is_valid(t, 1))
        return head_refuse(rq, 400, "the target of CONNECT is not host:port");
    rq->form = HTTP_AUTHORITY;
    rq->host = rq->target;
    return 0;
}

/* absolute-form (9112 3.2.2): its authority is the host, whatever Host says. */
static int target_absolute(struct http_request *rq, const char *data, struct text t)
{
    size_t scheme = text_begins(t, "http://") ? 7 : text_begins(t, "https://") ? 8 : 0;
    if (!scheme)
        return head_refuse(rq, 400, "the request-target is in none of the four forms");
    struct text rest = text_skip(t, scheme);
    struct text host = {rest.at, text_find(rest, '/')};
    host.len = text_find(host, '?');
    if (!host_is_valid(host, 0))
        return head_refuse(rq, 400, "the request-target's host is not valid");
    rq->form = HTTP_ABSOLUTE;
    rq->host = text_span(host, data);
    target_split(rq, data, text_skip(rest, host.len));
    return 0;
}

/* The four forms (9112 3.2). */
static int target_parse(struct http_request *rq, const char *data)
{
    struct text method = text_of(data, rq->method), target = text_of(data, rq->target);
    if (text_is_exactly(method, "CONNECT"))
        return target_authority(rq, target);
    if (target.at[0] == '/') {
        rq->form = HTTP_ORIGIN;
        target_split(rq, data, target);
        return 0;
    }
    if (!text_is_exactly(target, "*"))
        return target_absolute(rq, data, target);
    if (!text_is_exactly(method, "OPTIONS")) /* 9112 3.2.4 */
        return head_refuse(rq, 400, "only OPTIONS can have the target *");
    rq->form = HTTP_ASTERISK;
    return 0;
}

/* method SP request-target SP HTTP-version, single spaces only (9112 3). */
static int request_line_parse(struct http_request *rq, const char *data, struct text line,
                              const struct http_limits *limits)
{
    struct text method = {line.at, text_run(line, TOKEN)};
    if (method.len == 0 || method.len == line.len || line.at[method.len] != ' ')
        return head_refuse(rq, 400, "the request line has no method and space");
    if (method.len > METHOD_MAX)
        return head_refuse(rq, 501, "the method is too long");
    line = text_skip(line, method.len + 1);

    int classes_in_target = 0;
    struct text target = {line.at, text_run_others(line, TARGET, &classes_in_target)};
    if (target.len == line.len)
        return head_refuse(rq, 400, "the request line has no HTTP version (HTTP/0.9?)");
    if (target.len == 0 || line.at[target.len] != ' ')
        return head_refuse(rq, 400, "a byte that cannot be in a request-target");
    if (target.len > limits->target)
        return head_refuse(rq, 414, "the request-target is too long");

    rq->method = text_span(method, data);
    rq->target = text_span(target, data);
    rq->is_plain = !(classes_in_target & SPECIAL);
    rq->state = HEAD_FIELDS;
    if (version_parse(rq, text_skip(line, target.len + 1)) < 0)
        return -1;
    return target_parse(rq, data);
}

/* At most one, and a valid one (9112 3.2); it may be empty. */
static int field_host(struct http_request *rq, const char *data, struct text value)
{
    if (rq->seen & SEEN_HOST)
        return head_refuse(rq, 400, "more than one Host field");
    if (value.len && !host_is_valid(value, 0))
        return head_refuse(rq, 400, "the Host field is not valid");
    rq->seen |= SEEN_HOST;
    if (rq->form == HTTP_ORIGIN || rq->form == HTTP_ASTERISK)
        rq->host = text_span(value, data);
    return 0;
}

/* 1*DIGIT (9110 8.6); a list or a second field may be refused, so it is (9112 6.3). */
static int field_length(struct http_request *rq, struct text value)
{
    if (rq->seen & SEEN_LENGTH)
        return head_refuse(rq, 400, "more than one Content-Length field");
    if (!text_number(value, INT64_MAX, &rq->length))
        return head_refuse(rq, 400, "Content-Length is not a number of bytes");
    rq->seen |= SEEN_LENGTH;
    return 0;
}

/* Nothing follows chunked, not even itself (9112 6.1, 7.1). */
static int field_coding(struct http_request *rq, struct text value)
{
    struct text coding;
    rq->seen |= SEEN_CODING;
    while (list_next(&value, &coding)) {
        if (rq->seen & SEEN_CHUNKED)
            return head_refuse(rq, 400, "chunked is not the last transfer coding");
        if (coding.len == 0)
            return head_refuse(rq, 400, "Transfer-Encoding has an empty element");
        rq->seen |= text_is(coding, "chunked") ? SEEN_CHUNKED : SEEN_OTHER_CODING;
    }
    return 0;
}

/* Options (9110 7.6.1); unknown and empty ones are nobody's business. */
static int field_connection(struct http_request *rq, struct text value)
{
    struct text option;
    while (list_next(&value, &option))
        if (text_is(option, "close"))
            rq->seen |= SEEN_CLOSE;
        else if (text_is(option, "keep-alive"))
            rq->seen |= SEEN_KEEP_ALIVE;
        else if (text_is(option, "upgrade"))
            rq->seen |= SEEN_UPGRADE_OPTION;
    return 0;
}

/* From HTTP/1.0 100-continue is ignored; what else is expected fails (9110 10.1.1). */
static int field_expect(struct http_request *rq, struct text value)
{
    struct text expectation;
    while (list_next(&value, &expectation))
        if (text_is(expectation, "100-continue"))
            rq->expect_continue = rq->minor == 1;
        else if (expectation.len)
            return head_refuse(rq, 417, "only 100-continue can be expected");
    return 0;
}

/* Of the codings only "trailers" is of use here; it takes no weight (9110 10.1.4). */
static int field_te(struct http_request *rq, struct text value)
{
    struct text coding;
    while (list_next(&value, &coding))
        if (text_is(coding, "trailers"))
            rq->trailers = 1;
    return 0;
}

/* The few fields that mean something here, told apart by their lengths first. */
static int field_read(struct http_request *rq, const char *data, struct text name,
                      struct text value)
{
    switch (name.len) {
    case sizeof "te" - 1:
        return text_is(name, "te") ? field_te(rq, value) : 0;
    case sizeof "host" - 1:
        return text_is(name, "host") ? field_host(rq, data, value) : 0;
    case sizeof "expect" - 1:
        return text_is(name, "expect") ? field_expect(rq, value) : 0;
    case sizeof "upgrade" - 1:
        rq->seen |= value.len && text_is(name, "upgrade") ? SEEN_UPGRADE : 0;
        return 0;
    case sizeof "connection" - 1:
        return text_is(name, "connection") ? field_connection(rq, value) : 0;
    case sizeof "content-length" - 1:
        return text_is(name, "content-length") ? field_length(rq, value) : 0;
    case sizeof "transfer-encoding" - 1:
        return text_is(name, "transfer-encoding") ? field_coding(rq, value) : 0;
    }
    return 0;
}

/* field-name ":" OWS field-value OWS, no space before the colon (9112 5, 5.1). */
static int field_parse(struct http_request *rq, const char *data, struct text line,
                       const struct http_limits *limits)
{
    struct text name = {line.at, text_run(line, TOKEN)};
    if (name.len == 0 || name.len == line.len || line.at[name.len] != ':')
        return head_refuse(rq, 400, "a header field's name is not a token and a colon");
    struct text value = text_trim(text_skip(line, name.len + 1));
    if (!text_is_value(value))
        return head_refuse(rq, 400, "a control byte in a header field's value");
    if (rq->header_count == limits->headers) /* 6585 5 */
        return head_refuse(rq, 431, "too many header fields");
    struct http_header *h = &rq->headers[rq->header_count++];
    h->name = text_span(name, data);
    h->value = text_span(value, data);
    return field_read(rq, data, name, value);
}

/* A client of 1.0 that means to send content must say how much: 411 (1945 7.2.2). */
static int length_is_missing(const struct http_request *rq, const char *data)
{
    struct text method = text_of(data, rq->method);
    return rq->minor == 0 && !(rq->seen & SEEN_LENGTH) &&
           (text_is_exactly(method, "POST") || text_is_exactly(method, "PUT"));
}

/* What frames the body (9112 6.1, 6.3). CONNECT has none: what would be in it is of the
 * tunnel to others (9110 9.3.6). */
static int head_framing(struct http_request *rq, const char *data)
{
    rq->body = rq->seen & SEEN_LENGTH ? HTTP_LENGTH : HTTP_NO_BODY;
    if (rq->form == HTTP_AUTHORITY && (rq->length || rq->seen & SEEN_CODING))
        return head_refuse(rq, 400, "CONNECT with content");
    if (!(rq->seen & SEEN_CODING) && length_is_missing(rq, data))
        return head_refuse(rq, 411, "the content has no Content-Length");
    if (!(rq->seen & SEEN_CODING))
        return 0;
    if (rq->seen & SEEN_LENGTH)
        return head_refuse(rq, 400, "both Transfer-Encoding and Content-Length");
    if (rq->minor == 0)
        return head_refuse(rq, 400, "Transfer-Encoding in HTTP/1.0");
    if (!(rq->seen & SEEN_CHUNKED))
        return head_refuse(rq, 400, "the last transfer coding is not chunked");
    if (rq->seen & SEEN_OTHER_CODING)
        return head_refuse(rq, 501, "chunked is the only transfer coding known here");
    rq->body = HTTP_CHUNKED;
    return 0;
}

static int head_finish(struct http_request *rq, const char *data)
{
    if (rq->minor == 1 && !(rq->seen & SEEN_HOST)) /* 9112 3.2 */
        return head_refuse(rq, 400, "no Host field");
    if (head_framing(rq, data) < 0)
        return -1;
    int persist = rq->minor == 1 || (rq->seen & SEEN_KEEP_ALIVE); /* 9112 9.3 */
    rq->keep_alive = persist && !(rq->seen & SEEN_CLOSE);
    rq->upgrade = rq->minor == 1 && /* 9110 7.8 */
                  (rq->seen & SEEN_UPGRADE) && (rq->seen & SEEN_UPGRADE_OPTION);
    rq->head_len = rq->line;
    rq->state = HEAD_WHOLE;
    return 0;
}

/* What a line cannot begin with is refused before the line is whole. */
static int line_begin(struct http_request *rq, char c)
{
    if (byte_is(c, TOKEN) || c == '\r')
        return 0;
    if (c == '\n') /* 9112 2.2 */
        return head_refuse(rq, 400, "a line ends in LF without CR");
    if (rq->state == HEAD_FIELDS && byte_is_blank(c)) /* 9112 2.2, 5.2 */
        return head_refuse(rq, 400, "a header line begins with white space");
    if (rq->state == HEAD_FIELDS)
        return head_refuse(rq, 400, "a header field without a name");
    if (c == 0x16) /* a handshake record */
        return head_refuse(rq, 400, "TLS on a plain port");
    return head_refuse(rq, 400, "this is not HTTP");
}

/* Up to where the request line may go for the sake of its target alone. */
static size_t target_limit(const struct http_request *rq,
                           const struct http_limits *limits)
{
    return (size_t)rq->line + limits->target + REQUEST_LINE_REST;
}

static int line_too_long(struct http_request *rq, struct text begin,
                         const struct http_limits *limits)
{
    if (rq->state == HEAD_FIELDS || limits->head < target_limit(rq, limits)) /* 6585 5 */
        return head_refuse(rq, 431, "the request's head is too long");
    if (text_find(begin, ' ') > METHOD_MAX) /* 9112 3 */
        return head_refuse(rq, 501, "the method is too long");
    return head_refuse(rq, 414, "the request-target is too long");
}

/* Up to where the line that is read may go. */
static size_t line_limit(const struct http_request *rq, const struct http_limits *limits)
{
    size_t most = limits->head;
    if (rq->state < HEAD_FIELDS && target_limit(rq, limits) < most)
        most = target_limit(rq, limits);
    return most;
}

/* 1: *line is the next one, without its CRLF; 0: it is not yet there; -1: refused. */
static int line_next(struct http_request *rq, const char *data, size_t len,
                     const struct http_limits *limits, struct text *line)
{
    size_t most = line_limit(rq, limits);
    if (len > most)
        len = most;

    const char *begin = data + rq->line, *lf = NULL;
    if (rq->line < len && line_begin(rq, *begin) < 0)
        return -1;
    if (rq->scanned < len)
        lf = memchr(data + rq->scanned, '\n', len - rq->scanned);
    if (!lf) {
        rq->scanned = (uint32_t)len;
        *line = (struct text){begin, len - rq->line};
        return len < most ? 0 : line_too_long(rq, *line, limits);
    }
    if (lf[-1] != '\r') /* not before begin: no line begins with LF; 9112 2.2 */
        return head_refuse(rq, 400, "a line ends in LF without CR");
    *line = (struct text){begin, (size_t)(lf - 1 - begin)};
    rq->line = rq->scanned = (uint32_t)(lf + 1 - data);
    return 1;
}

static int line_parse(struct http_request *rq, const char *data, struct text line,
                      const struct http_limits *limits)
{
    if (rq->state == HEAD_FIELDS)
        return line.len ? field_parse(rq, data, line, limits) : head_finish(rq, data);
    if (line.len == 0 && rq->state == HEAD_START) { /* one is forgiven: 9112 2.2 */
        rq->state = HEAD_AFTER_EMPTY_LINE;
        return 0;
    }
    return request_line_parse(rq, data, line, limits);
}

int http_parse(struct http_request *rq, const char *data, size_t len,
               const struct http_limits *limits)
{
    assert(limits->headers <= HTTP_HEADERS_MAX);
    while (rq->state < HEAD_WHOLE) {
        struct text line;
        int got = line_next(rq, data, len, limits, &line);
        if (got <= 0)
            return got;
        if (line_parse(rq, data, line, limits) < 0)
            return -1;
    }
    return rq->state == HEAD_WHOLE ? 1 : -1;
}

const struct http_header *http_find(const struct http_request *rq, const char *data,
                                    const char *name)
{
    for (uint32_t i = 0; i < rq->header_count; i++)
        if (text_is(text_of(data, rq->headers[i].name), name))
            return &rq->headers[i];
    return NULL;
}

/* Chunked bodies: one state per byte of what is not content, so nothing is kept. */

enum {
    CHUNK_SIZE,
    CHUNK_SPACE, /* BWS before the ";" of an extension */
    EXTENSION_BEGIN,
    EXTENSION_NAME,
    EXTENSION_NAME_SPACE, /* BWS before "=" or ";" */
    EXTENSION_VALUE_BEGIN,
    EXTENSION_VALUE,
    EXTENSION_QUOTED,
    EXTENSION_QUOTED_PAIR,
    EXTENSION_QUOTED_END,
    CHUNK_SIZE_LF,
    CHUNK_CONTENT,
    CHUNK_CR,
    CHUNK_LF,
    TRAILER_BEGIN,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILER_END_LF,
    CHUNKED_OVER,
    CHUNKED_REFUSED
};

void http_chunked_init(struct http_chunked *ck)
{
    *ck = (struct http_chunked){.state = CHUNK_SIZE};
}

static int chunked_refuse(struct http_chunked *ck, int status, const char *reason)
{
    ck->state = CHUNKED_REFUSED;
    ck->status = status;
    ck->reason = reason;
    return -1;
}

static int chunked_enter(struct http_chunked *ck, int state)
{
    ck->state = state;
    return 0;
}

/* From here only this byte leads on. */
static int chunked_expect(struct http_chunked *ck, char c, char expected, int next)
{
    if (c != expected)
        return chunked_refuse(ck, 400, "a byte out of place between chunks");
    return chunked_enter(ck, next);
}

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(byte_lower(c) - 'a' + 10);
}

/* 1*HEXDIG (9112 7.1), with bounds so that no size overflows. */
static int chunk_digit(struct http_chunked *ck, char c)
{
    if (ck->line++ == CHUNK_DIGITS_MAX || ck->left > INT64_MAX >> 4)
        return chunked_refuse(ck, 400, "a chunk's size is too big");
    ck->left = ck->left << 4 | hex_value(c);
    return 0;
}

/* What may follow a size and each extension. */
static int extension_end(char c)
{
    if (c == '\r')
        return CHUNK_SIZE_LF;
    return c == ';' ? EXTENSION_BEGIN : byte_is_blank(c) ? CHUNK_SPACE : CHUNKED_REFUSED;
}

/* A token or a quoted-string (9110 5.6.4). */
static int extension_value(int state, char c)
{
    switch (state) {
    case EXTENSION_VALUE_BEGIN:
        if (c == '"')
            return EXTENSION_QUOTED;
        if (byte_is(c, TOKEN))
            return EXTENSION_VALUE;
        return byte_is_blank(c) ? state : CHUNKED_REFUSED;
    case EXTENSION_VALUE:
        return byte_is(c, TOKEN) ? state : extension_end(c);
    case EXTENSION_QUOTED:
        if (c == '"')
            return EXTENSION_QUOTED_END;
        if (c == '\\')
            return EXTENSION_QUOTED_PAIR;
        return byte_is(c, VALUE) ? state : CHUNKED_REFUSED;
    case EXTENSION_QUOTED_PAIR:
        return byte_is(c, VALUE) ? EXTENSION_QUOTED : CHUNKED_REFUSED;
    default:
        return extension_end(c);
    }
}

/* chunk-ext (9112 7.1.1): the state after c. */
static int extension_next(int state, char c)
{
    switch (state) {
    case CHUNK_SPACE:
        return c == '\r' ? CHUNKED_REFUSED : extension_end(c);
    case EXTENSION_BEGIN:
        if (byte_is(c, TOKEN))
            return EXTENSION_NAME;
        return byte_is_blank(c) ? state : CHUNKED_REFUSED;
    case EXTENSION_NAME:
        if (byte_is(c, TOKEN))
            return state;
        if (c == '=')
            return EXTENSION_VALUE_BEGIN;
        return byte_is_blank(c) ? EXTENSION_NAME_SPACE : extension_end(c);
    case EXTENSION_NAME_SPACE:
        if (c == '=')
            return EXTENSION_VALUE_BEGIN;
        if (c == ';')
            return EXTENSION_BEGIN;
        return byte_is_blank(c) ? state : CHUNKED_REFUSED;
    default:
        return extension_value(state, c);
    }
}

/* Skipped with a limit each and in all; what is no extension is not skipped. */
static int chunk_extension(struct http_chunked *ck, char c)
{
    int next = ck->state == CHUNK_SIZE ? extension_end(c) : extension_next(ck->state, c);
    if (next == CHUNKED_REFUSED)
        return chunked_refuse(ck, 400, "a chunk's size line is not as it must be");
    if (next != CHUNK_SIZE_LF &&
        (++ck->line > CHUNK_LINE_MAX || ++ck->extensions > CHUNK_EXTENSIONS_MAX))
        return chunked_refuse(ck, 400, "too much in chunk extensions");
    return chunked_enter(ck, next);
}

static int chunk_size(struct http_chunked *ck, char c)
{
    if (byte_is(c, HEX))
        return chunk_digit(ck, c);
    if (ck->line == 0)
        return chunked_refuse(ck, 400, "a chunk without a size");
    return chunk_extension(ck, c);
}

/* The size line is over; a size of 0 ends the content. */
static int chunk_begin(struct http_chunked *ck, char c)
{
    ck->extensions -= ck->left < ck->extensions ? (uint32_t)ck->left : ck->extensions;
    ck->line = 0;
    return chunked_expect(ck, c, '\n', ck->left ? CHUNK_CONTENT : TRAILER_BEGIN);
}

/* Checked as fields, as those of the head are (9112 7.1.2). */
static int trailer_byte(struct http_chunked *ck, char c)
{
    if (++ck->line > TRAILERS_MAX) /* 6585 5 */
        return chunked_refuse(ck, 431, "the trailer section is too long");
    switch (ck->state) {
    case TRAILER_BEGIN:
        if (byte_is(c, TOKEN))
            return chunked_enter(ck, TRAILER_NAME);
        return chunked_expect(ck, c, '\r', TRAILER_END_LF);
    case TRAILER_NAME:
        if (byte_is(c, TOKEN))
            return 0;
        return chunked_expect(ck, c, ':', TRAILER_VALUE);
    case TRAILER_VALUE:
        if (byte_is(c, VALUE))
            return 0;
        return chunked_expect(ck, c, '\r', TRAILER_LF);
    case TRAILER_LF:
        return chunked_expect(ck, c, '\n', TRAILER_BEGIN);
    default:
        return chunked_expect(ck, c, '\n', CHUNKED_OVER);
    }
}

static int chunked_byte(struct http_chunked *ck, char c)
{
    switch (ck->state) {
    case CHUNK_SIZE:
        return chunk_size(ck, c);
    case CHUNK_SPACE ... EXTENSION_QUOTED_END:
        return chunk_extension(ck, c);
    case CHUNK_SIZE_LF:
        return chunk_begin(ck, c);
    case CHUNK_CR:
        return chunked_expect(ck, c, '\r', CHUNK_LF);
    case CHUNK_LF:
        return chunked_expect(ck, c, '\n', CHUNK_SIZE);
    default:
        return trailer_byte(ck, c);
    }
}

static int chunked_in_trailers(const struct http_chunked *ck)
{
    return ck->state >= TRAILER_BEGIN && ck->state <= TRAILER_LF;
}

/* Fields, up to the empty line or as far as the data go; how many bytes of them. */
static uint32_t trailer_run(struct http_chunked *ck, const char *data, size_t len)
{
    uint32_t n = 0;
    while (n < len && chunked_in_trailers(ck) &&
           !(ck->state == TRAILER_BEGIN && data[n] == '\r'))
        trailer_byte(ck, data[n++]);
    return n;
}

static uint32_t chunk_content(struct http_chunked *ck, size_t at_hand)
{
    uint64_t n = ck->left < at_hand ? ck->left : at_hand;
    if (n > UINT32_MAX) /* a span holds no more; the rest is next */
        n = UINT32_MAX;
    ck->left -= n;
    if (ck->left == 0)
        ck->state = CHUNK_CR;
    return (uint32_t)n;
}

int http_chunked_next(struct http_chunked *ck, const char *data, size_t len,
                      struct http_span *body, size_t *used)
{
    size_t at = 0;
    *body = (struct http_span){0, 0};
    while (at < len && ck->state < CHUNKED_OVER) {
        if (ck->state == CHUNK_CONTENT) {
            *body = (struct http_span){(uint32_t)at, chunk_content(ck, len - at)};
            *used = at + body->len;
            return 1;
        }
        uint32_t trailers = trailer_run(ck, data + at, len - at);
        if (trailers && ck->state != CHUNKED_REFUSED) {
            *body = (struct http_span){(uint32_t)at, trailers};
            *used = at + trailers;
            return HTTP_CHUNKED_TRAILER;
        }
        at += trailers;
        if (!trailers)
            chunked_byte(ck, data[at++]);
    }
    *used = at;
    return ck->state < CHUNKED_OVER ? 0 : ck->state == CHUNKED_OVER ? 2 : -1;
}

/* 9110 15, and of 4918, 6585, 7725, 8297 and 8470 what a server of today says. */
static const char *const phrases[] = {
    [100] = "Continue",
    [101] = "Switching Protocols",
    [103] = "Early Hints",
    [200] = "OK",
    [201] = "Created",
    [202] = "Accepted",
    [203] = "Non-Authoritative Information",
    [204] = "No Content",
    [205] = "Reset Content",
    [206] = "Partial Content",
    [300] = "Multiple Choices",
    [301] = "Moved Permanently",
    [302] = "Found",
    [303] = "See Other",
    [304] = "Not Modified",
    [305] = "Use Proxy",
    [307] = "Temporary Redirect",
    [308] = "Permanent Redirect",
    [400] = "Bad Request",
    [401] = "Unauthorized",
    [402] = "Payment Required",
    [403] = "Forbidden",
    [404] = "Not Found",
    [405] = "Method Not Allowed",
    [406] = "Not Acceptable",
    [407] = "Proxy Authentication Required",
    [408] = "Request Timeout",
    [409] = "Conflict",
    [410] = "Gone",
    [411] = "Length Required",
    [412] = "Precondition Failed",
    [413] = "Content Too Large",
    [414] = "URI Too Long",
    [415] = "Unsupported Media Type",
    [416] = "Range Not Satisfiable",
    [417] = "Expectation Failed",
    [421] = "Misdirected Request",
    [422] = "Unprocessable Content",
    [425] = "Too Early",
    [426] = "Upgrade Required",
    [428] = "Precondition Required",
    [429] = "Too Many Requests",
    [431] = "Request Header Fields Too Large",
    [451] = "Unavailable For Legal Reasons",
    [500] = "Internal Server Error",
    [501] = "Not Implemented",
    [502] = "Bad Gateway",
    [503] = "Service Unavailable",
    [504] = "Gateway Timeout",
    [505] = "HTTP Version Not Supported",
    [507] = "Insufficient Storage",
    [511] = "Network Authentication Required",
};

const char *http_phrase(int status)
{
    int known = status >= 0 && (size_t)status < sizeof phrases / sizeof *phrases;
    return known && phrases[status] ? phrases[status] : "Unknown";
}
