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
 * Lingering is for clients that are still sending: closing with unread input makes the
 * kernel answer with a reset, which may destroy what the client has not read yet
 * (RFC 9112 9.6). Where nothing is unread, the conn is closed at once.
 */
#include "conn.h"

#include "alloc.h"
#include "fd.h"

#include <errno.h>
#include <linux/sockios.h>
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
    SPARE_MAX = 1024,  /* bytes of a buffer that is kept */
    DIRECT_MIN = 8192, /* output of this size is written without a copy */
    COPY_MAX = 8192,   /* of a file: less is copied, for one system call less */
    SENDFILE_MAX = 1 << 20,
    MOVES_PER_TURN = 4,
    FDS_MAX = 64,       /* descriptors that came and were not taken yet */
    FLUSH_SECONDS = 10, /* without progress, while a conn is being closed */
    LINGER_SECONDS = 2,
};

enum conn_kind { SOCKET, UNIX, PIPE };
enum conn_state { OPEN, FLUSHING, LINGERING, CLOSED };
enum conn_want { NOTHING, ROOM, DRAINED };

struct fd_queue {
    int count;
    int fds[FDS_MAX];
};

struct conn {
    struct loop *loop;
    struct conns *all;
    struct conn *next, **prev; /* in all; prev: what points to this one */
    const struct conn_callbacks *callbacks;
    void *arg;
    void (*ended)(void *arg);
    void *ended_arg;
    struct buf in, out;
    struct buf checkpoint;
    struct fd_queue *fds; /* NULL unless one has come */
    ev_io io;
    struct timer timer;
    struct loop_job flush;
    double active; /* when the last byte moved */
    int error;
    uint32_t turn; /* of the loop, in which it has tried so many moves: */
    uint8_t moves;
    uint8_t kind, state, at_end, given;
    uint8_t wants_input;
    uint8_t drained;      /* the last read had all: EV_READ tells of more */
    uint8_t wants_output; /* enum conn_want */
    uint8_t blocked;      /* the kernel took no more output, or may not in this turn */
    uint8_t registered;   /* it has been in the epoll set */
    uint8_t shut;         /* 1: asked for, 2: done */
    uint8_t lingers;      /* in any case */
    uint8_t counted;      /* in the census */
    uint8_t admitted;     /* it was, elsewhere */
    uint8_t has_checkpoint, pinned;
};

static void conn_step_close(struct conn *c);

/* -- buffers: most hold little and not for long -------------------------------------- */

static void conn_append(struct conn *c, struct buf *b, const void *data, size_t n)
{
    if (!b->data && c->all->spare_count)
        *b = c->all->spares[--c->all->spare_count];
    buf_append(b, data, n);
}

static void conn_drop(struct conn *c, struct buf *b)
{
    struct conns *all = c->all;
    size_t most = sizeof all->spares / sizeof *all->spares;
    buf_skip(b, buf_len(b));
    if (b->size && b->size <= SPARE_MAX && (size_t)all->spare_count < most) {
        all->spares[all->spare_count++] = *b;
        *b = (struct buf){0};
    } else {
        buf_release(b);
    }
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
    ev_io_stop(c->loop->ev, &c->io);
    ev_io_modify(&c->io, events);
    if (events)
        ev_io_start(c->loop->ev, &c->io);
    c->registered |= events != 0;
}

/* Whether it may move bytes once more in this turn. */
static int conn_takes_turn(struct conn *c)
{
    if (c->turn != c->loop->turns) {
        c->turn = c->loop->turns;
        c->moves = 0;
    }
    if (c->moves == MOVES_PER_TURN)
        return 0;
    c->moves++;
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
    size_t left = buf_len(&c->out);
    if (c->error)
        return 1;
    return c->wants_output == DRAINED ? left == 0 && !c->blocked
                                      : left <= c->all->limits.write / 2;
}

/* Who has no end to tell of is nobody's client: it is a connection of the script's own. */
static int conn_rests(const struct conn *c)
{
    return c->state == OPEN && c->ended && c->wants_input && !c->wants_output &&
           !c->error && !c->blocked && !buf_len(&c->out) && c->shut != 1 &&
           !(c->fds && c->fds->count);
}

static void conn_tell_rest(struct conn *c)
{
    if (c->all->on_rest && conn_rests(c))
        c->all->on_rest(c, c->all->rest_arg);
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
    c->error = error;
    conn_drop(c, &c->out);
    conn_watch(c, 0);
    loop_last(c->loop, &c->flush);
}

/* Both callbacks may close the conn; it is not freed before they have returned. */
static void conn_tell(struct conn *c, int input)
{
    if (c->state == OPEN)
        conn_tell_room(c);
    if (c->state == OPEN && (input || c->error))
        conn_tell_input(c);
}

static void on_io(struct ev_loop *ev, ev_io *w, int revents)
{
    struct conn *c = w->data;
    (void)ev;
    c->loop->events++;
    if (revents & EV_READ)
        c->drained = 0;
    if (revents & EV_WRITE) {
        c->blocked = 0;
        if (conn_flush(c) != 0)
            conn_watch(c, conn_watched(c) & EV_READ);
    }
    if (revents & EV_READ && c->state == OPEN && !c->wants_input)
        conn_watch(c, conn_watched(c) & EV_WRITE);
    if (c->state == OPEN)
        conn_tell(c, revents & EV_READ);
    else
        conn_step_close(c);
}

static void on_flush(void *arg)
{
    struct conn *c = arg;
    if (c->state == CLOSED)
        return;
    conn_flush(c);
    if (c->state == OPEN)
        conn_tell(c, 0);
    else
        conn_step_close(c);
    conn_tell_rest(c);
}

/* -- time ---------------------------------------------------------------------------- */

static void conn_touch(struct conn *c)
{
    c->active = c->loop->clock.now;
}

static double conn_patience(const struct conn *c)
{
    if (c->state == OPEN)
        return c->all->limits.idle;
    return c->state == FLUSHING ? FLUSH_SECONDS : LINGER_SECONDS;
}

/* Each byte only notes the time; the timer looks at the note when it fires. */
static void conn_start_timer(struct conn *c)
{
    if (conn_patience(c) > 0)
        timer_start(&c->loop->clock, &c->timer, c->active + conn_patience(c));
}

static void conn_end(struct conn *c);

static void on_timer(void *arg)
{
    struct conn *c = arg;
    if (c->active + conn_patience(c) > c->loop->clock.now)
        conn_start_timer(c);
    else if (c->state != OPEN)
        conn_end(c);
    else
        conn_fail(c, ETIMEDOUT);
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

static void conn_link(struct conn *c, struct conns *all)
{
    c->next = all->first;
    c->prev = &all->first;
    if (c->next)
        c->next->prev = &c->next;
    all->first = c;
}

static void conn_unlink(struct conn *c)
{
    *c->prev = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

struct conn *conn_open(struct conns *all, int fd)
{
    int kind = conn_kind_of(fd);
    if (kind < 0) {
        errno = EINVAL;
        return NULL;
    }
    struct conn *c = alloc_zero(sizeof *c);
    c->loop = all->loop;
    c->all = all;
    conn_link(c, all);
    c->kind = (uint8_t)kind;
    c->flush = (struct loop_job){.run = on_flush, .arg = c};
    timer_init(&c->timer, on_timer, c);
    ev_io_init(&c->io, on_io, fd, 0);
    c->io.data = c;
    conn_touch(c);
    conn_start_timer(c);
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

void conn_on_end(struct conn *c, void (*fn)(void *arg), void *arg)
{
    c->ended = fn;
    c->ended_arg = arg;
}

static void conn_release_fds(struct conn *c)
{
    for (int fd; (fd = conn_take_fd(c)) >= 0;)
        close(fd);
    free(c->fds);
}

/* shutdown first: a duplicate of this descriptor elsewhere would hold back the FIN. */
static void conn_close_fd(struct conn *c)
{
    if (!c->given && c->kind != PIPE)
        shutdown(c->io.fd, SHUT_RDWR);
    if (c->registered)
        loop_forget(c->loop, c->io.fd);
    close(c->io.fd);
}

static void conn_end(struct conn *c)
{
    c->state = CLOSED;
    conn_watch(c, 0);
    timer_stop(&c->loop->clock, &c->timer);
    if (c->counted)
        census_leave(&c->all->census, c->io.fd);
    conn_pin(c, 0);
    conn_close_fd(c);
    conn_drop(c, &c->in);
    conn_drop(c, &c->out);
    buf_release(&c->checkpoint);
    conn_release_fds(c);
    conn_unlink(c);
    if (c->ended)
        c->ended(c->ended_arg);
    loop_free_later(c->loop, c);
}

void conns_end(struct conns *all)
{
    while (all->first)
        conn_end(all->first);
    while (all->spare_count)
        buf_release(&all->spares[--all->spare_count]);
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
    int unread = 0;
    return c->lingers || buf_len(&c->in) > 0 ||
           (ioctl(c->io.fd, FIONREAD, &unread) == 0 && unread > 0);
}

static void conn_begin_linger(struct conn *c)
{
    c->state = LINGERING;
    shutdown(c->io.fd, SHUT_WR);
    conn_touch(c); /* lingering is measured from here, whatever else comes */
    conn_start_timer(c);
    conn_watch(c, EV_READ);
}

static void conn_step_close(struct conn *c)
{
    if (c->state == FLUSHING && (c->error || buf_len(&c->out) == 0)) {
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

void conn_close(struct conn *c)
{
    if (c->state != OPEN)
        return;
    c->state = FLUSHING;
    c->wants_input = c->wants_output = 0;
    conn_watch(c, conn_watched(c) & EV_WRITE); /* nobody takes what else comes */
    conn_touch(c);
    conn_start_timer(c);
    loop_last(c->loop, &c->flush);
}

/* -- input --------------------------------------------------------------------------- */

static void conn_keep_fd(struct conn *c, int fd)
{
    if (!c->fds)
        c->fds = alloc_zero(sizeof *c->fds);
    if (c->fds->count < FDS_MAX)
        c->fds->fds[c->fds->count++] = fd;
    else
        close(fd);
}

int conn_passes_fds(const struct conn *c)
{
    return c->kind == UNIX;
}

int conn_take_fd(struct conn *c)
{
    if (!c->fds || !c->fds->count)
        return -1;
    int fd = c->fds->fds[0];
    c->fds->count--;
    memmove(c->fds->fds, c->fds->fds + 1, sizeof *c->fds->fds * (size_t)c->fds->count);
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

static ssize_t conn_read_once(struct conn *c, void *data, size_t size)
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

static ssize_t conn_read(struct conn *c, void *data, size_t size)
{
    ssize_t n;
    do
        n = conn_read_once(c, data, size);
    while (n < 0 && errno == EINTR);
    c->drained = n < (ssize_t)size;
    return n;
}

/* Where there is no buffer yet, none is made before it is known how much came. */
static ssize_t conn_read_some(struct conn *c, size_t most)
{
    char some[READ_MAX];
    if (most > READ_MAX)
        most = READ_MAX;
    if (buf_room(&c->in) >= READ_MIN) {
        size_t room = buf_room(&c->in) < most ? buf_room(&c->in) : most;
        ssize_t n = conn_read(c, buf_reserve(&c->in, room), room);
        buf_added(&c->in, n > 0 ? (size_t)n : 0);
        return n;
    }
    ssize_t n = conn_read(c, some, most);
    conn_append(c, &c->in, some, n > 0 ? (size_t)n : 0);
    return n;
}

int conn_fill(struct conn *c)
{
    size_t held = buf_len(&c->in);
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
    return &c->in;
}

void conn_want_input(struct conn *c, int on)
{
    c->wants_input = (uint8_t)on;
    if (!on || c->state != OPEN)
        return;
    if (!buf_len(&c->in))
        conn_drop(c, &c->in);
    conn_watch(c, conn_watched(c) | EV_READ);
    if (c->all->on_rest)
        loop_last(c->loop, &c->flush);
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

/* What came of one write(2) or the like: bytes, 0 the kernel takes no more, -1 failed. */
static ssize_t conn_sent(struct conn *c, ssize_t n)
{
    if (n > 0)
        conn_touch(c);
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
    if (c->error)
        return -1;
    while (!c->blocked && buf_len(&c->out)) {
        ssize_t n = conn_send(c, buf_head(&c->out), buf_len(&c->out));
        if (n < 0)
            return -1;
        buf_skip(&c->out, (size_t)n);
    }
    if (c->blocked)
        return 0;
    conn_drop(c, &c->out);
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
    size_t held = buf_len(&c->out);
    struct iovec iov[] = {{buf_head(&c->out), held}, {(void *)data, n}};
    struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
    if (!conn_takes_turn(c))
        return conn_block(c);
    ssize_t sent = conn_sent(c, c->kind == PIPE
                                    ? writev(c->io.fd, iov, 2)
                                    : sendmsg(c->io.fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT));
    if (sent <= 0)
        return sent;
    size_t before = (size_t)sent < held ? (size_t)sent : held;
    buf_skip(&c->out, before);
    return sent - (ssize_t)before;
}

static ssize_t conn_hold(struct conn *c, const void *data, size_t n)
{
    if (n > conn_room(c))
        n = conn_room(c);
    conn_append(c, &c->out, data, n);
    loop_last(c->loop, &c->flush);
    return (ssize_t)n;
}

ssize_t conn_write(struct conn *c, const void *data, size_t n)
{
    if (c->shut || c->error)
        return -1;
    ssize_t sent = conn_is_worth_sending(c, n) ? conn_send_with(c, data, n) : 0;
    if (sent)
        return sent;
    if (buf_len(&c->out) + n > c->all->limits.write && conn_flush(c) < 0)
        return -1;
    return conn_hold(c, data, n);
}

void conn_put(struct conn *c, const void *data, size_t n)
{
    if (c->shut || c->error)
        return;
    conn_append(c, &c->out, data, n);
    loop_last(c->loop, &c->flush);
}

size_t conn_room(const struct conn *c)
{
    size_t held = buf_len(&c->out);
    return held < c->all->limits.write ? c->all->limits.write - held : 0;
}

size_t conn_untaken(const struct conn *c)
{
    int queued = 0;
    ioctl(c->io.fd, SIOCOUTQ, &queued);
    return buf_len(&c->out) + (size_t)queued;
}

static void conn_want_output(struct conn *c, int want)
{
    c->wants_output = (uint8_t)want;
    if (want && c->state == OPEN)
        loop_last(c->loop, &c->flush);
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
    loop_last(c->loop, &c->flush);
    while (*left) {
        ssize_t n = pread(file, buf_reserve(&c->out, *left), *left, *offset);
        if (n == 0) /* the file has become shorter */
            return 1;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            conn_fail(c, errno);
            return -1;
        }
        buf_added(&c->out, (size_t)n);
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

void conn_shutdown(struct conn *c)
{
    if (!c->shut) {
        c->shut = 1;
        loop_last(c->loop, &c->flush);
    }
}

/* -- moving -------------------------------------------------------------------------- */

void conns_watch_rest(struct conns *all, void (*fn)(struct conn *c, void *arg), void *arg)
{
    all->on_rest = fn;
    all->rest_arg = arg;
    for (struct conn *c = fn ? all->first : NULL; c; c = c->next)
        loop_last(all->loop, &c->flush);
}

int conn_pack(struct conn *c, struct parcel *p)
{
    if (!conn_rests(c) || c->pinned || !c->callbacks->may_move ||
        !c->callbacks->may_move(c, c->arg))
        return 0;
    *p = (struct parcel){.counted = c->counted,
                         .has_state = c->has_checkpoint,
                         .input = buf_head(&c->in),
                         .input_len = buf_len(&c->in)};
    if (c->has_checkpoint) {
        p->state = buf_head(&c->checkpoint);
        p->state_len = buf_len(&c->checkpoint);
    }
    return 1;
}

void conn_moved(struct conn *c, enum parcel_why why)
{
    c->callbacks->on_moved(c, why, c->arg);
    c->given = 1;
    conn_end(c);
}

void conn_arrived(struct conn *c, const struct parcel *p)
{
    c->admitted = (uint8_t)p->counted;
    conn_append(c, &c->in, p->input, p->input_len);
}

struct buf *conn_checkpoint(struct conn *c)
{
    return &c->checkpoint;
}

void conn_set_checkpoint(struct conn *c, int holds)
{
    c->has_checkpoint = (uint8_t)holds;
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
    c->pinned = (uint8_t)on;
    atomic_fetch_add(&census->cells[census->self].pinned, on ? 1 : -1u);
}

void conns_cut(struct conns *all)
{
    for (struct conn *c = all->first; c; c = c->next)
        if (c->ended && !c->pinned)
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
    c->counted = (uint8_t)census_enter(&c->all->census, c->io.fd, holder, most);
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
    return conn_sent(c, sendmsg(c->io.fd, &h, MSG_NOSIGNAL | MSG_DONTWAIT));
}

int conn_fd(const struct conn *c)
{
    return c->io.fd;
}

void *conn_end_arg(const struct conn *c)
{
    return c->ended_arg;
}

struct conn *conn_next(const struct conn *c)
{
    return c->next;
}

void conn_give(struct conn *c)
{
    c->given = 1;
}
