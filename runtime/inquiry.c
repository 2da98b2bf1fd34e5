#include "inquiry.h"

#include "alloc.h"
#include "buf.h"
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_BYTES = 65536, SAID_MAX = 64 << 20 };

struct inquiry {
    struct loop *loop;
    inquiry_on_answer *on_answer;
    void *arg;
    int fd; /* owned: of the pipe */
    struct buf said;
    ev_io input;
    ev_child child;
    struct timer limit;
};

static void inquiry_close(struct inquiry *q)
{
    ev_io_stop(q->loop->ev, &q->input);
    ev_child_stop(q->loop->ev, &q->child);
    timer_stop(&q->loop->clock, &q->limit);
    loop_forget(q->loop, q->fd);
    fd_close(&q->fd);
    buf_release(&q->said);
    loop_free_later(q->loop, q);
}

static void inquiry_kill(const struct inquiry *q)
{
    kill(q->child.pid, SIGKILL);
    waitpid(q->child.pid, NULL, 0);
}

void inquiry_stop(struct inquiry *q)
{
    if (!q)
        return;
    inquiry_kill(q);
    inquiry_close(q);
}

static void inquiry_answer(struct inquiry *q, int how)
{
    struct buf said = q->said;
    q->said = (struct buf){0};
    inquiry_close(q);
    q->on_answer(buf_head(&said), buf_len(&said), how, q->arg);
    buf_release(&said);
}

static void on_limit(void *arg)
{
    inquiry_kill(arg);
    inquiry_answer(arg, INQUIRY_LATE);
}

/* 1 some more; 0 none now; -1 no more will come. */
static int inquiry_read(struct inquiry *q)
{
    ssize_t n = read(q->fd, buf_reserve(&q->said, READ_BYTES), READ_BYTES);
    if (n > 0)
        buf_added(&q->said, (size_t)n);
    return n > 0 ? 1 : n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

static void on_input(struct ev_loop *ev, ev_io *w, int revents)
{
    struct inquiry *q = w->data;
    (void)revents;
    if (inquiry_read(q) < 0)
        ev_io_stop(ev, w);
    else if (buf_len(&q->said) > SAID_MAX)
        on_limit(q);
}

static void on_child(struct ev_loop *ev, ev_child *w, int revents)
{
    struct inquiry *q = w->data;
    (void)ev, (void)revents;
    while (inquiry_read(q) > 0 && buf_len(&q->said) <= SAID_MAX)
        ;
    inquiry_answer(q, w->rstatus);
}

static pid_t start(const struct process_options *options, int output)
{
    struct process_options own = *options;
    own.fds[0] = output;
    return process_start(&own);
}

static void inquiry_watch(struct inquiry *q, pid_t pid, double patience)
{
    timer_init(&q->limit, on_limit, q);
    ev_io_init(&q->input, on_input, q->fd, EV_READ);
    ev_child_init(&q->child, on_child, pid, 0);
    q->input.data = q->child.data = q;
    ev_io_start(q->loop->ev, &q->input);
    ev_child_start(q->loop->ev, &q->child);
    timer_start(&q->loop->clock, &q->limit, loop_now(q->loop) + patience);
}

struct inquiry *inquiry_start(struct loop *l, const struct process_options *options,
                              double patience, inquiry_on_answer *on_answer, void *arg)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return NULL;
    fcntl(ends[1], F_SETFL, 0); /* the writing end is the child's, which may wait */
    pid_t pid = start(options, ends[1]);
    fd_close(&ends[1]);
    if (pid < 0) {
        fd_close(&ends[0]);
        return NULL;
    }
    struct inquiry *q = alloc_zero(sizeof *q);
    q->loop = l;
    q->on_answer = on_answer;
    q->arg = arg;
    q->fd = ends[0];
    inquiry_watch(q, pid, patience);
    return q;
}
