#include "peer.h"

#include "alloc.h"
#include "fd.h"
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES_PER_TURN = 64 };

/* After a send that failed for want of something whose return no descriptor tells. */
#define RETRY_SECONDS 0.01

struct waiting {
    struct waiting *next;
    size_t len;
    char data[];
};

struct peer {
    struct loop *loop;
    const struct peer_callbacks *callbacks;
    void *arg;
    int end;
    int open, paused, gone;
    int wants_room;
    struct waiting *first, **last;
    size_t queued, queue_limit;
    ev_io input, output;
    struct timer retry;
    struct channel_message message;
};

static void queue_drop_first(struct peer *p)
{
    struct waiting *w = p->first;
    p->first = w->next;
    if (!p->first)
        p->last = &p->first;
    p->queued -= w->len;
    free(w);
}

static void queue_clear(struct peer *p)
{
    while (p->first)
        queue_drop_first(p);
}

static void peer_stop_watching(struct peer *p)
{
    ev_io_stop(p->loop->ev, &p->input);
    ev_io_stop(p->loop->ev, &p->output);
    timer_stop(&p->loop->clock, &p->retry);
}

static void peer_gone(struct peer *p)
{
    p->gone = 1;
    queue_clear(p);
    peer_stop_watching(p);
    if (p->callbacks->on_gone)
        p->callbacks->on_gone(p, p->arg);
}

/* 0 nothing more now; 1 go on; 2 likewise, but what came had descriptors: it is work. */
static int peer_receive_one(struct peer *p)
{
    int got = channel_receive(p->end, &p->message);
    p->loop->events += got != 0;
    if (got > 0) {
        int has_fds = p->message.fd_count > 0;
        p->callbacks->on_message(p, &p->message, p->arg);
        channel_clear(&p->message);
        return has_fds ? 2 : 1;
    }
    if (got < 0 && errno == EBADMSG) {
        log_error("a message on a channel was bad and is dropped");
        return 1;
    }
    if (got < 0)
        peer_gone(p);
    return 0;
}

static int peer_receive_next(struct peer *p)
{
    return p->open && !p->paused && !p->gone ? peer_receive_one(p) : 0;
}

size_t peer_queued(const struct peer *p)
{
    return channel_queued(p->end);
}

void peer_receive(struct peer *p)
{
    while (peer_receive_next(p))
        ;
}

void peer_pause(struct peer *p)
{
    ev_io_stop(p->loop->ev, &p->input);
    p->paused = 1;
}

void peer_resume(struct peer *p)
{
    p->paused = 0;
    if (!p->gone)
        ev_io_start(p->loop->ev, &p->input);
}

static void on_input(struct ev_loop *ev, ev_io *w, int revents)
{
    int left = MESSAGES_PER_TURN;
    (void)ev, (void)revents;
    while (left-- && peer_receive_next(w->data) == 1)
        ;
}

static void queue_put(struct peer *p, const struct iovec *iov)
{
    struct waiting *w = alloc(sizeof *w + iov[0].iov_len + iov[1].iov_len);
    w->next = NULL;
    w->len = iov[0].iov_len + iov[1].iov_len;
    memcpy(w->data, iov[0].iov_base, iov[0].iov_len);
    if (iov[1].iov_len)
        memcpy(w->data + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
    *p->last = w;
    p->last = &w->next;
    p->queued += w->len;
}

/* As channel_send; 1 once all is sent. */
static int queue_send(struct peer *p)
{
    int sent = 1;
    while (p->first && sent > 0) {
        struct iovec iov = {p->first->data, p->first->len};
        sent = channel_send(p->end, &iov, 1, NULL, 0);
        if (sent > 0)
            queue_drop_first(p);
    }
    return sent;
}

/* After a send that said 0: errno tells whether the descriptor will tell of room. */
static void peer_await_room(struct peer *p)
{
    if (errno == EAGAIN) {
        ev_io_start(p->loop->ev, &p->output);
        return;
    }
    ev_io_stop(p->loop->ev, &p->output);
    timer_start(&p->loop->clock, &p->retry, p->loop->clock.now + RETRY_SECONDS);
}

static void peer_try_again(struct peer *p)
{
    if (queue_send(p) == 0) {
        peer_await_room(p);
        return;
    }
    ev_io_stop(p->loop->ev, &p->output);
    if (p->wants_room && p->callbacks->on_room) {
        p->wants_room = 0;
        p->callbacks->on_room(p, p->arg);
    }
}

static void on_output(struct ev_loop *ev, ev_io *w, int revents)
{
    struct peer *p = w->data;
    (void)ev, (void)revents;
    p->loop->events++;
    peer_try_again(p);
}

static void on_retry(void *arg)
{
    peer_try_again(arg);
}

struct peer *peer_open(struct loop *l, int end, size_t queue_limit,
                       const struct peer_callbacks *callbacks, void *arg)
{
    struct peer *p = alloc_zero(sizeof *p);
    *p = (struct peer){.loop = l,
                       .callbacks = callbacks,
                       .arg = arg,
                       .end = end,
                       .open = 1,
                       .last = &p->first,
                       .queue_limit = queue_limit};
    ev_io_init(&p->input, on_input, end, EV_READ);
    ev_io_init(&p->output, on_output, end, EV_WRITE);
    timer_init(&p->retry, on_retry, p);
    p->input.data = p->output.data = p;
    ev_io_start(l->ev, &p->input);
    return p;
}

void peer_drain(struct peer *p)
{
    struct pollfd end = {.fd = p->end, .events = POLLOUT};
    while (queue_send(p) == 0)
        poll(&end, 1, (int)(RETRY_SECONDS * 1000));
}

/* Both ends may live on elsewhere, so the epoll entry must go by name. */
void peer_close(struct peer *p)
{
    if (!p || !p->open)
        return;
    p->open = 0;
    peer_stop_watching(p);
    queue_clear(p);
    loop_forget(p->loop, p->end);
    fd_close(&p->end);
    loop_free_later(p->loop, p);
}

void peer_save(const struct peer *p, struct baton *b)
{
    baton_put_fd(b, "end", p->end);
    for (const struct waiting *w = p->first; w; w = w->next) {
        baton_begin(b, "waiting");
        baton_put(b, "message", w->data, w->len);
        baton_end(b);
    }
}

struct peer *peer_load(struct loop *l, struct baton *b, size_t queue_limit,
                       const struct peer_callbacks *callbacks, void *arg)
{
    struct peer *p = peer_open(l, baton_fd(b, "end"), queue_limit, callbacks, arg);
    for (; baton_enter(b, "waiting"); baton_leave(b)) {
        size_t len;
        const char *message = baton_get(b, "message", &len);
        queue_put(p, (struct iovec[2]){{(void *)message, len}});
    }
    if (p->first)
        ev_io_start(l->ev, &p->output);
    return p;
}

int peer_send(struct peer *p, const struct wire_header *h, const void *text, size_t len,
              const int *fds, int fd_count)
{
    struct iovec iov[2] = {{(void *)h, sizeof *h}, {(void *)text, len}};
    int sent = p->first ? 0 : channel_send(p->end, iov, 2, fds, fd_count);
    if (sent != 0)
        return sent;
    p->wants_room = 1;
    if (!p->first)
        peer_await_room(p);
    return 0;
}

int peer_post(struct peer *p, const struct wire_header *h, const void *text, size_t len)
{
    struct iovec iov[2] = {{(void *)h, sizeof *h}, {(void *)text, len}};
    int sent = p->first ? 0 : channel_send(p->end, iov, 2, NULL, 0);
    if (sent != 0)
        return sent;
    if (p->queued + sizeof *h + len > p->queue_limit)
        return 0;
    if (!p->first)
        peer_await_room(p);
    queue_put(p, iov);
    return 1;
}
