/*
 * Each worker has a place: a number in a pool, with channels and a scoreboard cell that
 * stay when its process changes. A process that dies is replaced at once, or, if it did
 * not even live for a moment, after a pause that doubles each time.
 *
 *   STARTING  until all workers have loaded their script; one that cannot ends it all
 *   SERVING   clients are taken
 *   STOPPING  none are; workers finish what they have; DRAIN seconds, then SIGKILL
 */
#include "supervisor.h"

#include "alloc.h"
#include "dispatch.h"
#include "endpoint.h"
#include "fd.h"
#include "pool.h"
#include "process.h"
#include "pulse.h"
#include "title.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ENDPOINTS_MAX = 64, /* of one pool */
    FDS_RESERVED = 64,  /* of a process, for other things than connections */
};

/* A life shorter than this was a failure; the pause after it grows from MIN to MAX. */
#define LIFE_MIN 1.0
#define PAUSE_MIN 0.1
#define PAUSE_MAX 10.0
#define KILL_MARGIN 1.0 /* after the drain limit, for a worker to see it by itself */

enum phase { STARTING, SERVING, STOPPING };

struct place {
    struct supervisor *supervisor;
    struct pool_worker *worker;
    ev_child child;
    struct timer restart;
    double started, pause;
};

struct service { /* a pool and all that belongs to it */
    struct supervisor *supervisor;
    struct pool_config config; /* a copy, so that concurrency can be cut to size */
    struct pool pool;
    struct place *places;
    struct dispatch *dispatch;
    struct pulse *pulse;
    int endpoint_count;
    struct endpoint endpoints[ENDPOINTS_MAX];
};

struct supervisor {
    const struct config *config;
    const char *program, *library;
    struct loop *loop;
    struct scoreboard board;
    enum phase phase;
    int exit_code;
    uint32_t service_count;
    struct service *services;
    ev_signal term, interrupt, hangup, usr1;
    struct timer drain;
};

/* -- all workers --------------------------------------------------------------------- */

static void supervisor_each(struct supervisor *s, void (*f)(struct place *p))
{
    for (uint32_t i = 0; i < s->service_count; i++)
        for (uint32_t j = 0; j < s->services[i].pool.count; j++)
            f(&s->services[i].places[j]);
}

static uint32_t supervisor_count(struct supervisor *s, enum worker_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->service_count; i++)
        for (uint32_t j = 0; j < s->services[i].pool.count; j++)
            n += s->services[i].pool.workers[j].state == state;
    return n;
}

static uint32_t supervisor_workers(struct supervisor *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->service_count; i++)
        n += s->services[i].config.workers;
    return n;
}

/* -- stopping ------------------------------------------------------------------------ */

static void place_kill(struct place *p)
{
    timer_stop(&p->supervisor->loop->clock, &p->restart);
    if (p->worker->pid)
        kill(p->worker->pid, SIGKILL);
}

static void place_stop(struct place *p)
{
    timer_stop(&p->supervisor->loop->clock, &p->restart);
    if (p->worker->state == WORKER_STARTING || p->worker->state == WORKER_READY)
        pool_tell_stop(p->worker);
}

static void supervisor_stop_if_done(struct supervisor *s)
{
    if (s->phase == STOPPING && supervisor_count(s, WORKER_DOWN) == supervisor_workers(s))
        loop_stop(s->loop);
}

/* Whoever is already in the backlog is still taken: to be refused now would be a loss. */
static void service_close_listeners(struct service *v)
{
    if (v->dispatch)
        dispatch_round(v->dispatch);
    dispatch_close(v->dispatch);
    v->dispatch = NULL;
    while (v->endpoint_count)
        endpoint_close(&v->endpoints[--v->endpoint_count]);
}

static void supervisor_stop(struct supervisor *s, const char *why)
{
    log_info("%s: stopping, for at most %g s", why, s->config->drain);
    s->phase = STOPPING;
    title_set("moonpool: supervisor (stopping)");
    for (uint32_t i = 0; i < s->service_count; i++)
        service_close_listeners(&s->services[i]);
    supervisor_each(s, place_stop);
    timer_start(&s->loop->clock, &s->drain,
                loop_now(s->loop) + s->config->drain + KILL_MARGIN);
    supervisor_stop_if_done(s);
}

static void supervisor_stop_now(struct supervisor *s, int exit_code)
{
    s->phase = STOPPING;
    s->exit_code = exit_code;
    supervisor_each(s, place_kill);
    supervisor_stop_if_done(s);
}

static void on_drained(void *arg)
{
    struct supervisor *s = arg;
    log_warn("the drain limit is over: workers are killed");
    supervisor_stop_now(s, 1);
}

static void on_stop_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct supervisor *s = w->data;
    const char *name = w->signum == SIGINT ? "SIGINT" : "SIGTERM";
    (void)ev, (void)revents;
    if (s->phase == SERVING) {
        supervisor_stop(s, name);
        return;
    }
    log_info("%s: stopping at once", name);
    supervisor_stop_now(s, 1);
}

static void on_hangup(struct ev_loop *ev, ev_signal *w, int revents)
{
    (void)ev, (void)w, (void)revents;
    log_warn("SIGHUP: reloading is not supported yet; nothing is changed");
}

static void place_reopen(struct place *p)
{
    pool_tell_reopen(p->worker);
}

static void on_usr1(struct ev_loop *ev, ev_signal *w, int revents)
{
    (void)ev, (void)revents;
    log_info("SIGUSR1: log files are opened anew");
    supervisor_each(w->data, place_reopen);
}

/* -- workers' lives ------------------------------------------------------------------ */

static void supervisor_serve(struct supervisor *s)
{
    s->phase = SERVING;
    for (uint32_t i = 0; i < s->service_count; i++) {
        struct service *v = &s->services[i];
        for (int j = 0; j < v->endpoint_count; j++)
            log_info("%s: listening on %s", v->config.name, v->endpoints[j].text);
        if (v->config.dev)
            log_warn("%s: for development: errors are answered with the code",
                     v->config.name);
    }
    log_info("ready: %u workers", supervisor_workers(s));
    for (uint32_t i = 0; i < s->service_count; i++)
        dispatch_round(s->services[i].dispatch);
}

static void on_worker_ready(struct pool_worker *w, void *arg)
{
    struct service *v = arg;
    struct supervisor *s = v->supervisor;
    if (s->phase == STARTING &&
        supervisor_count(s, WORKER_READY) == supervisor_workers(s))
        supervisor_serve(s);
    else if (s->phase == SERVING) {
        log_info("%s/%u is ready again, pid %d", v->config.name, w->number, (int)w->pid);
        dispatch_round(v->dispatch);
    }
}

static void on_worker_failed(struct pool_worker *w, const char *text, size_t len,
                             void *arg)
{
    struct service *v = arg;
    if (v->supervisor->phase == STOPPING)
        return;
    log_error("%s/%u cannot load its script: %.*s", v->config.name, w->number, (int)len,
              text);
    if (v->supervisor->phase == STARTING)
        supervisor_stop_now(v->supervisor, 1);
}

static void on_slot(struct pool *p, void *arg)
{
    struct service *v = arg;
    (void)p;
    if (v->supervisor->phase == SERVING)
        dispatch_round(v->dispatch);
}

static const struct pool_callbacks pool_callbacks = {on_worker_ready, on_worker_failed,
                                                     on_slot};

static void log_death(const struct place *p, int status)
{
    const char *name = p->worker->pool->config->name;
    uint32_t number = p->worker->number;
    uint32_t open = atomic_load(&p->worker->cell->open);
    if (WIFSIGNALED(status))
        log_error("%s/%u, pid %d, died of signal %d (%s) with %u connections", name,
                  number, p->child.rpid, WTERMSIG(status), strsignal(WTERMSIG(status)),
                  open);
    else if (WEXITSTATUS(status) && p->worker->state != WORKER_STOPPING)
        log_error("%s/%u, pid %d, exited with %d", name, number, p->child.rpid,
                  WEXITSTATUS(status));
}

static void place_restart_later(struct place *p)
{
    struct loop *l = p->supervisor->loop;
    double now = loop_now(l);
    int failed = now - p->started < LIFE_MIN || p->worker->state == WORKER_STARTING;
    p->pause = !failed ? 0 : p->pause ? p->pause * 2 : PAUSE_MIN;
    if (p->pause > PAUSE_MAX)
        p->pause = PAUSE_MAX;
    if (p->pause)
        log_warn("%s/%u is started again in %g s", p->worker->pool->config->name,
                 p->worker->number, p->pause);
    timer_start(&l->clock, &p->restart, now + p->pause);
}

static void on_child(struct ev_loop *ev, ev_child *w, int revents)
{
    struct place *p = w->data;
    struct supervisor *s = p->supervisor;
    (void)revents;
    ev_child_stop(ev, w);
    log_death(p, w->rstatus);
    if (s->phase == SERVING)
        place_restart_later(p);
    pool_died(p->worker); /* may hear that the script could not be loaded */
    if (s->phase == STARTING) {
        log_error("%s/%u died before it was ready", p->worker->pool->config->name,
                  p->worker->number);
        supervisor_stop_now(s, 1);
    }
    if (s->phase == STOPPING && w->rstatus != 0)
        s->exit_code = 1;
    supervisor_stop_if_done(s);
}

/* The arguments of the worker's program: wire.h. */
static char **place_arguments(const struct place *p)
{
    const struct supervisor *s = p->supervisor;
    const struct pool_worker *w = p->worker;
    const struct pool_config *c = w->pool->config;
    struct wire_settings settings = {.pool = c->name,
                                     .app = c->app,
                                     .lua = (char *)s->library,
                                     .number = w->number,
                                     .workers = w->pool->count,
                                     .cell = w->cell_index,
                                     .generation = atomic_load(&w->cell->generation),
                                     .log_level = s->config->log_level,
                                     .read_limit = c->read_limit,
                                     .write_limit = c->write_limit,
                                     .memory_limit = c->memory_limit,
                                     .idle_timeout = c->idle_timeout,
                                     .handler_timeout = c->handler_timeout,
                                     .drain = s->config->drain,
                                     .dev = (uint32_t)c->dev};
    return wire_settings_write(&settings, s->program);
}

static void place_start(struct place *p)
{
    struct supervisor *s = p->supervisor;
    struct pool_worker *w = p->worker;
    atomic_fetch_add(&w->cell->generation, 1);
    char **argv = place_arguments(p);
    pid_t pid = process_start(
        &(struct process_options){.program = s->program,
                                  .argv = argv,
                                  .env = w->pool->config->env,
                                  .fds = {w->far_control, w->far_bus, s->board.fd},
                                  .user = s->config->user,
                                  .uid = s->config->uid,
                                  .gid = s->config->gid});
    wire_settings_free_args(argv);
    p->started = loop_now(s->loop);
    if (pid < 0) {
        log_error("cannot start a worker: %s", strerror(errno));
        place_restart_later(p);
        return;
    }
    pool_started(w, pid);
    ev_child_set(&p->child, pid, 0);
    ev_child_start(s->loop->ev, &p->child);
}

static void on_restart(void *arg)
{
    place_start(arg);
}

static void place_init(struct place *p, struct supervisor *s, struct pool_worker *w)
{
    *p = (struct place){.supervisor = s, .worker = w};
    timer_init(&p->restart, on_restart, p);
    ev_child_init(&p->child, on_child, 0, 0);
    p->child.data = p;
}

/* -- starting ------------------------------------------------------------------------ */

static int service_listen(struct service *v)
{
    const struct pool_config *c = &v->config;
    struct endpoint_options options = {.backlog = c->backlog,
                                       .mode = c->socket_mode,
                                       .uid = c->socket_uid,
                                       .gid = c->socket_gid};
    char why[512];
    for (char **text = c->listen; *text; text++) {
        int n = endpoint_open(*text, &options, v->endpoints + v->endpoint_count,
                              ENDPOINTS_MAX - v->endpoint_count, why, sizeof why);
        if (n < 0) {
            log_error("%s: cannot listen on %s", c->name, why);
            return -1;
        }
        v->endpoint_count += n;
    }
    return 0;
}

/* More connections than descriptors would be lost on their way into the worker. */
static void service_fit_concurrency(struct service *v, unsigned long fd_limit)
{
    uint32_t most =
        (uint32_t)(fd_limit > 2 * FDS_RESERVED ? fd_limit - FDS_RESERVED : fd_limit / 2);
    if (v->config.concurrency <= most)
        return;
    log_warn("%s: concurrency is %u, not %u: a process may have %lu descriptors",
             v->config.name, most, v->config.concurrency, fd_limit);
    v->config.concurrency = most;
}

static int service_open(struct service *v, struct supervisor *s,
                        const struct pool_config *config, uint32_t first_cell,
                        unsigned long fd_limit)
{
    v->supervisor = s;
    v->config = *config;
    service_fit_concurrency(v, fd_limit);
    if (service_listen(v) < 0)
        return -1;
    if (pool_open(&v->pool, s->loop, &v->config, &s->board, first_cell, &pool_callbacks,
                  v) < 0) {
        log_error("%s: cannot make channels: %s", config->name, strerror(errno));
        return -1;
    }
    v->places = alloc_array(NULL, v->pool.count, sizeof *v->places);
    for (uint32_t i = 0; i < v->pool.count; i++)
        place_init(&v->places[i], s, &v->pool.workers[i]);
    v->dispatch = dispatch_open(&v->pool, v->endpoints, v->endpoint_count);
    v->pulse = pulse_open(&v->pool);
    return 0;
}

static void service_close(struct service *v)
{
    service_close_listeners(v);
    pulse_close(v->pulse);
    pool_close(&v->pool);
    free(v->places);
}

static int supervisor_open(struct supervisor *s)
{
    unsigned long fd_limit = process_raise_fd_limit();
    uint32_t cells = 0;
    for (uint32_t i = 0; i < s->config->pool_count; i++)
        cells += s->config->pools[i].workers;
    if (scoreboard_create(&s->board, cells) < 0) {
        log_error("cannot make the scoreboard: %s", strerror(errno));
        return -1;
    }
    s->services = alloc_zero(s->config->pool_count * sizeof *s->services);
    for (cells = 0; s->service_count < s->config->pool_count;) {
        const struct pool_config *c = &s->config->pools[s->service_count];
        if (service_open(&s->services[s->service_count++], s, c, cells, fd_limit) < 0)
            return -1;
        cells += c->workers;
    }
    unsetenv("LISTEN_FDS"); /* all taken: sd_listen_fds(3) */
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    return 0;
}

static void supervisor_watch(struct supervisor *s, ev_signal *w, int number,
                             void (*f)(struct ev_loop *, ev_signal *, int))
{
    ev_signal_init(w, f, number);
    w->data = s;
    ev_signal_start(s->loop->ev, w);
}

static void supervisor_close(struct supervisor *s)
{
    for (uint32_t i = 0; i < s->service_count; i++)
        service_close(&s->services[i]);
    free(s->services);
    scoreboard_close(&s->board);
    timer_stop(&s->loop->clock, &s->drain);
    ev_signal_stop(s->loop->ev, &s->term);
    ev_signal_stop(s->loop->ev, &s->interrupt);
    ev_signal_stop(s->loop->ev, &s->hangup);
    ev_signal_stop(s->loop->ev, &s->usr1);
    loop_free(s->loop);
}

int supervisor_run(const struct config *config, const char *program, const char *library)
{
    struct supervisor s = {.config = config, .program = program, .library = library};
    s.board.fd = -1;
    signal(SIGPIPE, SIG_IGN);
    s.loop = loop_new(LOOP_DEFAULT);
    if (!s.loop)
        log_fatal(1, "cannot make an event loop: %s", strerror(errno));
    timer_init(&s.drain, on_drained, &s);
    supervisor_watch(&s, &s.term, SIGTERM, on_stop_signal);
    supervisor_watch(&s, &s.interrupt, SIGINT, on_stop_signal);
    supervisor_watch(&s, &s.hangup, SIGHUP, on_hangup);
    supervisor_watch(&s, &s.usr1, SIGUSR1, on_usr1);
    title_set("moonpool: supervisor");
    if (supervisor_open(&s) < 0)
        s.exit_code = 1;
    else {
        supervisor_each(&s, place_start);
        loop_run(s.loop);
    }
    supervisor_close(&s);
    return s.exit_code;
}
