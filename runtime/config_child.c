#include "config_child.h"

#include "alloc.h"
#include "buf.h"
#include "fd.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_BYTES = 65536 };

#define PATIENCE 30.0 /* seconds */

struct config_child {
    struct loop *loop;
    void (*on_done)(struct config *c, const char *why, void *arg);
    void *arg;
    pid_t pid;
    int fd; /* owned: of the pipe */
    struct buf said;
    ev_io input;
    struct timer limit;
};

static void child_watch(struct config_child *c, int on)
{
    if (on) {
        ev_io_start(c->loop->ev, &c->input);
        timer_start(&c->loop->clock, &c->limit, loop_now(c->loop) + PATIENCE);
        return;
    }
    ev_io_stop(c->loop->ev, &c->input);
    timer_stop(&c->loop->clock, &c->limit);
}

/* It has nothing more to say. libev may have waited for it before. */
static void child_end(struct config_child *c)
{
    child_watch(c, 0);
    loop_forget(c->loop, c->fd);
    fd_close(&c->fd);
    buf_release(&c->said);
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    loop_free_later(c->loop, c);
}

void config_child_stop(struct config_child *c)
{
    if (c)
        child_end(c);
}

static void child_done(struct config_child *c, struct config *config, const char *why)
{
    child_end(c);
    c->on_done(config, why, c->arg);
}

static void child_read_config(struct config_child *c)
{
    char *why;
    struct config *config = config_read(buf_head(&c->said), buf_len(&c->said), &why);
    child_done(c, config, why);
    free(why);
}

static void on_input(struct ev_loop *ev, ev_io *w, int revents)
{
    struct config_child *c = w->data;
    (void)ev, (void)revents;
    ssize_t n = read(c->fd, buf_reserve(&c->said, READ_BYTES), READ_BYTES);
    if (n > 0)
        buf_added(&c->said, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        child_read_config(c);
}

static void on_limit(void *arg)
{
    child_done(arg, NULL, "the configuration was not read in time");
}

/* PROGRAM config INHERITED ARGUMENT... */
static pid_t start(const struct config_source *s, int output)
{
    char **argv = alloc_zero(((size_t)s->argc + 4) * sizeof *argv);
    char *inherited = alloc_format("%d", s->inherited);
    argv[0] = (char *)s->program;
    argv[1] = "config";
    argv[2] = inherited;
    for (int i = 0; i < s->argc; i++)
        argv[3 + i] = s->argv[i];
    pid_t pid = process_start(&(struct process_options){.program = s->program,
                                                        .argv = argv,
                                                        .fds = {output, -1, -1, -1},
                                                        .uid = (uid_t)-1,
                                                        .gid = (gid_t)-1});
    free(inherited);
    free(argv);
    return pid;
}

struct config_child *config_child_start(struct loop *l, const struct config_source *s,
                                        void (*on_done)(struct config *c, const char *why,
                                                        void *arg),
                                        void *arg)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return NULL;
    fcntl(ends[1], F_SETFL, 0); /* the writing end is the child's, which may wait */
    pid_t pid = start(s, ends[1]);
    fd_close(&ends[1]);
    if (pid < 0) {
        fd_close(&ends[0]);
        return NULL;
    }
    struct config_child *c = alloc_zero(sizeof *c);
    c->loop = l;
    c->on_done = on_done;
    c->arg = arg;
    c->pid = pid;
    c->fd = ends[0];
    timer_init(&c->limit, on_limit, c);
    ev_io_init(&c->input, on_input, c->fd, EV_READ);
    c->input.data = c;
    child_watch(c, 1);
    return c;
}
