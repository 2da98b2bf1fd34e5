#include "listener.h"

#include "alloc.h"
#include "log.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

enum { REST_SECONDS = 1 };

struct listener {
    struct loop *loop;
    const struct listener_callbacks *callbacks;
    void *arg;
    int paused, resting;
    ev_io input;
    struct timer rest;
};

static void listener_watch(struct listener *l)
{
    if (l->paused || l->resting)
        ev_io_stop(l->loop->ev, &l->input);
    else
        ev_io_start(l->loop->ev, &l->input);
}

static void on_input(struct ev_loop *ev, ev_io *w, int revents)
{
    struct listener *l = w->data;
    (void)ev, (void)revents;
    l->loop->events++;
    l->callbacks->on_ready(l, l->arg);
}

static void on_rested(void *arg)
{
    struct listener *l = arg;
    l->resting = 0;
    listener_watch(l);
}

static void listener_rest(struct listener *l)
{
    log_warn("accept: %s; trying again in %d s", strerror(errno), REST_SECONDS);
    l->resting = 1;
    listener_watch(l);
    timer_start(&l->loop->clock, &l->rest, l->loop->clock.now + REST_SECONDS);
}

struct listener *listener_open(struct loop *loop, int fd,
                               const struct listener_callbacks *callbacks, void *arg)
{
    struct listener *l = alloc_zero(sizeof *l);
    l->loop = loop;
    l->callbacks = callbacks;
    l->arg = arg;
    timer_init(&l->rest, on_rested, l);
    ev_io_init(&l->input, on_input, fd, EV_READ);
    l->input.data = l;
    listener_watch(l);
    return l;
}

void listener_close(struct listener *l)
{
    ev_io_stop(l->loop->ev, &l->input);
    timer_stop(&l->loop->clock, &l->rest);
    loop_forget(l->loop, l->input.fd); /* inherited ones live on elsewhere */
    loop_free_later(l->loop, l);
}

/* accept(2): errors of the new connection itself are to be passed over like these. */
static int is_clients_fault(int error)
{
    return error == EINTR || error == ECONNABORTED || error == EPROTO || error == EPERM ||
           error == ENETDOWN || error == ENOPROTOOPT || error == EHOSTDOWN ||
           error == ENONET || error == EHOSTUNREACH || error == EOPNOTSUPP ||
           error == ENETUNREACH;
}

int listener_accept(struct listener *l)
{
    if (l->paused || l->resting)
        return -1;
    int fd;
    do
        fd = accept4(l->input.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && is_clients_fault(errno));
    if (fd < 0 && errno != EAGAIN)
        listener_rest(l);
    return fd;
}

int listener_waiting(const struct listener *l, int most)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (getsockopt(l->input.fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return most;
    uint32_t waiting = info.tcpi_unacked;
    return waiting && waiting < (uint32_t)most ? (int)waiting : most;
}

void listener_pause(struct listener *l)
{
    l->paused = 1;
    listener_watch(l);
}

void listener_resume(struct listener *l)
{
    l->paused = 0;
    listener_watch(l);
}
