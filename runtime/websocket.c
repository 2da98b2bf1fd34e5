/*
 * What goes along when it moves is at hand at any time: the conn's checkpoint begins with a
 * struct saved, then come the label, the state, and at the end what there is of a message
 * that is not whole. It is collected there and nowhere else, so it need not be copied when
 * the conn moves. A message that comes in one piece, as most do, never gets there.
 *
 * While the owner is at a message, what others would have if the process were killed then
 * is the checkpoint of before: with redeliver they read the message again, else they read
 * on behind it (conn.h). For that the checkpoint must be one between two messages.
 *
 * While the owner is not waiting for a message, only control frames are read: then the
 * next message stays in the conn, and the client is slowed down by its socket's buffers.
 */
#include "websocket.h"

#include "alloc.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CLOSE_SECONDS = 5, PACK_MIN = 64 }; /* shorter messages are not compressed */

enum { MAGIC = PARCEL_TAKERS | 'W' };

struct saved {
    uint8_t magic, deflate;
    uint32_t label, state; /* bytes of each, behind this */
    struct ws_reader reader;
    uint64_t mark;
};

struct websocket {
    struct conn *conn; /* NULL: it is over */
    struct websocket_site *site;
    void *arg; /* NULL: the owner has closed it */
    struct websocket *next, **prev;
    struct saved saved; /* the checkpoint has a copy, that of when it was last at rest */
    char *reason;
    double closes_at;
    int error;
    uint16_t code;
    uint8_t receives;   /* the owner waits for a message */
    uint8_t asked;      /* a ping was sent, and nothing has come since */
    uint8_t closing;    /* a Close frame was sent */
    uint8_t is_between; /* the checkpoint is one between two messages */
    uint8_t is_fit;     /* fit_checkpoint */
    uint8_t is_stale;   /* it does not tell of all that was read */
};

/* -- the checkpoint ------------------------------------------------------------------ */

static size_t tail_at(const struct websocket *w)
{
    return sizeof w->saved + w->saved.label + w->saved.state;
}

static size_t tail_len(const struct websocket *w)
{
    return buf_len(conn_checkpoint(w->conn)) - tail_at(w);
}

static char *tail(const struct websocket *w)
{
    return buf_head(conn_checkpoint(w->conn)) + tail_at(w);
}

static void cut(struct buf *b, size_t len)
{
    b->end = b->start + (uint32_t)len;
}

static int redelivers(const struct websocket *w)
{
    return w->site->settings.redeliver;
}

static int is_between(const struct websocket *w)
{
    return !w->saved.reader.message && !w->saved.reader.in_frame;
}

/* It says now how things are. */
static void save(struct websocket *w)
{
    memcpy(buf_head(conn_checkpoint(w->conn)), &w->saved, sizeof w->saved);
    w->is_between = (uint8_t)is_between(w);
    w->is_stale = 0;
    conn_set_checkpoint(w->conn, redelivers(w) ? CONN_READS_AGAIN : CONN_READS_ON);
}

/* There is one as long as the connection is: it has no more room than it needs at first. */
static void fit_checkpoint(struct websocket *w)
{
    if (!w->is_fit)
        buf_fit(conn_checkpoint(w->conn));
    w->is_fit = 1;
}

/* Likewise, unless the message that the owner is at is to be read again. */
static void save_beside(struct websocket *w)
{
    if (w->receives || !redelivers(w))
        save(w);
}

/* What is behind the first at bytes is taken away, and put back later. */
static void stash(struct websocket *w, size_t at)
{
    struct buf *b = conn_checkpoint(w->conn), *stash = &w->site->all->stash;
    buf_skip(stash, buf_len(stash)); /* of an error in between, the last time */
    if (at >= buf_len(b))
        return;
    buf_append(stash, buf_head(b) + at, buf_len(b) - at);
    cut(b, at);
}

static void unstash(struct websocket *w)
{
    struct buf *stash = &w->site->all->stash;
    buf_append(conn_checkpoint(w->conn), buf_head(stash), buf_len(stash));
    buf_release(stash);
}

void websocket_set_label(struct websocket *w, const char *data, size_t len)
{
    if (!w->conn)
        return;
    stash(w, sizeof w->saved + w->saved.label);
    cut(conn_checkpoint(w->conn), sizeof w->saved);
    buf_append(conn_checkpoint(w->conn), data, len);
    w->saved.label = (uint32_t)len;
    unstash(w);
    save_beside(w);
}

struct buf *websocket_begin_state(struct websocket *w)
{
    struct buf *b = conn_checkpoint(w->conn);
    stash(w, tail_at(w));
    cut(b, sizeof w->saved + w->saved.label);
    return b;
}

void websocket_end_state(struct websocket *w)
{
    size_t before = sizeof w->saved + w->saved.label;
    w->saved.state = (uint32_t)(buf_len(conn_checkpoint(w->conn)) - before);
    unstash(w);
}

const char *websocket_state(const struct websocket *w, size_t *len)
{
    *len = w->saved.state;
    return buf_head(conn_checkpoint(w->conn)) + sizeof w->saved + w->saved.label;
}

void websocket_ask(struct websocket *w)
{
    if (w->conn && !w->closing)
        save(w);
}

void websocket_set_mark(struct websocket *w, uint64_t mark)
{
    w->saved.mark = mark;
    if (w->conn && !w->closing)
        save_beside(w);
}

uint64_t websocket_mark(const struct websocket *w)
{
    return w->saved.mark;
}

/* -- the end ------------------------------------------------------------------------- */

static void unlink_and_free(struct websocket *w)
{
    struct websocket_site *site = w->site;
    struct websockets *all = site->all;
    *w->prev = w->next;
    if (w->next)
        w->next->prev = w->prev;
    free(w->reason);
    loop_free_later(all->conns->loop, w);
    all->callbacks->on_leave(site->arg);
}

/* The conn closes by itself. Of the websocket, the owner may still ask why. */
static void finish(struct websocket *w)
{
    conn_join(w->conn, NULL);
    conn_forget_checkpoint(w->conn);
    conn_close(w->conn);
    w->conn = NULL;
    if (w->arg)
        w->site->all->callbacks->on_room(w->arg); /* nobody else tells who waits */
    else
        unlink_and_free(w);
}

/* The first to say why is right. */
static void set_end(struct websocket *w, int error, int code, const char *reason,
                    size_t len)
{
    if (w->code)
        return;
    w->error = error;
    w->code = (uint16_t)code;
    w->reason = alloc(len + 1);
    memcpy(w->reason, reason, len);
    w->reason[len] = '\0';
}

static void put_control(struct websocket *w, enum ws_opcode opcode, const char *data,
                        size_t len)
{
    char frame[WS_HEAD_MAX + WS_CONTROL_MAX];
    size_t n = ws_head(frame, opcode, 0, len);
    memcpy(frame + n, data, len);
    conn_put(w->conn, frame, n + len);
}

static void put_close(struct websocket *w, int code, const char *reason)
{
    char payload[WS_CONTROL_MAX];
    size_t n = code == WS_NO_CODE ? 0 : ws_close_payload(payload, code, reason);
    put_control(w, WS_CLOSE, payload, n);
}

/* RFC 6455 7.1.7. What else the client sends is read, so that it sees why. */
static int fail(struct websocket *w, int code, const char *why)
{
    set_end(w, EPROTO, code, why, strlen(why));
    put_close(w, code, why);
    conn_linger(w->conn);
    finish(w);
    return -1;
}

/* Without a Close frame. */
static int lose(struct websocket *w)
{
    int error = conn_error(w->conn);
    const char *why = error == ETIMEDOUT ? "the client is silent" : "the client has gone";
    set_end(w, error ? error : ECONNRESET, WS_ABNORMAL, why, strlen(why));
    finish(w);
    return -1;
}

static void begin_close(struct websocket *w, int code, const char *reason)
{
    set_end(w, ECANCELED, code, reason, strlen(reason));
    put_close(w, code, reason);
    w->closing = 1;
    w->closes_at = w->site->all->conns->loop->clock.now + CLOSE_SECONDS;
    conn_join(w->conn, &w->site->all->closing);
    conn_forget_checkpoint(w->conn);
    conn_busy(w->conn);
    conn_want_input(w->conn, 1);
}

void websocket_close(struct websocket *w, int code, const char *reason)
{
    w->arg = NULL;
    w->receives = 0;
    if (!w->conn)
        unlink_and_free(w);
    else if (!w->closing)
        begin_close(w, code, reason);
}

void websocket_cut(struct websocket *w)
{
    static const char why[] = "the client is slow";
    if (!w->conn || w->closing)
        return;
    set_end(w, ETIMEDOUT, WS_ABNORMAL, why, sizeof why - 1);
    conn_fail(w->conn, ETIMEDOUT);
    if (w->receives)
        w->site->all->callbacks->on_input(w->arg);
    finish(w);
}

int websocket_end(const struct websocket *w, int *code, const char **reason)
{
    *code = w->code;
    *reason = w->reason ? w->reason : "";
    return w->error;
}

/* -- reading ------------------------------------------------------------------------- */

/* -1: that was the client's last word. */
static int take_control(struct websocket *w, const struct ws_event *e)
{
    if (e->opcode == WS_PING)
        put_control(w, WS_PONG, e->data, e->len);
    if (e->opcode != WS_CLOSE)
        return 0;
    set_end(w, 0, e->code, e->data, e->len);
    if (!w->closing)
        put_close(w, e->code, "");
    finish(w);
    return -1;
}

static struct ws_deflate *deflater(struct websockets *all)
{
    if (!all->deflate)
        all->deflate = ws_deflate_new();
    return all->deflate;
}

/* RFC 7692 6.2: what it is, decompressed. */
static int unpack(struct websocket *w, struct websocket_message *m)
{
    struct websockets *all = w->site->all;
    if (ws_deflate_unpack(deflater(all), m->data, m->len, w->site->settings.message,
                          &all->packed) < 0)
        return errno == EMSGSIZE ? fail(w, WS_TOO_BIG, "a message that is too long")
                                 : fail(w, WS_BAD_DATA, "data that is not compressed");
    m->data = buf_head(&all->packed);
    m->len = buf_len(&all->packed);
    if (m->opcode == WS_TEXT && !ws_utf8_is_valid(m->data, m->len))
        return fail(w, WS_BAD_DATA, "text that is not UTF-8");
    return 1;
}

/* The owner gets it. */
static int give(struct websocket *w, struct websocket_message *m)
{
    cut(conn_checkpoint(w->conn), tail_at(w)); /* its bytes stay for now */
    if (w->is_between)
        conn_use_read(w->conn);
    else
        save_beside(w);
    return w->saved.reader.is_packed ? unpack(w, m) : 1;
}

/* The last piece of a message. */
static int take_end(struct websocket *w, const struct ws_event *e,
                    struct websocket_message *m)
{
    *m = (struct websocket_message){(enum ws_opcode)e->opcode, e->data, e->len};
    if (tail_len(w)) {
        buf_append(conn_checkpoint(w->conn), e->data, e->len);
        m->data = tail(w);
        m->len = tail_len(w);
    }
    return give(w, m);
}

static void read_event(struct websocket *w, struct ws_event *e)
{
    struct buf *in = conn_input(w->conn);
    uint32_t most = w->site->settings.message;
    size_t used =
        ws_read(&w->saved.reader, &(struct ws_limits){most, most, w->saved.deflate},
                buf_head(in), buf_len(in), e);
    buf_skip(in, used);
    w->is_stale |= used != 0;
}

/* What is in the conn's input: as websocket_receive. */
static int read_message(struct websocket *w, struct websocket_message *m)
{
    for (;;) {
        struct ws_event e;
        read_event(w, &e);
        switch (e.kind) {
        case WS_MORE:
            return 0;
        case WS_PIECE:
            buf_append(conn_checkpoint(w->conn), e.data, e.len);
            break;
        case WS_END:
            return take_end(w, &e, m);
        case WS_CONTROL:
            if (take_control(w, &e) < 0)
                return -1;
            break;
        case WS_REFUSED:
            return fail(w, e.code, e.why);
        }
    }
}

int websocket_receive(struct websocket *w, struct websocket_message *m)
{
    w->receives = 0;
    if (!w->conn || w->closing)
        return -1;
    for (;;) {
        int some = read_message(w, m);
        if (some)
            return some;
        int filled = conn_fill(w->conn);
        if (filled < 0)
            return lose(w);
        if (filled == 0) {
            w->receives = 1;
            if (w->is_stale)
                save(w);
            fit_checkpoint(w);
            conn_want_input(w->conn, 1);
            return 0;
        }
    }
}

void websocket_forget(struct websocket *w)
{
    w->receives = 0;
}

/* Nobody receives: 1 the input is read, 0 a message is next, or -1 it is over. */
static int read_control(struct websocket *w)
{
    struct buf *in = conn_input(w->conn);
    while (ws_is_control(&w->saved.reader, buf_head(in), buf_len(in))) {
        struct ws_event e;
        read_event(w, &e);
        if (e.kind == WS_MORE)
            return 1;
        if (e.kind == WS_REFUSED)
            return fail(w, e.code, e.why);
        if (take_control(w, &e) < 0)
            return -1;
    }
    return !buf_len(in);
}

/* A Close frame was sent: 1 the client's has come, or what is none; 0 more is needed. */
static int read_to_close(struct websocket *w)
{
    for (;;) {
        struct ws_event e;
        read_event(w, &e);
        if (e.kind == WS_MORE)
            return 0;
        if (e.kind == WS_REFUSED || (e.kind == WS_CONTROL && e.opcode == WS_CLOSE))
            return 1;
    }
}

static void drain(struct websocket *w)
{
    for (;;) {
        int is_over = read_to_close(w);
        int filled = is_over ? -1 : conn_fill(w->conn);
        if (filled < 0 || w->closes_at <= w->site->all->conns->loop->clock.now) {
            finish(w);
            return;
        }
        if (filled == 0) {
            conn_want_input(w->conn, 1);
            return;
        }
    }
}

static void attend(struct websocket *w)
{
    for (;;) {
        if (read_control(w) <= 0)
            return;
        int filled = conn_fill(w->conn);
        if (filled < 0) {
            lose(w);
            return;
        }
        if (filled == 0) {
            conn_want_input(w->conn, 1);
            return;
        }
    }
}

static void on_input(struct conn *c, void *arg)
{
    struct websocket *w = arg;
    (void)c;
    w->asked = 0;
    if (w->closing)
        drain(w);
    else if (w->receives)
        w->site->all->callbacks->on_input(w->arg);
    else
        attend(w);
}

/* -- writing ------------------------------------------------------------------------- */

static void on_room(struct conn *c, void *arg)
{
    struct websocket *w = arg;
    (void)c;
    if (w->arg)
        w->site->all->callbacks->on_room(w->arg);
}

int websocket_has_room(const struct websocket *w)
{
    return !w->conn || conn_room(w->conn) > 0;
}

void websocket_want_room(struct websocket *w)
{
    conn_want_room(w->conn, 1);
}

/* Much of it goes out at once, without a copy. */
static void put_frame(struct websocket *w, enum ws_opcode opcode, int is_packed,
                      const char *data, size_t len)
{
    char head[WS_HEAD_MAX];
    conn_put(w->conn, head, ws_head(head, opcode, is_packed, len));
    ssize_t n = conn_write(w->conn, data, len);
    if (n >= 0 && (size_t)n < len)
        conn_put(w->conn, data + n, len - (size_t)n);
}

int websocket_send(struct websocket *w, enum ws_opcode opcode, const char *data,
                   size_t len)
{
    struct websockets *all = w->site->all;
    int packs = w->saved.deflate && len >= PACK_MIN && opcode < WS_CLOSE;
    if (!w->conn || w->closing || conn_error(w->conn))
        return -1;
    if (packs)
        ws_deflate_pack(deflater(all), data, len, &all->packed);
    if (packs && buf_len(&all->packed) < len)
        put_frame(w, opcode, 1, buf_head(&all->packed), buf_len(&all->packed));
    else
        put_frame(w, opcode, 0, data, len);
    return 0;
}

int websocket_put(struct websocket *w, const char *frame, size_t len)
{
    if (!w->conn || w->closing || conn_error(w->conn))
        return -1;
    if (!websocket_has_room(w))
        return 0;
    conn_put(w->conn, frame, len);
    return 1;
}

/* -- time ---------------------------------------------------------------------------- */

static void on_silence(struct conn *c, void *arg)
{
    struct websocket *w = arg;
    if (buf_len(conn_input(c))) /* it is the owner who is late */
        return;
    if (w->asked) {
        conn_fail(c, ETIMEDOUT);
        return;
    }
    w->asked = 1;
    put_control(w, WS_PING, "", 0);
}

static void on_close_limit(struct conn *c, void *arg)
{
    (void)c;
    finish(arg);
}

/* -- moving -------------------------------------------------------------------------- */

static int may_move(struct conn *c, void *arg)
{
    struct websocket *w = arg;
    (void)c;
    return w->receives && w->site->all->callbacks->may_move(w->arg);
}

static void on_moved(struct conn *c, enum parcel_why why, void *arg)
{
    struct websocket *w = arg;
    conn_join(c, NULL);
    w->conn = NULL;
    w->site->all->callbacks->on_moved(w->arg, why);
    unlink_and_free(w);
}

static const struct conn_callbacks callbacks = {on_input, on_room, may_move, on_moved};

/* -- beginning ----------------------------------------------------------------------- */

static struct websocket *adopt(struct websocket_site *site, struct conn *c, void *arg)
{
    struct websockets *all = site->all;
    struct websocket *w = alloc_zero(sizeof *w);
    w->conn = c;
    w->site = site;
    w->arg = arg;
    w->next = all->first;
    w->prev = &all->first;
    if (w->next)
        w->next->prev = &w->next;
    all->first = w;
    conn_set_owner(c, &callbacks, w);
    conn_join(c, &site->idle);
    conn_want_input(c, 1);
    return w;
}

struct websocket *websocket_open(struct websocket_site *site, struct conn *c, int deflate,
                                 void *arg)
{
    struct websocket *w = adopt(site, c, arg);
    struct buf *b = conn_checkpoint(c);
    w->saved.magic = MAGIC;
    w->saved.deflate = deflate != 0;
    buf_skip(b, buf_len(b));
    buf_append(b, &w->saved, sizeof w->saved);
    save(w);
    return w;
}

static int read_saved(struct saved *s, const char *data, size_t len)
{
    if (len < sizeof *s)
        return -1;
    memcpy(s, data, sizeof *s);
    len -= sizeof *s;
    if (s->magic != MAGIC || s->label > len || s->state > len - s->label)
        return -1;
    return s->reader.message <= WS_BINARY ? 0 : -1;
}

int websocket_label(const char *data, size_t len, const char **label, size_t *label_len)
{
    struct saved s;
    if (read_saved(&s, data, len) < 0)
        return -1;
    *label = data + sizeof s;
    *label_len = s.label;
    return 0;
}

struct websocket *websocket_resume(struct websocket_site *site, struct conn *c,
                                   const char *data, size_t len, void *arg)
{
    struct saved saved;
    if (read_saved(&saved, data, len) < 0)
        return NULL;
    struct websocket *w = adopt(site, c, arg);
    struct buf *b = conn_checkpoint(c);
    w->saved = saved;
    buf_skip(b, buf_len(b));
    buf_append(b, data, len);
    save(w);
    return w;
}

struct conn *websocket_conn(const struct websocket *w)
{
    return w->conn;
}

/* -- all of them --------------------------------------------------------------------- */

void websocket_site_open(struct websocket_site *site, struct websockets *all)
{
    double idle = site->settings.idle;
    site->all = all;
    conn_queue_open(&site->idle, all->conns, idle > 0 ? idle : INFINITY, on_silence);
}

void websocket_site_close(struct websocket_site *site)
{
    conn_queue_close(&site->idle);
}

void websockets_open(struct websockets *all)
{
    conn_queue_open(&all->closing, all->conns, CLOSE_SECONDS, on_close_limit);
}

void websockets_stop(struct websockets *all)
{
    for (struct websocket *w = all->first, *next; w; w = next) {
        next = w->next;
        if (!w->conn || w->closing)
            continue;
        int receives = w->receives;
        w->receives = 0;
        begin_close(w, WS_GOING_AWAY, "the server is stopping");
        if (receives)
            all->callbacks->on_input(w->arg);
    }
}

/* No owner is left: those that are here wait for a Close frame. */
void websockets_end(struct websockets *all)
{
    while (all->first)
        finish(all->first);
    conn_queue_close(&all->closing);
    ws_deflate_free(all->deflate);
    buf_release(&all->packed);
    buf_release(&all->stash);
}
