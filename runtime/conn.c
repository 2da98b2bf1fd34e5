/*
 * One watcher per conn, and as few epoll_ctl(2) as possible: reading and writing are
 * tried before anything is watched, EV_READ stays on between reads until input comes
 * that nobody wants, EV_WRITE is on only while output waits.
 *
 * A client may send as fast as it is read, or read as fast as it is written to, for
 * hours. So that the others have their turn, reads and writes are few in one of the
 * loop's; then it is as if the kernel had no more, or took no more, until the next.
 *
 *   OPEN -- conn_close --> FLUSHING -- all is out --> LINGERING -- client ends --> CLOSED
 *
 * All that has come is read before any of it is told of: what is done with input is more
 * code than the processor keeps at hand while the kernel runs in between.
 *
 * Most conns wait most of the time, so what only those need that have bytes at hand is
 * apart: a conn_work, which a conn has from the first byte until nothing is left.
 *
 * Lingering is for clients that are still sending: closing with unread input makes the
 * kernel answer with a reset, which may destroy what the client has not read yet
 * (RFC 9112 9.6). Where nothing is unread, the conn is closed at once.
 */
#include "conn.h"

#include "alloc.h"
#include "fd.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    READ_MIN = 4096,
    READ_MAX = 65536,
    DIRECT_MIN = 8192, /* output of this size is written without a copy */
    COPY_MAX = 8192,   /* of a file: less is copied, for one system call less */
    SENDFILE_MAX = 1 << 20,
    MOVES_PER_TURN = 4,
    FDS_MAX = 64,        /* descriptors that came and were not taken yet */
    SPARE_BUF = 4096,    /* the longest buffer that is kept for the next work, */
    SPARE_ALL = 1 << 20, /* of bytes in all: a message may go to a thousand at once */
    FLUSH_SECONDS = 10,  /* without progress, while a conn is being closed */
    LINGER_SECONDS = 2,
};

static const double IDLE_MIN = 0.001; /* the clock must move on meanwhile */

enum conn_kind { SOCKET, UNIX, PIPE };
enum conn_state { OPEN, FLUSHING, LINGERING, CLOSED };
enum conn_want { NOTHING, ROOM, DRAINED };

struct fd_queue {
    int count;
    int fds[FDS_MAX];
};

struct conn_work {
    struct buf in, out;
    struct fd_queue *fds; /* NULL unless one has come */
    struct loop_job news, flush;
    uint32_t turn; /* of the loop, in which it has tried so many moves: */
    uint32_t moves;
    struct conn_work *next; /* while it is spare */
};

struct conn {
    ev_io io;
    struct conns *all;
    struct conn_queue *queue;
    struct conn *next, **prev; /* in the queue; prev: what points to this one */
    double active;             /* when the last byte moved */
    const struct conn_callbacks *callbacks;
    void *arg;
    const struct conn_end *end;    /* borrowed; NULL: nobody is to be told */
    struct conn_work *work;        /* &nothing, which stays empty, while there is none */
    struct journal_record *record; /* NULL: it ends with the process */
    struct buf *checkpoint;        /* owned; NULL: there is none */
    uint32_t count;                /* conn_count */
    uint16_t error;
    uint8_t kind, state, at_end;
    uint8_t wants_input;
    uint8_t drained;        /* the last read had all: EV_READ tells of more */
    uint8_t is_ahead;       /* there is input that conn_fill has not told of */
    uint8_t wants_output;   /* enum conn_want */
    uint8_t blocked;        /* the kernel took no more output, or may not in this turn */
    uint8_t registered : 1; /* it has been in the epoll set */
    uint8_t given : 1;
    uint8_t lingers : 1; /* in any case */
    uint8_t is_silent : 1;
    uint8_t counted : 1;  /* in the census */
    uint8_t admitted : 1; /* it was, elsewhere */
    uint8_t pinned : 1, has_checkpoint : 1;
    uint8_t reread : 2; /* enum conn_reread */
    uint8_t shut : 2;   /* 1: asked for, 2: done */
};

static struct conn_work nothing;

static void conn_step_close(struct conn *c);
static void on_news(void *arg);
static void on_flush(void *arg);

/* Most pools do not survive: for them the rest of it is out of the way. */
static inline int conn_is_noted(const struct conn *c)
{
    return __builtin_expect(c->record != NULL, 0);
}

/* -- what is at hand ----------------------------------------------------------------- */

static void work_clear(struct conn_work *w)
{
    buf_release(&w->in);
    buf_release(&w->out);
    free(w->fds);
}

static void work_free(struct conn_work *w)
{
    work_clear(w);
    free(w);
}

static size_t work_bytes(const struct conn_work *w)
{
    return sizeof *w + w->in.size + w->out.size;
}

static void conn_take_work(struct conn *c)
{
    struct conns *all = c->all;
    struct conn_work *w = all->spare;
    if (w) {
        all->spare = w->next;
        all->spare_bytes -= work_bytes(w);
    } else {
        w = alloc_zero(sizeof *w);
    }
    w->news = (struct loop_job){.run = on_news, .arg = c};
    w->flush = (struct loop_job){.run = on_flush, .arg = c};
    w->moves = 0;
    c->work = w;
}

static inline struct conn_work *conn_work(struct conn *c)
{
    if (c->work == &nothing)
        conn_take_work(c);
    return c->work;
}

static int work_has_jobs(const struct conn_work *w)
{
    return w->news.queued || w->flush.queued;
}

static void conn_give_work(struct conn *c)
{
    struct conns *all = c->all;
    struct conn_work *w = c->work;
    c->work = &nothing;
    buf_clear(&w->in, SPARE_BUF);
    buf_clear(&w->out, SPARE_BUF);
    if (all->spare_bytes + work_bytes(w) > SPARE_ALL) {
        work_free(w);
        return;
    }
    w->next = all->spare;
    all->spare = w;
    all->spare_bytes += work_bytes(w);
}

int conn_has_fds(const struct conn *c)
{
    return c->work->fds && c->work->fds->count;
}

static void conn_drop_checkpoint(struct conn *c)
{
    if (!c->checkpoint)
        return;
    buf_release(c->checkpoint);
    free(c->checkpoint);
    c->checkpoint = NULL;
}

/* Gives memory back while the conn waits. */
static void conn_relax(struct conn *c)
{
    struct conn_work *w = c->work;
    if (!c->has_checkpoint)
        conn_drop_checkpoint(c);
    if (w == &nothing || work_has_jobs(w))
        return;
    if (conn_is_noted(c))
        journal_relax(c->all->journal, c->record);
    if (!buf_len(&w->in) && !buf_len(&w->out) && !conn_has_fds(c)) {
        conn_give_work(c);
        return;
    }
    if (!buf_len(&w->in))
        buf_release(&w->in);
    if (!buf_len(&w->out))
        buf_release(&w->out);
}

static struct journal_bytes bytes_of(const struct buf *b)
{
    return (struct journal_bytes){buf_head(b), buf_len(b)};
}

static void conn_flush_soon(struct conn *c)
{
    loop_last(c->all->loop, &conn_work(c)->flush);
}

/* -- watching ------------------------------------------------------------------------ */

static int conn_watched(const struct conn *c)
{
    return ev_is_active(&c->io) ? c->io.events & (EV_READ | EV_WRITE) : 0;
}

static void conn_watch(struct conn *c, int events)
{
    if (conn_watched(c) == events)
        return;
    ev_io_stop(c->all->loop->ev, &c->io);
    ev_io_modify(&c->io, events);
    if (events)
        ev_io_start(c->all->loop->ev, &c->io);
    c->registered |= events != 0;
}

/* Whether it may move bytes once more in this turn. */
static int conn_takes_turn(struct conn *c)
{
    struct conn_work *w = conn_work(c);
    if (w->turn != c->all->loop->turns) {
        w->turn = c->all->loop->turns;
        w->moves = 0;
    }
    if (w->moves == MOVES_PER_TURN)
        return 0;
    w->moves++;
    return 1;
}

/* The kernel takes no more: only EV_WRITE lifts this. */
static int conn_block(struct conn *c)
{
    c->blocked = 1;
    conn_watch(c, conn_watched(c) | EV_WRITE);
    return 0;
}

static void conn_tell_input(struct conn *c)
{
    if (c->wants_input) {
        c->wants_input = 0;
        c->callbacks->on_input(c, c->arg);
    }
}

static int conn_has_room(const struct conn *c)
{
    size_t left = buf_len(&c->work->out);
    if (c->error)
        return 1;
    return c->wants_output == DRAINED ? left == 0 && !c->blocked
                                      : left <= c->all->limits.write / 2;
}

/*
 * Nothing but input, or the end of its output, is waited for. Who has no end to tell of is
 * nobody's client: it is a connection of the script's own.
 */
static int conn_waits(const struct conn *c)
{
    return c->state == OPEN && c->end && c->wants_input && !c->wants_output &&
           !c->error && !c->blocked && c->shut != 1 && !conn_has_fds(c);
}

static int conn_rests(const struct conn *c)
{
    return conn_waits(c) && !buf_len(&c->work->out);
}

static int conn_may_move(struct conn *c)
{
    return !c->pinned && c->callbacks->may_move && c->callbacks->may_move(c, c->arg);
}

static void conn_tell_rest(struct conn *c)
{
    if (c->all->on_rest && conn_rests(c))
        c->all->on_rest(c, c->all->rest_arg);
}

/* Before its last output leaves: where that has arrived, so has this. */
static void conn_note_rest(struct conn *c)
{
    if (!c->has_checkpoint && conn_waits(c) && conn_may_move(c))
        journal_anew(c->all->journal, c->record, bytes_of(&c->work->in),
                     buf_len(&c->work->out));
}

static void conn_tell_room(struct conn *c)
{
    if (c->wants_output && conn_has_room(c)) {
        c->wants_output = NOTHING;
        c->callbacks->on_room(c, c->arg);
    }
}

/* Whoever waits hears of it from the flush job. */
void conn_fail(struct conn *c, int error)
{
    c->error = (uint16_t)error;
    buf_release(&c->work->out);
    conn_watch(c, 0);
    conn_flush_soon(c);
}

/* Each may close the conn; it is not freed before they have returned. */
static void conn_tell_output(struct conn *c)
{
    conn_tell_room(c);
    if (c->state == OPEN && c->error)
        conn_tell_input(c);
}

static void conn_read_ahead(struct conn *c)
{
    c->is_ahead = conn_fill(c) > 0;
    loop_soon(c->all->loop, &conn_work(c)->news);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct conn *c = w->data;
    (void)ev;
    c->all->loop->events++;
    if (revents & EV_READ)
        c->drained = 0;
    if (revents & EV_WRITE) {
        c->blocked = 0;
        if (conn_flush(c) != 0)
            conn_watch(c, conn_watched(c) & EV_READ);
        conn_relax(c);
    }
    if (revents & EV_READ && c->state == OPEN && !c->wants_input)
        conn_watch(c, conn_watched(c) & EV_WRITE);
    if (c->state != OPEN) {
        conn_step_close(c);
        return;
    }
    conn_tell_room(c);
    if (c->state == OPEN && c->wants_input && revents & EV_READ)
        conn_read_ahead(c);
}

static void on_news(void *arg)
{
    struct conn *c = arg;
    if (c->state == OPEN)
        conn_tell_input(c);
}

static void on_flush(void *arg)
{
    struct conn *c = arg;
    if (c->state == CLOSED)
        return;
    if (conn_is_noted(c))
        conn_note_rest(c);
    conn_flush(c);
    if (c->state == OPEN)
        conn_tell_output(c);
    else
        conn_step_close(c);
    conn_tell_rest(c);
    conn_relax(c);
}

/* -- time ---------------------------------------------------------------------------- */

static void queue_put(struct conn_queue *q, struct conn *c)
{
    c->queue = q;
    c->next = NULL;
    c->prev = q->end;
    *q->end = c;
    q->end = &c->next;
}

static void queue_remove(struct conn *c)
{
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
    else
        c->queue->end = c->prev;
}

static void queue_move(struct conn_queue *q, struct conn *c)
{
    queue_remove(c);
    c->active = q->all->loop->clock.now;
    queue_put(q, c);
}

/* The timer is for who was the first when it was started; it may have left by then. */
static void queue_start_timer(struct conn_queue *q)
{
    if (q->first && !q->timer.place && !isinf(q->patience))
        timer_start(&q->all->loop->clock, &q->timer, q->first->active + q->patience);
}

static void on_timer(void *arg)
{
    struct conn_queue *q = arg;
    double now = q->all->loop->clock.now;
    for (struct conn *c; (c = q->first) && c->active + q->patience <= now;) {
        queue_move(q, c);
        q->expired(c, c->arg);
    }
    queue_start_timer(q);
}

void conn_queue_open(struct conn_queue *q, struct conns *all, double patience,
                     void (*expired)(struct conn *c, void *arg))
{
    *q = (struct conn_queue){.all = all, .patience = patience, .expired = expired};
    q->end = &q->first;
    q->next = all->queues;
    all->queues = q;
    timer_init(&q->timer, on_timer, q);
}

void conn_queue_close(struct conn_queue *q)
{
    struct conn_queue **at = &q->all->queues;
    assert(!q->first);
    while (*at != q)
        at = &(*at)->next;
    *at = q->next;
    timer_stop(&q->all->loop->clock, &q->timer);
}

static struct conn *queues_first(const struct conn_queue *q)
{
    while (q && !q->first)
        q = q->next;
    return q ? q->first : NULL;
}

struct conn *conns_first(const struct conns *all)
{
    return queues_first(all->queues);
}

struct conn *conn_next(const struct conn *c)
{
    return c->next ? c->next : queues_first(c->queue->next);
}

void conn_join(struct conn *c, struct conn_queue *q)
{
    if (!q)
        q = &c->all->open;
    queue_move(q, c);
    queue_start_timer(q);
}

/* Who was touched at that very time is among the last, and stays where it is. */
static void conn_touch(struct conn *c)
{
    if (c->active != c->all->loop->clock.now)
        queue_move(c->queue, c);
}

/* -- opening and closing ------------------------------------------------------------- */

static int conn_kind_of(int fd)
{
    int domain;
    socklen_t len = sizeof domain;
    struct stat st;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0)
        return domain == AF_UNIX ? UNIX : SOCKET;
    if (fstat(fd, &st) < 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        return -1;
    return PIPE;
}

struct conn *conn_open(struct conns *all, int fd)
{
    int kind = conn_kind_of(fd);
    if (kind < 0) {
        errno = EINVAL;
        return NULL;
    }
    struct conn *c = alloc_zero(sizeof *c);
    c->all = all;
    c->work = &nothing;
    c->kind = (uint8_t)kind;
    c->active = all->loop->clock.now;
    ev_io_init(&c->io, on_io, fd, 0);
    c->io.data = c;
    queue_put(&all->open, c);
    queue_start_timer(&all->open);
    return c;
}

void conn_connecting(struct conn *c)
{
    conn_block(c);
}

void conn_set_owner(struct conn *c, const struct conn_callbacks *callbacks, void *arg)
{
    c->callbacks = callbacks;
    c->arg = arg;
    c->wants_input = c->wants_output = 0;
}

void conn_on_end(struct conn *c, const struct conn_end *end)
{
    c->end = end;
}

static void conn_close_fds(struct conn *c)
{
    for (int fd; (fd = conn_take_fd(c)) >= 0;)
        close(fd);
}

/* Its jobs may still be to come, but do nothing then. */
static void conn_end_work(struct conn *c)
{
    struct conn_work *w = c->work;
    if (w == &nothing)
        return;
    if (!work_has_jobs(w)) {
        conn_give_work(c);
        return;
    }
    c->work = &nothing;
    work_clear(w);
    loop_free_later(c->all->loop, w);
}

/* shutdown first: a duplicate of this descriptor elsewhere would hold back the FIN. */
static void conn_close_fd(struct conn *c)
{
    if (!c->given && c->kind != PIPE)
        shutdown(c->io.fd, SHUT_RDWR);
    if (c->registered)
        loop_forget(c->all->loop, c->io.fd);
    close(c->io.fd);
}

static void conn_end(struct conn *c)
{
    c->state = CLOSED;
    conn_watch(c, 0);
    if (c->counted)
        census_leave(&c->all->census, c->io.fd);
    conn_pin(c, 0);
    conn_close_fd(c);
    if (conn_is_noted(c))
        journal_end(c->all->journal, c->record);
    conn_close_fds(c);
    conn_end_work(c);
    conn_drop_checkpoint(c);
    queue_remove(c);
    if (c->end)
        c->end->fn(c->end->arg);
    loop_free_later(c->all->loop, c);
}

static void on_stalled(struct conn *c, void *arg)
{
    (void)arg;
    conn_end(c);
}

static void on_idle(struct conn *c, void *arg)
{
    (void)arg;
    conn_fail(c, ETIMEDOUT);
}

static double idle_patience(const struct conn_limits *limits)
{
    if (limits->idle <= 0)
        return INFINITY;
    return limits->idle > IDLE_MIN ? limits->idle : IDLE_MIN;
}

void conns_open(struct conns *all, struct loop *loop, const struct conn_limits *limits)
{
    *all = (struct conns){.loop = loop, .limits = *limits};
    conn_queue_open(&all->open, all, idle_patience(limits), on_idle);
    conn_queue_open(&all->flushing, all, FLUSH_SECONDS, on_stalled);
    conn_queue_open(&all->lingering, all, LINGER_SECONDS, on_stalled);
}

void conns_end(struct conns *all)
{
    for (struct conn *c; (c = conns_first(all));)
        conn_end(c);
    while (all->queues)
        conn_queue_close(all->queues);
    for (struct conn_work *w; (w = all->spare);) {
        all->spare = w->next;
        work_free(w);
    }
    all->spare_bytes = 0;
}

/* Throws input away: 1 there may be more, 0 none now, -1 the client has ended. */
static int conn_drain_input(struct conn *c)
{
    char sink[16384];
    ssize_t n = read(c->io.fd, sink, sizeof sink);
    if (n < 0 && errno == EINTR)
        return 1;
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    return n > 0 ? 1 : -1;
}

static int conn_needs_linger(struct conn *c)
{
    if (c->kind == PIPE || c->given || c->at_end || c->error)
        return 0;
    if (c->lingers || buf_len(&c->work->in) > 0)
        return 1;
    int unread = 0;
    return !c->is_silent && ioctl(c->io.fd, FIONREAD, &unread) == 0 && unread > 0;
}

static void conn_begin_linger(struct conn *c)
{
    c->state = LINGERING;
    shutdown(c->io.fd, SHUT_WR);
    conn_join(c, &c->all->lingering);
    conn_watch(c, EV_READ);
}

static void conn_step_close(struct conn *c)
{
    if (c->state == FLUSHING && (c->error || buf_len(&c->work->out) == 0)) {
        if (!conn_needs_linger(c)) {
            conn_end(c);
            return;
        }
        conn_begin_linger(c);
    }
    if (c->state != LINGERING)
        return;
    int some, rounds = 16;
    while ((some = conn_drain_input(c)) > 0 && --rounds)
        ;
    if (some < 0)
        conn_end(c);
}

void conn_linger(struct conn *c)
{
    c->lingers = 1;
}

void conn_silent(struct conn *c)
{
    c->is_silent = 1;
}

void conn_close(struct conn *c)
{
    if (c->state != OPEN)
        return;
    if (conn_is_noted(c))
        journal_leaves(c->all->journal, c->record, buf_len(&c->work->out));
    c->state = FLUSHING;
    c->wants_input = c->wants_output = 0;
    conn_watch(c, conn_watched(c) & EV_WRITE); /* nobody takes what else comes */
    conn_join(c, &c->all->flushing);
    conn_flush_soon(c);
}

/* -- input --------------------------------------------------------------------------- */

static void conn_keep_fd(struct conn *c, int fd)
{
    struct conn_work *w = conn_work(c);
    if (!w->fds)
        w->fds = alloc_zero(sizeof *w->fds);
    if (w->fds->count < FDS_MAX)
        w->fds->fds[w->fds->count++] = fd;
    else
        close(fd);
}

int conn_passes_fds(const struct conn *c)
{
    return c->kind == UNIX;
}

int conn_take_fd(struct conn *c)
{
    struct fd_queue *q = c->work->fds;
    if (!q || !q->count)
        return -1;
    int fd = q->fds[0];
    q->count--;
    memmove(q->fds, q->fds + 1, sizeof *q->fds * (size_t)q->count);
    return fd;
}

/* On a unix socket plain read(2) would throw away descriptors that come with the bytes.
 */
static ssize_t conn_read_unix(struct conn *c, void *data, size_t size)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        struct cmsghdr align;
    } control;
    struct iovec iov = {data, size};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(c->io.fd, &h, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return n;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(&h); m; m = CMSG_NXTHDR(&h, m)) {
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (m->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(m) + i * sizeof fd, sizeof fd);
            conn_keep_fd(c, fd);
        }
    }
    return n;
}

static ssize_t conn_read_kind(struct conn *c, void *data, size_t size)
{
    switch (c->kind) {
    case SOCKET:
        return recv(c->io.fd, data, size, MSG_DONTWAIT); /* 40 ns less than read(2) */
    case UNIX:
        return conn_read_unix(c, data, size);
    default:
        return read(c->io.fd, data, size);
    }
}

static ssize_t conn_read_once(struct conn *c, void *data, size_t size)
{
    struct journal_record *r = c->record;
    if (!conn_is_noted(c))
        return conn_read_kind(c, data, size);
    journal_taking(r);
    ssize_t n = conn_read_kind(c, data, size);
    journal_took(r, n > 0 ? (size_t)n : 0);
    return n;
}

static ssize_t conn_read(struct conn *c, void *data, size_t size)
{
    ssize_t n;
    do
        n = conn_read_once(c, data, size);
    while (n < 0 && errno == EINTR);
    c->drained = n < (ssize_t)size;
    return n;
}

/* To where it is noted, from the first instant on. */
static ssize_t conn_read_noted(struct conn *c, char *to, size_t room, size_t most)
{
    ssize_t n = conn_read(c, to, room < most ? room : most);
    buf_append(conn_input(c), to, n > 0 ? (size_t)n : 0);
    return n;
}

/* Where there is no buffer yet, none is made before it is known how much came. */
static ssize_t conn_read_some(struct conn *c, size_t most)
{
    char some[READ_MAX];
    struct buf *in = conn_input(c);
    size_t noted;
    char *to = conn_is_noted(c) ? journal_room(c->all->journal, c->record, &noted) : NULL;
    if (to)
        return conn_read_noted(c, to, noted, most);
    if (most > READ_MAX)
        most = READ_MAX;
    if (buf_room(in) >= READ_MIN) {
        size_t room = buf_room(in) < most ? buf_room(in) : most;
        ssize_t n = conn_read(c, buf_reserve(in, room), room);
        buf_added(in, n > 0 ? (size_t)n : 0);
        return n;
    }
    ssize_t n = conn_read(c, some, most);
    buf_append(in, some, n > 0 ? (size_t)n : 0);
    return n;
}

int conn_fill(struct conn *c)
{
    size_t held = buf_len(&c->work->in);
    int is_ahead = c->is_ahead && held; /* it may have been taken without asking */
    c->is_ahead = 0;
    if (is_ahead)
        return 1;
    if (c->at_end || c->error)
        return -1;
    if (held >= c->all->limits.read) {
        errno = ENOBUFS;
        return -1;
    }
    if (c->drained || !conn_takes_turn(c))
        return 0;
    ssize_t n = conn_read_some(c, c->all->limits.read - held);
    if (n > 0) {
        conn_touch(c);
        return 1;
    }
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n == 0)
        c->at_end = 1;
    else
        conn_fail(c, errno);
    return -1;
}

struct buf *conn_input(struct conn *c)
{
    return &conn_work(c)->in;
}

void conn_want_input(struct conn *c, int on)
{
    c->wants_input = (uint8_t)on;
    if (!on || c->state != OPEN)
        return;
    conn_watch(c, conn_watched(c) | EV_READ);
    if (c->all->on_rest)
        conn_flush_soon(c);
    conn_relax(c);
}

int conn_error(const struct conn *c)
{
    return c->error;
}

int conn_is_at_end(const struct conn *c)
{
    return c->at_end;
}

/* -- output -------------------------------------------------------------------------- */

/* n is all that there is to be sent now. */
static void conn_sending(struct conn *c, size_t n)
{
    if (conn_is_noted(c))
        journal_sending(c->record, n);
}

/* What came of one write(2) or the like: bytes, 0 the kernel takes no more, -1 failed. */
static ssize_t conn_sent(struct conn *c, ssize_t n)
{
    if (n > 0)
        conn_touch(c);
    if (conn_is_noted(c))
        journal_sent(c->record, n > 0 ? (size_t)n : 0);
    if (n >= 0)
        return n;
    if (errno == EINTR)
        return 0;
    if (errno == EAGAIN || errno == ETOOMANYREFS)
        return conn_block(c);
    conn_fail(c, errno);
    return -1;
}

/* The end follows at once, and then travels with the last of the output. */
static int conn_ends(const struct conn *c)
{
    return (c->shut == 1 || c->state == FLUSHING) && !c->given;
}

static ssize_t conn_send(struct conn *c, const void *data, size_t n)
{
    int flags = MSG_NOSIGNAL | MSG_DONTWAIT | (conn_ends(c) ? MSG_MORE : 0);
    if (!conn_takes_turn(c))
        return conn_block(c);
    conn_sending(c, n);
    return conn_sent(c, c->kind == PIPE ? write(c->io.fd, data, n)
                                        : send(c->io.fd, data, n, flags));
}

static void conn_shut(struct conn *c)
{
    if (c->shut != 1)
        return;
    c->shut = 2;
    if (c->kind != PIPE)
        shutdown(c->io.fd, SHUT_WR);
}

int conn_flush(struct conn *c)
{
    struct buf *out = &c->work->out;
    if (c->error)
        return -1;
    while (!c->blocked && buf_len(out)) {
        ssize_t n = conn_send(c, buf_head(out), buf_len(out));
        if (n < 0)
            return -1;
        buf_skip(out, (size_t)n);
    }
    if (c->blocked)
        return 0;
    conn_shut(c);
    return 1;
}

/* A copy is cheaper than a system call, but not for much at a time. */
static int conn_is_worth_sending(const struct conn *c, size_t n)
{
    return n >= DIRECT_MIN && !c->blocked;
}

/* What is held and data, in one system call: how much of data, or as conn_sent. */
static ssize_t conn_send_with(struct conn *c, const void *data, size_t n)
{
    struct buf *out = &conn_work(c)->out;
    size_t held = buf_len(out);
    struct iovec iov[] = {{buf_head(out), held}, {(void *)data, n}};
    struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
    if (!conn_takes_turn(c))
        return conn_block(c);
    conn_sending(c, held + n);
    ssize_t sent = conn_sent(c, c->kind == PIPE
                                    ? writev(c->io.fd, iov, 2)
                                    : sendmsg(c->io.fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT));
    if (sent <= 0)
        return sent;
    size_t before = (size_t)sent < held ? (size_t)sent : held;
    buf_skip(out, before);
    return sent - (ssize_t)before;
}

static ssize_t conn_hold(struct conn *c, const void *data, size_t n)
{
    if (n > conn_room(c))
        n = conn_room(c);
    buf_append(&conn_work(c)->out, data, n);
    conn_flush_soon(c);
    return (ssize_t)n;
}

ssize_t conn_write(struct conn *c, const void *data, size_t n)
{
    if (c->shut || c->error)
        return -1;
    ssize_t sent = conn_is_worth_sending(c, n) ? conn_send_with(c, data, n) : 0;
    if (sent)
        return sent;
    if (buf_len(&c->work->out) + n > c->all->limits.write && conn_flush(c) < 0)
        return -1;
    return conn_hold(c, data, n);
}

void conn_put(struct conn *c, const void *data, size_t n)
{
    if (c->shut || c->error)
        return;
    buf_append(&conn_work(c)->out, data, n);
    conn_flush_soon(c);
}

char *conn_prepare(struct conn *c, size_t n)
{
    return buf_reserve(&conn_work(c)->out, n);
}

void conn_prepared(struct conn *c, size_t n)
{
    if (c->shut || c->error)
        return;
    buf_added(&c->work->out, n);
    conn_flush_soon(c);
}

size_t conn_room(const struct conn *c)
{
    size_t held = buf_len(&c->work->out);
    return held < c->all->limits.write ? c->all->limits.write - held : 0;
}

size_t conn_untaken(const struct conn *c)
{
    int queued = 0;
    ioctl(c->io.fd, SIOCOUTQ, &queued);
    return buf_len(&c->work->out) + (size_t)queued;
}

static void conn_want_output(struct conn *c, int want)
{
    c->wants_output = (uint8_t)want;
    if (want && c->state == OPEN)
        conn_flush_soon(c);
}

void conn_want_room(struct conn *c, int on)
{
    conn_want_output(c, on ? ROOM : NOTHING);
}

void conn_want_drained(struct conn *c, int on)
{
    conn_want_output(c, on ? DRAINED : NOTHING);
}

/* What goes out together with what is written before and after it. */
static int conn_hold_file(struct conn *c, int file, off_t *offset, size_t *left)
{
    struct buf *out = &conn_work(c)->out;
    conn_flush_soon(c);
    while (*left) {
        ssize_t n = pread(file, buf_reserve(out, *left), *left, *offset);
        if (n == 0) /* the file has become shorter */
            return 1;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            conn_fail(c, errno);
            return -1;
        }
        buf_added(out, (size_t)n);
        *offset += n;
        *left -= (size_t)n;
    }
    return 1;
}

int conn_sendfile(struct conn *c, int file, off_t *offset, size_t *left)
{
    if (c->shut || c->error)
        return -1;
    if (*left <= COPY_MAX && *left <= conn_room(c))
        return conn_hold_file(c, file, offset, left);
    int flushed = conn_flush(c);
    while (flushed > 0 && *left) {
        if (!conn_takes_turn(c))
            return conn_block(c);
        size_t most = *left < SENDFILE_MAX ? *left : SENDFILE_MAX;
        conn_sending(c, *left);
        ssize_t n = sendfile(c->io.fd, file, offset, most);
        if (n == 0) /* likewise */
            return 1;
        n = conn_sent(c, n);
        if (n < 0 || c->blocked)
            return (int)n;
        *left -= (size_t)n;
    }
    return flushed;
}

int conn_is_shut(const struct conn *c)
{
    return c->shut != 0;
}

void conn_shutdown(struct conn *c)
{
    if (!c->shut) {
        c->shut = 1;
        conn_flush_soon(c);
    }
}

/* -- moving -------------------------------------------------------------------------- */

void conns_watch_rest(struct conns *all, void (*fn)(struct conn *c, void *arg), void *arg)
{
    all->on_rest = fn;
    all->rest_arg = arg;
    for (struct conn *c = conns_first(all), *next; c && fn; c = next) {
        next = conn_next(c);
        conn_tell_rest(c);
    }
}

void conn_leave(struct conn *c, int has_state)
{
    c->has_checkpoint = has_state != 0;
}

void conn_pack_all(const struct conn *c, struct parcel *p)
{
    const struct conn_work *w = c->work;
    *p = (struct parcel){.counted = c->counted,
                         .crashes = c->record ? c->record->crashes : 0,
                         .has_state = c->has_checkpoint,
                         .input = buf_head(&w->in),
                         .input_len = buf_len(&w->in),
                         .unsent = buf_head(&w->out),
                         .unsent_len = buf_len(&w->out)};
    if (c->has_checkpoint) {
        p->state = buf_head(c->checkpoint);
        p->state_len = buf_len(c->checkpoint);
    }
}

int conn_pack(struct conn *c, struct parcel *p)
{
    if (!conn_rests(c) || !conn_may_move(c))
        return 0;
    conn_pack_all(c, p);
    return 1;
}

void conn_moved(struct conn *c, enum parcel_why why)
{
    if (c->callbacks->on_moved)
        c->callbacks->on_moved(c, why, c->arg);
    c->given = 1;
    conn_end(c);
}

void conn_arrived(struct conn *c, const struct parcel *p)
{
    c->admitted = p->counted != 0;
    buf_append(conn_input(c), p->input, p->input_len);
    conn_put(c, p->unsent, p->unsent_len);
}

struct buf *conn_checkpoint(struct conn *c)
{
    if (!c->checkpoint)
        c->checkpoint = alloc_zero(sizeof *c->checkpoint);
    return c->checkpoint;
}

/* Descriptors that came and were not taken are in no journal. */
static void conn_note_checkpoint(struct conn *c)
{
    if (c->pinned || conn_has_fds(c))
        journal_busy(c->all->journal, c->record);
    else
        journal_state(c->all->journal, c->record, bytes_of(&c->work->in),
                      bytes_of(&c->work->out), bytes_of(c->checkpoint));
}

void conn_set_checkpoint(struct conn *c, enum conn_reread how)
{
    c->has_checkpoint = 1;
    c->reread = (uint8_t)how;
    if (conn_is_noted(c))
        conn_note_checkpoint(c);
}

void conn_forget_checkpoint(struct conn *c)
{
    c->has_checkpoint = 0;
}

void conn_use_read(struct conn *c)
{
    if (conn_is_noted(c) && c->reread == CONN_ENDS)
        journal_busy(c->all->journal, c->record);
    else if (conn_is_noted(c) && c->reread == CONN_READS_ON)
        journal_skip(c->all->journal, c->record, buf_len(&c->work->in));
}

void conn_read_on(struct conn *c)
{
    conn_forget_checkpoint(c);
    conn_use_read(c);
}

void conn_survive(struct conn *c, struct journal_record *r)
{
    c->record = r;
}

uint32_t conn_record(const struct conn *c)
{
    return conn_is_noted(c) ? journal_index(c->all->journal, c->record) : 0;
}

void conn_name_work(struct conn *c, const char *name, size_t len)
{
    if (conn_is_noted(c))
        journal_note_doing(c->record, name, len);
}

void conn_busy(struct conn *c)
{
    if (conn_is_noted(c))
        journal_busy(c->all->journal, c->record);
}

int conn_has_checkpoint(const struct conn *c)
{
    return c->has_checkpoint;
}

/* Counted for all to see: its worker is not to be ended for being slow to end. */
void conn_pin(struct conn *c, int on)
{
    const struct census *census = &c->all->census;
    if (c->pinned == on)
        return;
    c->pinned = on != 0;
    if (on)
        conn_busy(c);
    atomic_fetch_add(&census->cells[census->self].pinned, on ? 1 : -1u);
}

void conns_cut(struct conns *all)
{
    for (struct conn *c = conns_first(all); c; c = conn_next(c))
        if (c->end && !c->pinned)
            conn_fail(c, ECANCELED);
}

/* -- the rest ------------------------------------------------------------------------ */

int conn_peer(const struct conn *c, struct address *a)
{
    a->len = sizeof a->sa;
    return getpeername(c->io.fd, &a->any, &a->len);
}

int conn_sock(const struct conn *c, struct address *a)
{
    a->len = sizeof a->sa;
    return getsockname(c->io.fd, &a->any, &a->len);
}

int conn_admit(struct conn *c, uint32_t most)
{
    struct address peer;
    uint64_t holder = conn_peer(c, &peer) < 0 ? 0 : address_holder(&peer);
    if (!holder || c->counted)
        return 1;
    if (c->admitted)
        most = UINT32_MAX;
    c->counted = census_enter(&c->all->census, c->io.fd, holder, most) != 0;
    if (conn_is_noted(c))
        c->record->counted = c->counted;
    return c->counted;
}

ssize_t conn_send_fd(struct conn *c, int fd, const void *data, size_t n)
{
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {(void *)data, n};
    struct msghdr h = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    struct cmsghdr *m = CMSG_FIRSTHDR(&h);
    m->cmsg_level = SOL_SOCKET;
    m->cmsg_type = SCM_RIGHTS;
    m->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(m), &fd, sizeof fd);
    if (c->shut)
        return -1;
    int flushed = conn_flush(c);
    if (flushed <= 0)
        return flushed;
    conn_sending(c, n);
    return conn_sent(c, sendmsg(c->io.fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT));
}

int conn_fd(const struct conn *c)
{
    return c->io.fd;
}

void *conn_end_arg(const struct conn *c)
{
    return c->end ? c->end->arg : NULL;
}

uint32_t conn_count(struct conn *c)
{
    return ++c->count;
}

void conn_give(struct conn *c)
{
    c->given = 1;
}
