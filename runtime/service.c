#include "service.h"

#include "alloc.h"
#include "bus_log.h"
#include "dispatch.h"
#include "log.h"
#include "ports.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WORKERS_MAX = 256,
    FDS_RESERVED = 64, /* of a process, for other things than connections */
    BALANCE_SECONDS = 1,
};

struct service {
    const struct crew_context *context;
    const struct service_callbacks *callbacks;
    void *arg;
    uint32_t id;
    unsigned long fd_limit;
    struct dispatch *dispatch;
    struct ports *ports, *next_ports;
    struct crew *crew, *next; /* NULL: none */
    struct crew *leaving;     /* all that are, by their own next */
    uint64_t moved;           /* by those that have gone, since the last commit */
    struct timer balance;
    struct bus_log log; /* of the messages between its workers, of all crews */
    int crowded, stopped, was_cut;
    uint64_t lives[WORKERS_MAX];
};

/* -- what there is to know ----------------------------------------------------------- */

int service_is_prepared(const struct service *v)
{
    return v->next && v->next->phase == CREW_WORKING;
}

int service_is_gone(const struct service *v)
{
    return !v->leaving && !v->next && (!v->crew || crew_is_gone(v->crew));
}

int service_was_cut(const struct service *v)
{
    return v->was_cut;
}

struct service_leaving service_leaving(const struct service *v)
{
    struct service_leaving sum = {.moved = v->moved};
    for (struct crew *c = v->leaving; c; c = c->next) {
        sum.workers += c->pool.count - crew_count(c, WORKER_DOWN);
        sum.settled += crew_settled(c);
        sum.connections += crew_connections(c);
        sum.pinned += crew_pinned(c);
        sum.moved += c->moved;
    }
    return sum;
}

uint32_t service_ready(const struct service *v)
{
    const struct crew *c = v->crew ? v->crew : v->next; /* at the start */
    return c ? crew_count(c, WORKER_READY) : 0;
}

uint32_t service_connections(const struct service *v)
{
    return service_leaving(v).connections + (v->crew ? crew_connections(v->crew) : 0);
}

/* -- crews that leave ---------------------------------------------------------------- */

static void service_let_leave(struct service *v, struct crew *c)
{
    c->next = v->leaving;
    v->leaving = c;
    pool_hold(&c->pool, v->crowded);
}

static void service_forget(struct service *v, struct crew *c)
{
    struct crew **at = &v->leaving;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    v->moved += c->moved;
    v->was_cut |= v->stopped && !c->failed && c->was_cut;
    crew_close(c);
}

static void service_drop_transfers(struct service *v)
{
    int count = dispatch_drop_transfers(v->dispatch);
    if (!count)
        return;
    log_warn("%d connections were on their way to another worker and are closed", count);
    v->was_cut = 1;
}

/* -- news from crews ----------------------------------------------------------------- */

static void on_ready(struct crew *c, void *arg)
{
    struct service *v = arg;
    if (c == v->next)
        v->callbacks->on_prepared(v, v->arg);
}

static void on_failed(struct crew *c, const char *why, void *arg)
{
    struct service *v = arg;
    if (c == v->next)
        v->callbacks->on_failed(v, why, v->arg);
}

static void on_gone(struct crew *c, void *arg)
{
    struct service *v = arg;
    if (c == v->next) /* it has failed, and whoever was told has not abandoned it yet */
        return;
    if (c == v->crew) { /* while stopping */
        v->crew = NULL;
        dispatch_set_pool(v->dispatch, NULL);
        service_let_leave(v, c);
    }
    service_forget(v, c);
    v->callbacks->on_gone(v, v->arg);
}

static void on_slot(struct crew *c, void *arg)
{
    struct service *v = arg;
    if (c == v->crew && !v->stopped)
        dispatch_round(v->dispatch);
}

/* While all stops nobody is left to go on with it. */
void service_transfer(struct service *v, struct transfer *t)
{
    dispatch_transfer(v->dispatch, t);
    if (v->stopped)
        service_drop_transfers(v);
}

static void on_transfer(struct crew *c, struct transfer *t, void *arg)
{
    struct service *v = arg;
    (void)c;
    if (t->pool && t->pool != v->id)
        v->callbacks->on_handoff(t, v->arg);
    else
        service_transfer(v, t);
}

/* Rooms and the like are the pool's, so that all generations are in them. */
static void on_publish(const struct wire_header *up, const char *text, size_t len,
                       void *arg)
{
    struct service *v = arg;
    struct wire_header h = *up;
    h.total = bus_log_add(&v->log, text, up->number, text + up->number, len - up->number);
    if (v->crew)
        pool_publish(&v->crew->pool, up->total, &h, text, len);
    if (v->next)
        pool_publish(&v->next->pool, up->total, &h, text, len);
    for (struct crew *c = v->leaving; c; c = c->next)
        pool_publish(&c->pool, up->total, &h, text, len);
}

struct replay {
    struct pool_worker *to;
    uint32_t request;
    int complete;
};

static void replay_one(uint64_t position, const char *text, size_t len, void *arg)
{
    struct replay *r = arg;
    struct wire_header h = {WIRE_REPLAY, r->request, position};
    r->complete &= pool_replay(r->to, &h, text, len);
}

/* Who hears nothing, because there was no room even for the end, asks again. */
static void on_replay(struct pool_worker *w, const struct wire_header *h,
                      const char *topic, size_t len, void *arg)
{
    struct service *v = arg;
    struct replay r = {w, h->number, 1};
    struct wire_header end = {WIRE_REPLAYED, h->number, v->log.last};
    r.complete &= bus_log_replay(&v->log, h->total, topic, len, replay_one, &r);
    pool_replay(w, &end, "gap", r.complete ? 0 : 3);
}

static const struct crew_callbacks crew_callbacks = {
    on_ready, on_failed, on_gone, on_slot, on_transfer, on_publish, on_replay,
};

/*
 * What crews that leave give back stays with them, and they hear that there is no room.
 * Nobody hands it connections (outbox.c); the channels of those who work are left alone,
 * since they tell of the slots that it needs.
 */
static void on_crowd(struct dispatch *d, int crowded, void *arg)
{
    struct service *v = arg;
    (void)d;
    v->crowded = crowded;
    scoreboard_set_crowded(v->context->board, v->id, crowded);
    for (struct crew *c = v->leaving; c; c = c->next)
        pool_hold(&c->pool, crowded);
}

static const struct dispatch_callbacks dispatch_callbacks = {on_crowd};

/* -- preparing ----------------------------------------------------------------------- */

/*
 * More connections than descriptors would be lost on their way into the worker; or, of a
 * pool that survives, out of it: there this process holds those of all workers.
 */
static void service_fit_concurrency(const struct service *v, struct pool_config *c)
{
    unsigned long limit = v->fd_limit;
    uint32_t most =
        (uint32_t)(limit > 2 * FDS_RESERVED ? limit - FDS_RESERVED : limit / 2);
    if (c->survive)
        most = most / c->workers + (most < c->workers);
    if (c->concurrency <= most)
        return;
    log_warn("%s: concurrency is %u, not %u: a process may have %lu descriptors", c->name,
             most, c->concurrency, limit);
    c->concurrency = most;
}

static int service_prepare_ports(struct service *v, const struct pool_config *c,
                                 char *why, size_t size)
{
    struct endpoint_options options = {.backlog = c->backlog,
                                       .mode = c->socket_mode,
                                       .uid = c->socket_uid,
                                       .gid = c->socket_gid};
    char sentence[512];
    v->next_ports = ports_open(c->listen, &options, v->ports, sentence, sizeof sentence);
    if (v->next_ports)
        return 0;
    snprintf(why, size, "cannot listen on %s", sentence);
    return -1;
}

int service_prepare(struct service *v, struct config *config,
                    const struct pool_config *settings, char *why, size_t size)
{
    struct pool_config own = *settings;
    service_fit_concurrency(v, &own);
    if (service_prepare_ports(v, &own, why, size) < 0)
        return -1;
    v->next = crew_open(v->context, config, &own, v->id, v->lives, &crew_callbacks, v);
    if (!v->next) {
        snprintf(why, size, "%s",
                 errno == EUSERS ? "too many workers of earlier generations have not "
                                   "come to their end"
                                 : strerror(errno));
        ports_close(v->next_ports);
        v->next_ports = NULL;
        return -1;
    }
    pool_set_published(&v->next->pool, v->log.last);
    crew_start(v->next);
    return 0;
}

void service_abandon(struct service *v)
{
    struct crew *c = v->next;
    ports_close(v->next_ports);
    v->next_ports = NULL;
    v->next = NULL;
    if (!c)
        return;
    service_let_leave(v, c);
    c->failed = 1;
    crew_kill(c);
    if (crew_is_gone(c))
        service_forget(v, c);
}

/* -- the change ---------------------------------------------------------------------- */

static int ports_include(const struct ports *p, int fd)
{
    for (int i = 0; p && i < ports_count(p); i++)
        if (ports_get(p, i)->fd == fd)
            return 1;
    return 0;
}

static void service_listen(struct service *v, const struct ports *before)
{
    int count = ports_count(v->ports);
    int *fds = alloc_array(NULL, (size_t)count + 1, sizeof *fds);
    for (int i = 0; i < count; i++) {
        fds[i] = ports_get(v->ports, i)->fd;
        if (!ports_include(before, fds[i]))
            log_info("%s: listening on %s", v->crew->settings.name,
                     ports_get(v->ports, i)->text);
    }
    dispatch_set_listeners(v->dispatch, fds, count);
    free(fds);
}

/* Whoever waits at an address that is to be given up is still taken. */
static void service_change_ports(struct service *v)
{
    struct ports *before = v->ports;
    if (before)
        dispatch_round(v->dispatch);
    v->ports = v->next_ports;
    v->next_ports = NULL;
    service_listen(v, before);
    ports_close(before);
}

static void service_balance_later(struct service *v)
{
    struct loop *l = v->context->loop;
    timer_start(&l->clock, &v->balance, loop_now(l) + BALANCE_SECONDS);
}

void service_commit(struct service *v)
{
    struct crew *before = v->crew;
    v->crew = v->next;
    v->next = NULL;
    v->moved = (uint64_t)dispatch_transfers(v->dispatch); /* on their way within before */
    if (v->crew->settings.dev)
        log_warn("%s: for development: errors are answered with the code",
                 v->crew->settings.name);
    dispatch_set_pool(v->dispatch, &v->crew->pool);
    service_change_ports(v);
    if (before) {
        service_let_leave(v, before);
        crew_retire(before, crew_resumes(v->crew), v->crew->config->drain);
        if (crew_is_gone(before))
            service_forget(v, before);
    }
    dispatch_round(v->dispatch);
    service_balance_later(v);
}

static void on_balance(void *arg)
{
    struct service *v = arg;
    crew_balance(v->crew);
    service_balance_later(v);
}

/* -- an upgrade ---------------------------------------------------------------------- */

static void service_save_crew(const char *name, const struct crew *c, struct baton *b)
{
    baton_begin(b, name);
    crew_save(c, b);
    baton_end(b);
}

void service_save(const struct service *v, struct baton *b)
{
    baton_put_number(b, "moved", v->moved);
    baton_put(b, "lives", v->lives, sizeof v->lives);
    ports_save(v->ports, b);
    service_save_crew("crew", v->crew, b);
    for (const struct crew *c = v->leaving; c; c = c->next)
        service_save_crew("leaving", c, b);
    dispatch_save(v->dispatch, b);
    baton_begin(b, "log");
    bus_log_save(&v->log, b);
    baton_end(b);
}

static void service_load_lives(struct service *v, const struct baton *b)
{
    size_t len;
    const char *lives = baton_get(b, "lives", &len);
    if (len <= sizeof v->lives)
        memcpy(v->lives, lives, len);
}

static void service_load_crews(struct service *v, struct config *config,
                               const struct pool_config *settings, struct baton *b)
{
    for (; baton_enter(b, "crew"); baton_leave(b))
        v->crew =
            crew_load(v->context, config, settings, v->lives, &crew_callbacks, v, b);
    for (; baton_enter(b, "leaving"); baton_leave(b))
        service_let_leave(
            v, crew_load(v->context, config, settings, v->lives, &crew_callbacks, v, b));
}

void service_load(struct service *v, struct config *config,
                  const struct pool_config *settings, struct baton *b)
{
    struct pool_config own = *settings;
    service_fit_concurrency(v, &own);
    v->moved = baton_number(b, "moved");
    service_load_lives(v, b);
    v->ports = ports_load(b);
    for (; baton_enter(b, "log"); baton_leave(b))
        bus_log_load(&v->log, b);
    service_load_crews(v, config, &own, b);
    dispatch_set_pool(v->dispatch, &v->crew->pool);
    service_listen(v, v->ports);
    dispatch_load(v->dispatch, b);
    dispatch_round(v->dispatch);
    service_balance_later(v);
}

/* -- the end ------------------------------------------------------------------------- */

/* Whoever is already in the backlog is still taken: to be refused now would be a loss. */
void service_stop(struct service *v)
{
    if (v->stopped)
        return;
    service_abandon(v);
    dispatch_round(v->dispatch);
    service_drop_transfers(v);
    v->stopped = 1;
    timer_stop(&v->context->loop->clock, &v->balance);
    dispatch_set_listeners(v->dispatch, NULL, 0);
    ports_close(v->ports);
    v->ports = NULL;
    double drain = v->crew ? v->crew->config->drain : 0;
    for (struct crew *c = v->leaving; c; c = c->next)
        crew_stop(c, drain);
    if (v->crew)
        crew_stop(v->crew, drain);
}

void service_kill(struct service *v)
{
    service_stop(v);
    for (struct crew *c = v->leaving; c; c = c->next)
        crew_kill(c);
    if (v->crew)
        crew_kill(v->crew);
}

static void reopen(struct crew *c)
{
    for (uint32_t i = 0; i < c->pool.count; i++)
        pool_tell_reopen(&c->pool.workers[i]);
}

void service_reopen(struct service *v)
{
    if (v->crew)
        reopen(v->crew);
    if (v->next)
        reopen(v->next);
    for (struct crew *c = v->leaving; c; c = c->next)
        reopen(c);
}

/* -- opening and closing ------------------------------------------------------------- */

struct service *service_open(const struct crew_context *context, uint32_t id,
                             unsigned long fd_limit,
                             const struct service_callbacks *callbacks, void *arg)
{
    struct service *v = alloc_zero(sizeof *v);
    v->context = context;
    v->callbacks = callbacks;
    v->arg = arg;
    v->id = id;
    v->fd_limit = fd_limit;
    scoreboard_set_crowded(context->board, id, 0);
    v->dispatch = dispatch_open(context->loop, &dispatch_callbacks, v);
    timer_init(&v->balance, on_balance, v);
    return v;
}

void service_close(struct service *v)
{
    ports_close(v->next_ports);
    dispatch_close(v->dispatch);
    ports_close(v->ports);
    crew_close(v->next);
    crew_close(v->crew);
    bus_log_clear(&v->log);
    free(v);
}
