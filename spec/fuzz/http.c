/*
 * A libFuzzer target: runtime/http.c as the reader of all that one connection brings.
 *
 * An input is those bytes. They are read several times: whole, byte by byte and in pieces
 * that a hash of them decides, under the usual limits and under small ones. What is read
 * must be the same however the bytes are cut, and within its bounds; the sanitizers see
 * to it that no byte is looked at before it has come.
 *
 * What was read goes to standard output, for another reader to compare with (llhttp.js).
 * A frame is two numbers of 32 bits, the sizes of the input and of the account of it,
 * then these two. An account has a line for each event:
 *
 *     POST /a 1.1
 *     Host: b
 *     =content 68656c6c6f  in hexadecimal; the trailers after it are as fields
 *     =some 6865           of content whose end was not seen
 *     =end 57 open         bytes of the input up to here, and what may follow: another
 *                          request, or nothing (closed), or another protocol (upgrade)
 *     =more
 *     =refused 400 a reason
 *
 * The last three, but for open, are the end of it.
 */
#include "http.h"
#include "buf.h"

#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char goes_on[] = "open";

enum { FRAMES_MAX = 65536 }; /* bytes of them that are kept */

enum reader_state { AT_HEAD, AT_LENGTH, AT_CHUNKS, OVER };

struct reader {
    const struct http_limits *limits;
    enum reader_state state;
    size_t at; /* where the request begins, or what has not been read of its content */
    struct http_request rq;
    struct http_chunked chunked;
    uint64_t left;
    const char *fate; /* of the connection after the request */
    struct buf content, trailers, account;
};

static void must(int truth, const char *what)
{
    if (truth)
        return;
    fprintf(stderr, "fuzz: broken: %s\n", what);
    abort();
}

/* -- the account --------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static void say(struct reader *r, const char *form,
                                                      ...)
{
    char text[256];
    va_list args;
    va_start(args, form);
    buf_append(&r->account, text, (size_t)vsnprintf(text, sizeof text, form, args));
    va_end(args);
}

static void say_span(struct reader *r, const char *data, struct http_span s, char end)
{
    buf_append(&r->account, data + s.at, s.len);
    buf_append(&r->account, &end, 1);
}

static void say_head(struct reader *r, const char *data)
{
    const struct http_request *rq = &r->rq;
    say_span(r, data, rq->method, ' ');
    say_span(r, data, rq->target, ' ');
    say(r, "1.%d\n", rq->minor);
    for (uint32_t i = 0; i < rq->header_count; i++) {
        say_span(r, data, rq->headers[i].name, ':');
        say(r, " ");
        say_span(r, data, rq->headers[i].value, '\n');
    }
}

static void say_content(struct reader *r, const char *what)
{
    size_t len = buf_len(&r->content);
    if (!len)
        return;
    const char *from = buf_head(&r->content);
    say(r, "=%s ", what);
    char *to = buf_reserve(&r->account, len * 2);
    for (size_t i = 0; i < len; i++) {
        to[2 * i] = "0123456789abcdef"[(unsigned char)from[i] >> 4];
        to[2 * i + 1] = "0123456789abcdef"[from[i] & 15];
    }
    buf_added(&r->account, len * 2);
    say(r, "\n");
    buf_release(&r->content);
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Whole lines of "Name:value\r\n", as fields without the white space around the value. */
static void say_trailers(struct reader *r)
{
    if (!buf_len(&r->trailers))
        return;
    const char *at = buf_head(&r->trailers), *end = at + buf_len(&r->trailers), *lf;
    while (at < end && (lf = memchr(at, '\n', (size_t)(end - at)))) {
        const char *colon = memchr(at, ':', (size_t)(lf - at)), *last = lf - 1;
        must(colon && *last == '\r', "a trailer is not a field");
        buf_append(&r->account, at, (size_t)(colon - at));
        say(r, ": ");
        for (at = colon + 1; at < last && is_blank(*at);)
            at++;
        while (last > at && is_blank(last[-1]))
            last--;
        buf_append(&r->account, at, (size_t)(last - at));
        say(r, "\n");
        at = lf + 1;
    }
    buf_release(&r->trailers);
}

/* -- reading: each step returns whether there is more to do with what is at hand -------
 */

static int reader_stop(struct reader *r)
{
    r->state = OVER;
    return 0;
}

static int reader_refuse(struct reader *r, int status, const char *reason)
{
    must(status >= 400 && status < 600 && reason && *reason, "a refusal says nothing");
    say_content(r, "some");
    buf_release(&r->trailers);
    say(r, "=refused %d %s\n", status, reason);
    return reader_stop(r);
}

static int reader_end_request(struct reader *r)
{
    say_content(r, "content");
    say_trailers(r);
    say(r, "=end %zu %s\n", r->at, r->fate);
    http_request_init(&r->rq);
    r->state = AT_HEAD;
    return r->fate == goes_on || reader_stop(r);
}

static void check_within(struct http_span part, uint32_t begin, uint32_t end)
{
    if (part.len)
        must(part.at >= begin && part.at + part.len <= end && part.at < end,
             "a span lies outside of what it is of");
}

static void check_head(const struct http_request *rq, const struct http_limits *limits,
                       size_t len)
{
    uint32_t head = rq->head_len, target_end = rq->target.at + rq->target.len;
    must(head <= len, "a head ends where no byte has come");
    must(head <= limits->head, "a head is longer than allowed");
    must(rq->header_count <= limits->headers, "more fields than allowed");
    must(rq->target.len <= limits->target, "a target is longer than allowed");
    must(rq->method.len && rq->target.len, "a request without method or target");
    check_within(rq->method, 0, rq->target.at);
    check_within(rq->target, rq->method.len, head);
    check_within(rq->path, rq->target.at, target_end);
    check_within(rq->query, rq->target.at, target_end);
    check_within(rq->host, rq->target.at, head);
    for (uint32_t i = 0; i < rq->header_count; i++) {
        check_within(rq->headers[i].name, target_end, rq->headers[i].value.at);
        check_within(rq->headers[i].value, rq->headers[i].name.at, head);
    }
}

static const char *fate_after(const struct http_request *rq)
{
    if (rq->upgrade || rq->form == HTTP_AUTHORITY)
        return "upgrade";
    return rq->keep_alive ? goes_on : "closed";
}

static int read_head(struct reader *r, const char *data, size_t end)
{
    struct http_request *rq = &r->rq;
    size_t len = end - r->at;
    data += r->at;
    int got = http_parse(rq, data, len, r->limits);
    if (got == 0) {
        must(len < r->limits->head, "more is wanted than a head may have");
        return 0;
    }
    must(http_parse(rq, data, len, r->limits) == got,
         "asked again, it answers otherwise");
    if (got < 0)
        return reader_refuse(r, rq->status, rq->reason);
    check_head(rq, r->limits, len);
    say_head(r, data);
    r->at += rq->head_len;
    r->left = rq->body == HTTP_LENGTH ? rq->length : 0;
    r->fate = fate_after(rq);
    http_chunked_init(&r->chunked);
    r->state = rq->body == HTTP_CHUNKED ? AT_CHUNKS : AT_LENGTH;
    return 1;
}

static int read_length(struct reader *r, const char *data, size_t end)
{
    size_t n = r->left < end - r->at ? (size_t)r->left : end - r->at;
    buf_append(&r->content, data + r->at, n);
    r->at += n;
    r->left -= n;
    return r->left ? 0 : reader_end_request(r);
}

static int read_chunks(struct reader *r, const char *data, size_t end)
{
    struct http_span some;
    size_t len = end - r->at, used;
    data += r->at;
    int got = http_chunked_next(&r->chunked, data, len, &some, &used);
    must(used <= len && (uint64_t)some.at + some.len <= used,
         "what has not come is used");
    r->at += used;
    if (got < 0)
        return reader_refuse(r, r->chunked.status, r->chunked.reason);
    if (got == 2)
        return reader_end_request(r);
    must(got ? some.len > 0 : used == len,
         "bytes are left and nothing is done with them");
    buf_append(got == 1 ? &r->content : &r->trailers, data + some.at, some.len);
    return got != 0;
}

/* Reads on, now that the first end bytes are there. */
static void reader_go_on(struct reader *r, const char *data, size_t end)
{
    int more = 1;
    while (more)
        switch (r->state) {
        case AT_HEAD:
            more = read_head(r, data, end);
            break;
        case AT_LENGTH:
            more = read_length(r, data, end);
            break;
        case AT_CHUNKS:
            more = read_chunks(r, data, end);
            break;
        case OVER:
            return;
        }
}

static void reader_finish(struct reader *r)
{
    if (r->state == OVER)
        return;
    say_content(r, "some");
    buf_release(&r->trailers); /* nothing is said of them before they are all there */
    say(r, "=more\n");
}

/* -- cutting ------------------------------------------------------------------------- */

enum cut { WHOLE, EACH_BYTE, SOMEWHERE };

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static size_t cut_next(enum cut cut, uint64_t *random, size_t at, size_t size)
{
    if (cut == WHOLE)
        return size;
    if (cut == EACH_BYTE)
        return at + 1;
    return at + 1 + random_next(random) % (size - at);
}

/* The account of size bytes that come piece by piece: what has not come is poison. */
static struct buf read_cut(const char *data, size_t size,
                           const struct http_limits *limits, enum cut cut,
                           uint64_t random)
{
    struct reader r = {.limits = limits};
    http_request_init(&r.rq);
    ASAN_POISON_MEMORY_REGION(data, size);
    for (size_t end = 0; end < size && r.state != OVER;) {
        end = cut_next(cut, &random, end, size);
        ASAN_UNPOISON_MEMORY_REGION(data, end);
        reader_go_on(&r, data, end);
    }
    ASAN_UNPOISON_MEMORY_REGION(data, size);
    reader_finish(&r);
    return r.account;
}

static void must_equal(const struct buf *a, const struct buf *b)
{
    if (buf_len(a) == buf_len(b) && memcmp(buf_head(a), buf_head(b), buf_len(a)) == 0)
        return;
    fprintf(stderr, "fuzz: broken: cut otherwise, it is read otherwise\n%.*s--\n%.*s",
            (int)buf_len(a), buf_head(a), (int)buf_len(b), buf_head(b));
    abort();
}

/* The account of the whole, which is that of any pieces. */
static struct buf read_every_way(const char *data, size_t size,
                                 const struct http_limits *limits, uint64_t random)
{
    static const enum cut cuts[] = {EACH_BYTE, SOMEWHERE, SOMEWHERE};
    struct buf whole = read_cut(data, size, limits, WHOLE, 0);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct buf other = read_cut(data, size, limits, cuts[i], random_next(&random));
        must_equal(&whole, &other);
        buf_release(&other);
    }
    return whole;
}

static uint64_t hash(const uint8_t *bytes, size_t size) /* FNV-1a */
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * 0x100000001b3;
    return h;
}

/* -- frames -------------------------------------------------------------------------- */

static struct buf frames; /* not yet written */

static void write_frames(void)
{
    while (buf_len(&frames)) {
        ssize_t n = write(STDOUT_FILENO, buf_head(&frames), buf_len(&frames));
        must(n > 0 || errno == EINTR, "nobody reads the accounts"); /* EINTR: alarms */
        buf_skip(&frames, n > 0 ? (size_t)n : 0);
    }
}

static void put_frame(const char *data, size_t size, const struct buf *account)
{
    uint32_t sizes[] = {(uint32_t)size, (uint32_t)buf_len(account)};
    buf_append(&frames, sizes, sizeof sizes);
    buf_append(&frames, data, size);
    buf_append(&frames, buf_head(account), sizes[1]);
    if (buf_len(&frames) >= FRAMES_MAX)
        write_frames();
}

static void put_last_frame(void)
{
    uint32_t sizes[] = {0, 0};
    buf_append(&frames, sizes, sizeof sizes);
    write_frames();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return atexit(put_last_frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct http_limits usual = {16384, 8192, HTTP_HEADERS_MAX};
    uint64_t random = hash(bytes, size);
    struct http_limits small = {.head = 1 + (uint32_t)(random_next(&random) % (size + 8)),
                                .target = 1 + (uint32_t)(random_next(&random) % 32),
                                .headers = (uint32_t)(random_next(&random) % 8)};
    if (!size) /* for which libFuzzer has no address */
        return 0;
    char *data = malloc(size); /* exactly */
    memcpy(data, bytes, size);
    struct buf account = read_every_way(data, size, &usual, random_next(&random));
    put_frame(data, size, &account);
    buf_release(&account);
    account = read_every_way(data, size, &small, random_next(&random));
    buf_release(&account);
    free(data);
    return 0;
}
