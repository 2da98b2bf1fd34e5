/*
 * Each second it looks at every worker's heartbeat (loop.h), and counts for how many
 * looks in a row it was the same, and odd. Counting, not comparing times, because this
 * process may have been stopped itself.
 */
#include "pulse.h"

#include "alloc.h"
#include "log.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>

#define INTERVAL 1.0 /* seconds between looks, or a quarter of a limit that is shorter */

struct look {
    pid_t pid;
    uint64_t heartbeat;
    uint32_t same; /* looks at which both were as they are */
};

struct pulse {
    struct pool *pool;
    struct timer timer;
    double interval;
    struct look *looks; /* by worker */
};

static double worker_limit(const struct pool_worker *w)
{
    const struct pool_config *c = w->pool->config;
    return w->state == WORKER_STARTING ? c->load_timeout : c->stuck_timeout;
}

/* Whether this is a look at a process that has not moved since the one before. */
static int look_again(struct look *k, const struct pool_worker *w)
{
    uint64_t heartbeat = atomic_load(&w->cell->heartbeat);
    int is_same = k->pid == w->pid && k->heartbeat == heartbeat && heartbeat % 2;
    k->pid = w->pid;
    k->heartbeat = heartbeat;
    k->same = is_same ? k->same + 1 : 0;
    return is_same;
}

static void kill_stuck(struct pool_worker *w, double limit)
{
    const char *name = w->pool->config->name;
    const char *where = w->cell->stuck;
    if (w->state == WORKER_STARTING)
        log_error("%s/%u, pid %d, has not loaded its script in %g s: killed", name,
                  w->number, (int)w->pid, limit);
    else
        log_error("%s/%u, pid %d, is stuck for %g s%s%.*s: killed", name, w->number,
                  (int)w->pid, limit, *where ? ", in C code that is called in " : "",
                  SCOREBOARD_TEXT, where);
    kill(w->pid, SIGKILL);
}

static void pulse_look(struct pulse *u, uint32_t i)
{
    struct pool_worker *w = &u->pool->workers[i];
    double limit = worker_limit(w);
    if (!w->pid || !look_again(&u->looks[i], w))
        return;
    if (limit > 0 && u->looks[i].same == (uint32_t)ceil(limit / u->interval))
        kill_stuck(w, limit);
}

static void pulse_start(struct pulse *u)
{
    struct loop *l = u->pool->loop;
    timer_start(&l->clock, &u->timer, loop_now(l) + u->interval);
}

static void on_interval(void *arg)
{
    struct pulse *u = arg;
    for (uint32_t i = 0; i < u->pool->count; i++)
        pulse_look(u, i);
    pulse_start(u);
}

static void shorten(double *interval, double limit)
{
    if (limit > 0 && limit / 4 < *interval)
        *interval = limit / 4;
}

struct pulse *pulse_open(struct pool *p)
{
    struct pulse *u = alloc_zero(sizeof *u);
    u->pool = p;
    u->looks = alloc_zero(p->count * sizeof *u->looks);
    u->interval = INTERVAL;
    shorten(&u->interval, p->config->stuck_timeout);
    shorten(&u->interval, p->config->load_timeout);
    timer_init(&u->timer, on_interval, u);
    if (p->config->stuck_timeout > 0 || p->config->load_timeout > 0)
        pulse_start(u);
    return u;
}

void pulse_close(struct pulse *u)
{
    if (!u)
        return;
    timer_stop(&u->pool->loop->clock, &u->timer);
    free(u->looks);
    free(u);
}
