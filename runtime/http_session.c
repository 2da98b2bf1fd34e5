/*
 * A session is FRESH until the first byte of a request, READING its head, then RUNNING,
 * and perhaps SKIPPING the content that nobody has read, to be FRESH again. If nothing
 * more is there then, the conn waits for the next request in its site's queue of those
 * that are idle, and the session serves another: most conns have none.
 *
 * The head of a request without content stays at the front of the conn's input until the
 * request is over, so its fields are found there without a copy. If there is content, the
 * head is copied away, and the input is the content's.
 */
#include "http_session.h"

#include "alloc.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SKIP_MAX = 65536, /* bytes of content that are skipped, to keep the conn */
    SPARE_MAX = 64,   /* sessions that are kept for the next request */
    AT_ONCE = 32,     /* steps with a client until others have their turn */
};

enum session_state { FRESH, READING, RUNNING, SKIPPING };
enum wait { FOR_NOTHING, FOR_INPUT, FOR_ROOM };
enum framing { NO_CONTENT, BY_LENGTH, IN_CHUNKS, UNTIL_CLOSE, OVER }; /* of the answer */

struct http_session {
    struct http_service *service;
    struct http_site *site;
    struct conn *conn; /* NULL while it is spare */
    void *exchange;    /* the site's */
    enum session_state state;
    enum wait waits; /* as asked for with want_*, within the idle time */
    struct buf head; /* a copy of it, or empty */
    int steps;       /* session_step is at it */
    struct loop_job job;
    struct timer timer;
    double deadline; /* of the state; the timer may be set to an earlier time */
    struct http_session *next, **prev;

    /* of the request */
    double began;      /* its first byte came */
    uint64_t limit;    /* of its content */
    uint64_t left;     /* content that has not been read, by length; or of this chunk */
    uint64_t total;    /* content so far */
    double wait_began; /* for content */
    double waited;     /* seconds, before that */
    struct http_chunked chunked;
    struct buf trailers;
    int chunks_over, body_error, body_failed;

    /* of the answer */
    int begun, status, close;
    enum framing framing;
    uint64_t unsent; /* by length */
    uint64_t sent;
    size_t untaken; /* while it waits for room */

    struct http_request request; /* last: it is set anew by itself */
};

static void session_step(struct http_session *s);
static void site_keep(struct http_site *site, struct conn *c);

/* -- time ---------------------------------------------------------------------------- */

static void session_set_deadline(struct http_session *s, double from, double seconds)
{
    struct clock *clock = &s->service->loop->clock;
    s->deadline = from + seconds;
    if (!s->timer.place || s->timer.at > s->deadline)
        timer_start(clock, &s->timer, s->deadline);
}

static const char *service_date(struct http_service *v)
{
    time_t now = time(NULL);
    if (now != v->date_at) {
        struct tm utc;
        gmtime_r(&now, &utc);
        strftime(v->date, sizeof v->date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
        v->date_at = now;
        v->line_status = 0;
    }
    return v->date;
}

/* -- beginning and end --------------------------------------------------------------- */

static void session_link(struct http_session *s)
{
    s->next = s->service->first;
    s->prev = &s->service->first;
    if (s->next)
        s->next->prev = &s->next;
    s->service->first = s;
}

static void session_unlink(struct http_session *s)
{
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

static struct http_session *session_take(struct http_service *v)
{
    struct http_session *s = v->spare;
    if (!s)
        return alloc(sizeof *s);
    v->spare = s->next;
    v->spare_count--;
    return s;
}

/* Whoever is still at it, as its job may be, finds that it has no conn. */
static void session_give(struct http_session *s)
{
    struct http_service *v = s->service;
    timer_stop(&v->loop->clock, &s->timer);
    session_unlink(s);
    buf_release(&s->head);
    buf_release(&s->trailers);
    s->conn = NULL;
    if (v->spare_count == SPARE_MAX || s->job.queued) {
        loop_free_later(v->loop, s);
        return;
    }
    s->next = v->spare;
    v->spare = s;
    v->spare_count++;
}

static void site_leave(struct http_site *site)
{
    site->service->callbacks->on_leave(site->arg);
}

/* The conn is not the session's any more, nor the site's. */
static void session_leave(struct http_session *s)
{
    struct http_site *site = s->site;
    session_give(s);
    site_leave(site);
}

static void session_end(struct http_session *s)
{
    conn_close(s->conn);
    session_leave(s);
}

static void session_job(void *arg)
{
    struct http_session *s = arg;
    if (s->conn)
        session_step(s);
}

/* -- answers ------------------------------------------------------------------------- */

static int method_is(const struct http_session *s, const char *method)
{
    struct http_span m = s->request.method;
    return m.len == strlen(method) &&
           memcmp(http_session_text(s) + m.at, method, m.len) == 0;
}

static int is_head(const struct http_session *s)
{
    return s->state == RUNNING && method_is(s, "HEAD");
}

static void session_answered(struct http_session *s)
{
    s->service->callbacks->on_answered(s, s->site->arg);
}

static void put_refusal(struct http_session *s, int status, const char *reason)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/plain\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                     status, http_phrase(status), service_date(s->service),
                     strlen(reason) + 1);
    s->status = status;
    if (!is_head(s)) {
        s->sent = strlen(reason) + 1;
        n += snprintf(text + n, sizeof text - (size_t)n, "%s\n", reason);
    }
    conn_put(s->conn, text, (size_t)n);
}

static int content_is_read(const struct http_session *s)
{
    return !s->left && (s->request.body != HTTP_CHUNKED || s->chunks_over);
}

static int content_is_here(const struct http_session *s)
{
    if (s->request.body == HTTP_LENGTH)
        return s->left <= buf_len(conn_input(s->conn));
    return s->request.body == HTTP_NO_BODY || s->chunks_over;
}

/*
 * Whether the content that has not been read may be skipped once the answer is out (RFC
 * 9112 9.3): it is here, or short and sure to come.
 */
static int content_is_skippable(const struct http_session *s)
{
    if (content_is_here(s))
        return 1;
    return !s->request.expect_continue && s->left <= SKIP_MAX;
}

/* RFC 9110 6.4.1: answers that have no content; RFC 9112 6.3: how its end is known. */
static enum framing session_framing(const struct http_session *s,
                                    const struct http_answer *a)
{
    if (a->status < 200 || a->status == 204 || a->status == 304)
        return NO_CONTENT;
    if (a->length >= 0)
        return BY_LENGTH;
    return s->request.minor == 0 ? UNTIL_CLOSE : IN_CHUNKS;
}

/* The head of an answer, written in place. */
struct head {
    struct conn *conn;
    const struct http_fields *fields; /* the handler's */
    char *text;
    size_t len;
};

enum { HEAD_OWN = 384 }; /* bytes at most that are not the handler's */

static struct head head_begin(struct conn *c, const struct http_fields *fields,
                              size_t more)
{
    size_t room = HEAD_OWN + buf_len(&fields->text) + more;
    return (struct head){c, fields, conn_prepare(c, room), 0};
}

static inline void head_add(struct head *h, const char *text, size_t len)
{
    memcpy(h->text + h->len, text, len);
    h->len += len;
}

static void head_add_status(struct head *h, struct http_service *v, int status)
{
    const char *date = service_date(v);
    if (v->line_status != status) {
        v->line_len =
            (size_t)snprintf(v->line, sizeof v->line, "HTTP/1.1 %d %s\r\nDate: %s\r\n",
                             status, http_phrase(status), date);
        v->line_status = status;
    }
    size_t date_len =
        h->fields->has & HTTP_DATE ? strlen("Date: \r\n") + strlen(date) : 0;
    head_add(h, v->line, v->line_len - date_len);
}

/* RFC 9112 9.3: 1.1 stays open unless told, 1.0 closes unless told. An Upgrade field is
 * an option of the connection too (9110 7.8). */
static void head_add_connection(struct head *h, const struct http_session *s)
{
    int upgrade = h->fields->has & HTTP_UPGRADE;
    const char *field = "";
    if (s->close)
        field = upgrade ? "Connection: close, upgrade\r\n" : "Connection: close\r\n";
    else if (s->request.minor == 0)
        field = "Connection: keep-alive\r\n";
    else if (upgrade)
        field = "Connection: upgrade\r\n";
    head_add(h, field, strlen(field));
}

static void head_add_type(struct head *h, const struct http_session *s,
                          const struct http_answer *a)
{
    static const char plain[] = "Content-Type: text/plain; charset=utf-8\r\n";
    if (a->length && s->framing != NO_CONTENT && !(h->fields->has & HTTP_CONTENT_TYPE))
        head_add(h, plain, sizeof plain - 1);
}

static void head_add_number(struct head *h, uint64_t n)
{
    size_t digits = 1;
    for (uint64_t rest = n; rest >= 10; rest /= 10)
        digits++;
    h->len += digits;
    for (char *p = h->text + h->len; digits--; n /= 10)
        *--p = (char)('0' + n % 10);
}

static void head_add_framing(struct head *h, const struct http_session *s, int64_t length)
{
    static const char by_length[] = "Content-Length: ";
    static const char in_chunks[] = "Transfer-Encoding: chunked\r\n";
    if (s->framing == BY_LENGTH) {
        head_add(h, by_length, sizeof by_length - 1);
        head_add_number(h, (uint64_t)length);
        head_add(h, "\r\n", 2);
    } else if (s->framing == IN_CHUNKS) {
        head_add(h, in_chunks, sizeof in_chunks - 1);
    }
}

static void head_add_fields(struct head *h)
{
    const struct buf *text = &h->fields->text;
    if (buf_len(text))
        head_add(h, buf_head(text), buf_len(text));
}

static void head_end(struct head *h, struct http_session *s, int status)
{
    head_add(h, "\r\n", 2);
    conn_prepared(h->conn, h->len);
    s->begun = 1;
    s->status = status;
}

void http_session_begin(struct http_session *s, const struct http_answer *answer)
{
    struct http_answer a = *answer;
    struct head head = head_begin(s->conn, a.fields, 0);
    if (a.status == 205) /* RFC 9110 15.3.6 */
        a.length = 0;
    s->framing = session_framing(s, &a);
    s->close |= a.close || s->service->stopping || s->framing == UNTIL_CLOSE ||
                !content_is_skippable(s);
    head_add_status(&head, s->service, a.status);
    head_add_connection(&head, s);
    head_add_type(&head, s, &a);
    head_add_fields(&head);
    head_add_framing(&head, s, a.length);
    head_end(&head, s, a.status);
    if (is_head(s) || a.status == 205)
        s->framing = NO_CONTENT;
    s->unsent = s->framing == BY_LENGTH ? (uint64_t)a.length : 0;
}

int http_session_has_begun(const struct http_session *s)
{
    return s->begun;
}

/* RFC 9112 7.1 */
static ssize_t write_chunk(struct http_session *s, const void *data, size_t n)
{
    char size[24];
    size_t room = conn_room(s->conn);
    if (conn_error(s->conn))
        return -1;
    if (n > room)
        n = room;
    if (n) {
        conn_put(s->conn, size, (size_t)snprintf(size, sizeof size, "%zx\r\n", n));
        conn_put(s->conn, data, n);
        conn_put(s->conn, "\r\n", 2);
    }
    return (ssize_t)n;
}

static void session_sent(struct http_session *s, size_t n)
{
    s->sent += n;
    if (s->framing == BY_LENGTH)
        s->unsent -= n;
}

ssize_t http_session_write(struct http_session *s, const void *data, size_t n)
{
    if (s->framing == NO_CONTENT)
        return conn_error(s->conn) ? -1 : (ssize_t)n;
    ssize_t taken =
        s->framing == IN_CHUNKS ? write_chunk(s, data, n) : conn_write(s->conn, data, n);
    if (taken > 0)
        session_sent(s, (size_t)taken);
    return taken;
}

int http_session_sendfile(struct http_session *s, int file, off_t *offset, size_t *left)
{
    size_t before = *left;
    if (s->framing == NO_CONTENT)
        return 1;
    int done = conn_sendfile(s->conn, file, offset, left);
    session_sent(s, before - *left);
    return done;
}

uint64_t http_session_unsent(const struct http_session *s)
{
    return s->unsent;
}

/* RFC 9110 6.5.1: only for who has said that it keeps them (10.1.4). */
void http_session_put_trailers(struct http_session *s, const struct buf *fields)
{
    if (s->framing != IN_CHUNKS || !s->request.trailers)
        return;
    conn_put(s->conn, "0\r\n", 3);
    conn_put(s->conn, buf_head(fields), buf_len(fields));
    conn_put(s->conn, "\r\n", 2);
    s->framing = OVER;
}

/* -- content of requests ------------------------------------------------------------- */

static int body_fail(struct http_session *s, int error)
{
    s->body_failed = 1;
    s->body_error = error;
    return -1;
}

/* RFC 9110 10.1.1: only if it has not come by itself, and before the answer. */
static void ask_for_body(struct http_session *s)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (s->request.expect_continue && !s->begun)
        conn_put(s->conn, go_on, sizeof go_on - 1);
    s->request.expect_continue = 0;
}

/* 1 there is more input, 0 wait, -1 failed. */
static int body_fill(struct http_session *s)
{
    int filled = conn_fill(s->conn);
    if (filled == 0)
        ask_for_body(s);
    return filled < 0 ? body_fail(s, conn_error(s->conn)) : filled;
}

/* Goes on to the next piece of content: as http_session_body, 1 s->left has been set. */
static int next_chunk(struct http_session *s)
{
    struct buf *in = conn_input(s->conn);
    struct http_span content;
    size_t used;
    int some = http_chunked_next(&s->chunked, buf_head(in), buf_len(in), &content, &used);
    if (some < 0)
        return body_fail(s, EBADMSG);
    if (some == HTTP_CHUNKED_TRAILER)
        buf_append(&s->trailers, buf_head(in) + content.at, content.len);
    buf_skip(in, some == 1 ? content.at : used);
    if (some == 1)
        s->left = content.len;
    s->chunks_over = some == 2;
    return some == HTTP_CHUNKED_TRAILER ? 1 : some;
}

static int body_some(struct http_session *s, const char **data, size_t *len)
{
    struct buf *in = conn_input(s->conn);
    *data = buf_head(in);
    *len = buf_len(in) < s->left ? buf_len(in) : (size_t)s->left;
    return 1;
}

static int content_is_too_long(const struct http_session *s)
{
    return s->total > s->limit || s->left > s->limit - s->total;
}

int http_session_body(struct http_session *s, const char **data, size_t *len)
{
    int is_chunked = s->request.body == HTTP_CHUNKED;
    while (!s->body_failed) {
        if (content_is_too_long(s))
            return body_fail(s, EMSGSIZE);
        if (s->left && buf_len(conn_input(s->conn)))
            return body_some(s, data, len);
        if (!s->left && (!is_chunked || s->chunks_over))
            return 2;
        int some = s->left ? 0 : next_chunk(s);
        if (some == 0)
            some = body_fill(s);
        if (some == 0)
            return 0;
    }
    return -1;
}

int http_session_body_ends(const struct http_session *s, size_t n)
{
    return s->request.body == HTTP_LENGTH && s->left == n;
}

void http_session_body_skip(struct http_session *s, size_t n)
{
    assert(n <= s->left);
    buf_skip(conn_input(s->conn), n);
    s->left -= n;
    s->total += n;
}

void http_session_limit_body(struct http_session *s, uint64_t bytes)
{
    s->limit = bytes;
}

const struct buf *http_session_trailers(const struct http_session *s)
{
    static const struct buf none;
    return s->chunks_over ? &s->trailers : &none; /* by then all fields are whole */
}

int http_session_error(const struct http_session *s)
{
    return s->body_failed ? s->body_error : conn_error(s->conn);
}

int http_session_body_failed(const struct http_session *s)
{
    return s->body_failed;
}

/* -- a request's life ---------------------------------------------------------------- */

static void request_begin(struct http_session *s)
{
    struct buf *in = conn_input(s->conn);
    const struct http_request *rq = &s->request;
    uint32_t most = s->site->settings.requests;
    conn_busy(s->conn);
    conn_name_work(s->conn, buf_head(in), rq->target.at + rq->target.len);
    s->state = RUNNING;
    s->deadline = INFINITY;
    s->limit = s->site->settings.body;
    s->left = rq->length;
    s->close = !rq->keep_alive || conn_count(s->conn) == most;
    if (rq->body == HTTP_NO_BODY)
        return;
    buf_append(&s->head, buf_head(in), rq->head_len);
    buf_skip(in, rq->head_len);
}

static void request_init(struct http_session *s)
{
    http_request_init(&s->request);
    http_chunked_init(&s->chunked);
    s->left = s->total = s->unsent = s->sent = 0;
    s->chunks_over = s->body_failed = s->begun = s->status = 0;
    s->waited = 0;
    s->framing = NO_CONTENT;
    s->exchange = NULL;
}

/* What the last request has left behind is forgotten. */
static void request_clear(struct http_session *s)
{
    buf_release(&s->head);
    buf_release(&s->trailers);
    request_init(s);
}

static void session_begin_head(struct http_session *s)
{
    s->state = READING;
    s->began = s->service->loop->clock.now;
}

/* It may not have been asked yet, and then a request is perhaps on its way. */
void http_session_refuse(struct http_session *s, int status, const char *reason)
{
    if (s->state == FRESH)
        session_begin_head(s);
    put_refusal(s, status, reason);
    session_answered(s);
    conn_linger(s->conn);
    session_end(s);
}

static void answer_in_place(struct http_session *s, int failed)
{
    static const struct http_fields none;
    if (s->body_failed && s->body_error == EMSGSIZE)
        put_refusal(s, 413, "the body is too long");
    else if (s->body_failed && s->body_error == EBADMSG)
        put_refusal(s, s->chunked.status, s->chunked.reason);
    else if (s->body_failed && s->body_error == ETIMEDOUT)
        put_refusal(s, 408, "the body did not arrive in time");
    else if (s->body_failed) /* RFC 9112 8 */
        put_refusal(s, 400, "the body is not complete");
    else if (failed)
        put_refusal(s, failed, http_phrase(failed));
    else
        http_session_begin(s, &(struct http_answer){.status = 200, .fields = &none});
}

/* What was begun can be ended properly only if nothing is missing. */
static int answer_finish(struct http_session *s, int failed)
{
    if (!s->begun)
        answer_in_place(s, failed);
    else if (!failed && s->framing == IN_CHUNKS)
        conn_put(s->conn, "0\r\n\r\n", 5);
    return s->begun && !failed && !s->unsent && !s->close ? 0 : -1;
}

static void session_renew(struct http_session *s)
{
    request_clear(s);
    s->state = FRESH;
}

static void session_begin_skip(struct http_session *s)
{
    s->state = SKIPPING;
    s->limit = s->total + SKIP_MAX + buf_len(conn_input(s->conn));
}

/* What comes must not destroy the answer; who has said close sends no more (9112 9.6). */
static void session_expect(struct http_session *s)
{
    if (!content_is_here(s))
        conn_linger(s->conn);
    else if (!s->request.keep_alive)
        conn_silent(s->conn);
}

void http_session_done(struct http_session *s, int failed)
{
    s->waits = FOR_NOTHING;
    int keep = answer_finish(s, failed) == 0 && content_is_skippable(s) &&
               !s->body_failed && !conn_error(s->conn);
    session_answered(s);
    if (s->request.body == HTTP_NO_BODY)
        buf_skip(conn_input(s->conn), s->request.head_len);
    if (!keep || s->service->stopping) {
        session_expect(s);
        session_end(s);
        return;
    }
    if (content_is_read(s))
        session_renew(s);
    else
        session_begin_skip(s);
    if (!s->steps)
        loop_soon(s->service->loop, &s->job);
}

/* What is left of the content, up to the next request: as http_session_body, without 1.
 */
static int session_skip(struct http_session *s)
{
    const char *data;
    size_t len;
    int some;
    while ((some = http_session_body(s, &data, &len)) == 1)
        http_session_body_skip(s, len);
    if (some == 2)
        session_renew(s);
    return some;
}

/* 1 there is a whole head, 0 not yet, -1 the session is over. */
static int session_parse(struct http_session *s)
{
    struct buf *in = conn_input(s->conn);
    if (!buf_len(in))
        return 0;
    if (s->state == FRESH)
        session_begin_head(s);
    int parsed =
        http_parse(&s->request, buf_head(in), buf_len(in), &s->site->settings.head);
    if (parsed < 0)
        http_session_refuse(s, s->request.status, s->request.reason);
    return parsed;
}

/* What has arrived is answered even while stopping; who says nothing is let go. */
static void session_wait(struct http_session *s)
{
    if (s->state == READING) {
        session_set_deadline(s, s->began, s->site->settings.head_time);
        conn_want_input(s->conn, 1);
    } else if (s->service->stopping) {
        session_end(s);
    } else {
        site_keep(s->site, s->conn);
        session_give(s);
    }
}

static void session_input_ended(struct http_session *s)
{
    if (conn_error(s->conn) || conn_is_at_end(s->conn))
        session_end(s);
    else
        http_session_refuse(s, 431, "the head is longer than read_limit");
}

/* These return 1, the session goes on; 0, it waits for something or is over. */

static int session_step_over(struct http_session *s)
{
    int skipped = session_skip(s);
    if (skipped == 0)
        http_session_want_input(s, 1);
    else if (skipped < 0)
        session_end(s);
    return skipped == 2;
}

static int session_fill(struct http_session *s)
{
    int filled = conn_fill(s->conn);
    if (filled == 0)
        session_wait(s);
    else if (filled < 0)
        session_input_ended(s);
    return filled > 0;
}

/* While its handler waits, or if the session has ended, the state is still RUNNING. */
static int session_serve(struct http_session *s)
{
    request_begin(s);
    s->service->callbacks->on_request(s, s->site->arg);
    return s->state != RUNNING;
}

static int session_read(struct http_session *s)
{
    if (!conn_room(s->conn)) { /* it asks faster than it reads the answers */
        http_session_want_room(s, 1);
        return 0;
    }
    int parsed = session_parse(s);
    if (parsed == 0)
        return session_fill(s);
    return parsed > 0 && session_serve(s);
}

/* Request after request, as long as they are answered at once and more is there. */
static void session_step(struct http_session *s)
{
    int left = AT_ONCE;
    s->steps = 1;
    while (s->state != RUNNING && left &&
           (s->state == SKIPPING ? session_step_over(s) : session_read(s)))
        left--;
    s->steps = 0;
    if (!left)
        loop_soon(s->service->loop, &s->job);
}

/* The kernel tells of room long after the client has begun to make some. */
static int session_drains(struct http_session *s)
{
    size_t before = s->untaken;
    s->untaken = conn_untaken(s->conn);
    return s->waits == FOR_ROOM && s->untaken < before;
}

/* The client neither sends what is waited for nor reads what it is sent. */
static void session_stalled(struct http_session *s)
{
    if (s->state != RUNNING)
        session_end(s);
    else if (session_drains(s))
        session_set_deadline(s, s->service->loop->clock.now, s->site->settings.idle_time);
    else if (s->waits == FOR_ROOM)
        conn_fail(s->conn, ETIMEDOUT); /* and who waits is told */
    else {
        conn_want_input(s->conn, 0);
        body_fail(s, ETIMEDOUT);
        s->service->callbacks->on_ready(s, s->site->arg);
    }
}

/* The first step. */
static void session_start(void *arg)
{
    struct http_session *s = arg;
    uint32_t most = s->site->settings.per_address;
    s->job.run = session_job;
    if (s->conn && most && !conn_admit(s->conn, most))
        http_session_refuse(s, 503, "too many connections from this address");
    session_job(s);
}

static void on_ready(struct conn *c, void *arg)
{
    struct http_session *s = arg;
    (void)c;
    if (s->waits == FOR_INPUT)
        s->waited += s->service->loop->clock.now - s->wait_began;
    s->waits = FOR_NOTHING;
    if (s->state == RUNNING)
        s->service->callbacks->on_ready(s, s->site->arg);
    else
        session_step(s);
}

/* The bytes of a head that is not whole are still in the conn. */
static int may_move(struct conn *c, void *arg)
{
    struct http_session *s = arg;
    (void)c;
    return s->state == READING && !s->service->stopping;
}

static void on_moved(struct conn *c, enum parcel_why why, void *arg)
{
    (void)c, (void)why;
    session_leave(arg);
}

static const struct conn_callbacks conn_callbacks = {on_ready, on_ready, may_move,
                                                     on_moved};

static void on_timer(void *arg)
{
    struct http_session *s = arg;
    struct clock *clock = &s->service->loop->clock;
    if (s->state == RUNNING && !s->waits)
        return;
    if (s->deadline > clock->now)
        timer_start(clock, &s->timer, s->deadline);
    else if (s->waits)
        session_stalled(s);
    else if (s->state == READING)
        http_session_refuse(s, 408, "the request did not arrive in time");
    else
        session_end(s);
}

/* -- sites --------------------------------------------------------------------------- */

static struct http_session *session_open(struct http_site *site, struct conn *c)
{
    struct http_session *s = session_take(site->service);
    memset(s, 0, offsetof(struct http_session, request));
    s->service = site->service;
    s->site = site;
    s->conn = c;
    s->job = (struct loop_job){.run = session_job, .arg = s};
    timer_init(&s->timer, on_timer, s);
    request_init(s);
    conn_set_owner(c, &conn_callbacks, s);
    session_link(s);
    return s;
}

/* Of the conns that wait for a request. */

static void on_idle_input(struct conn *c, void *arg)
{
    conn_join(c, NULL);
    session_step(session_open(arg, c));
}

static int may_move_idle(struct conn *c, void *arg)
{
    const struct http_site *site = arg;
    (void)c;
    return !site->service->stopping;
}

static void on_idle_moved(struct conn *c, enum parcel_why why, void *arg)
{
    (void)why;
    conn_join(c, NULL);
    site_leave(arg);
}

static void on_idle_expired(struct conn *c, void *arg)
{
    conn_close(c);
    site_leave(arg);
}

static void site_keep(struct http_site *site, struct conn *c)
{
    static const struct conn_callbacks callbacks = {on_idle_input, NULL, may_move_idle,
                                                    on_idle_moved};
    conn_set_owner(c, &callbacks, site);
    conn_join(c, &site->idle);
    conn_want_input(c, 1);
}

void http_site_open(struct http_site *site, struct http_service *v, struct conns *conns)
{
    double idle = conns->limits.idle, patience = site->settings.keep_alive;
    if (idle > 0 && idle < patience)
        patience = idle;
    site->service = v;
    conn_queue_open(&site->idle, conns, patience, on_idle_expired);
    site->next = v->sites;
    v->sites = site;
}

void http_site_close(struct http_site *site)
{
    struct http_site **at = &site->service->sites;
    while (*at != site)
        at = &(*at)->next;
    *at = site->next;
    conn_queue_close(&site->idle);
}

void http_site_take(struct http_site *site, struct conn *c)
{
    struct http_session *s = session_open(site, c);
    s->job.run = session_start;
    loop_soon(site->service->loop, &s->job);
}

void http_site_refuse(struct http_site *site, struct conn *c, int status,
                      const char *reason)
{
    http_session_refuse(session_open(site, c), status, reason);
}

void http_service_stop(struct http_service *v)
{
    v->stopping = 1;
    for (struct http_site *site = v->sites, *next; site; site = next) {
        next = site->next;
        for (struct conn *c; (c = site->idle.first);)
            on_idle_input(c, site);
    }
}

void http_service_end(struct http_service *v)
{
    while (v->first)
        session_end(v->first);
    for (struct http_site *site = v->sites, *next; site; site = next) {
        next = site->next;
        for (struct conn *c; (c = site->idle.first);)
            on_idle_expired(c, site);
    }
    while (v->spare)
        free(session_take(v));
}

/* -- for the owner ------------------------------------------------------------------- */

int http_session_may_upgrade(const struct http_session *s)
{
    return content_is_read(s);
}

struct conn *http_session_upgrade(struct http_session *s, const char *protocol,
                                  const struct http_fields *fields)
{
    struct conn *c = s->conn;
    size_t len = protocol ? strlen(protocol) : 0;
    struct head head = head_begin(c, fields, len);
    int status = protocol ? 101 : 200;
    assert(http_session_may_upgrade(s));
    head_add_status(&head, s->service, status);
    if (protocol) {
        head_add(&head, "Connection: upgrade\r\nUpgrade: ", 30);
        head_add(&head, protocol, len);
        head_add(&head, "\r\n", 2);
    }
    head_add_fields(&head);
    head_end(&head, s, status);
    if (s->request.body == HTTP_NO_BODY)
        buf_skip(conn_input(c), s->request.head_len);
    session_leave(s);
    return c;
}

struct http_outcome http_session_outcome(const struct http_session *s)
{
    return (struct http_outcome){s->status, s->sent,
                                 s->service->loop->clock.now - s->began};
}

const struct http_request *http_session_request(const struct http_session *s)
{
    return &s->request;
}

const char *http_session_text(const struct http_session *s)
{
    return s->head.data ? buf_head(&s->head) : buf_head(conn_input(s->conn));
}

struct conn *http_session_conn(const struct http_session *s)
{
    return s->conn;
}

void http_session_set_exchange(struct http_session *s, void *exchange)
{
    s->exchange = exchange;
}

void *http_session_exchange(const struct http_session *s)
{
    return s->exchange;
}

static void session_waits(struct http_session *s, enum wait what, double seconds)
{
    s->waits = what;
    if (what)
        session_set_deadline(s, s->service->loop->clock.now, seconds);
}

/* Seconds until content is too slow in coming; only what was waited for it counts. */
static double content_patience(const struct http_session *s)
{
    const struct http_settings *set = &s->site->settings;
    double allowed = set->min_rate > 0
                         ? set->idle_time + (double)s->total / set->min_rate - s->waited
                         : INFINITY;
    return allowed < set->idle_time ? allowed : set->idle_time;
}

void http_session_want_input(struct http_session *s, int on)
{
    s->wait_began = s->service->loop->clock.now;
    session_waits(s, on ? FOR_INPUT : FOR_NOTHING, content_patience(s));
    conn_want_input(s->conn, on);
}

void http_session_want_room(struct http_session *s, int on)
{
    session_waits(s, on ? FOR_ROOM : FOR_NOTHING, s->site->settings.idle_time);
    s->untaken = conn_untaken(s->conn);
    conn_want_room(s->conn, on);
}

void http_session_want_drained(struct http_session *s, int on)
{
    session_waits(s, on ? FOR_ROOM : FOR_NOTHING, s->site->settings.idle_time);
    s->untaken = conn_untaken(s->conn);
    conn_want_drained(s->conn, on);
}
