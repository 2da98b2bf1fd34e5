/*
 * A round: accept as many clients as there are free slots, each into the batch of the
 * worker that the policy chooses, then send each batch as one message. When nobody is
 * free the listeners rest, the kernel's backlog is the queue, and the workers are asked
 * to tell of the next free slot.
 *
 * Whoever has been served before has the first turn: a round begins with the transfers.
 *
 * A batch that its channel does not take goes to other workers; what they cannot take
 * stays until there is room, and goes first in the next round.
 *
 * Under load the loop waits a little between rounds (ev_set_io_collect_interval): then a
 * round finds many clients and one message, one wake-up, serves them all. It goes on as
 * long as rounds do come back with many. A few clients who come again as soon as they are
 * served look like load too, but waiting brings no more of them and only delays them:
 * then it is left alone for a while.
 *
 * Without load a round takes as many as wait when it begins: to be told by accept(2) that
 * nobody does costs a tenth of a connection.
 */
#include "dispatch.h"

#include "alloc.h"
#include "fd.h"
#include "listener.h"
#include "policy.h"

#include <stdlib.h>

enum {
    ROUND_MAX = 1024, /* clients of one listener before the next has its turn */
    LOAD_MIN = 4,     /* clients in a round that may be load */
    COLLECT_MIN = 9,  /* for whom it is worth to wait */
    CROWD = 256,      /* transfers: each holds a descriptor or two */
};

#define COLLECT_SECONDS 300e-6
#define REST_SECONDS 20e-3 /* after waiting for fewer */

struct dispatch {
    struct loop *loop;
    const struct dispatch_callbacks *callbacks;
    void *arg;
    struct pool *pool; /* NULL: nobody takes clients */
    policy_choose *choose;
    int last;   /* chosen before */
    int paused; /* the listeners */
    int collecting;
    double collected; /* clients in a round of late */
    double rests_until;
    struct load *loads; /* of this round, one for each worker */
    int listener_count;
    struct listener **listeners;
    struct transfer *first, **end; /* in the order in which they came */
    int transfers, crowded;
    int closed;
    struct loop_job round;
};

/* -- choosing ------------------------------------------------------------------------ */

static policy_choose *const policies[] = {
    [POLICY_LEAST_LOADED] = policy_least_loaded,
    [POLICY_ROUND_ROBIN] = policy_round_robin,
    [POLICY_FIRST_FREE] = policy_first_free,
};

static void dispatch_look(struct dispatch *d)
{
    struct pool *p = d->pool;
    for (uint32_t i = 0; i < p->count; i++)
        d->loads[i] = (struct load){.used = pool_used(&p->workers[i]),
                                    .slots = p->config->concurrency,
                                    .open = pool_is_open(&p->workers[i])};
}

/* The worker for the next connection, which then counts as its; or NULL. */
static struct pool_worker *dispatch_choose(struct dispatch *d)
{
    int i = d->choose(d->loads, (int)d->pool->count, d->last);
    if (i < 0)
        return NULL;
    d->last = i;
    d->loads[i].used++;
    return &d->pool->workers[i];
}

/* The one that it is for, if that can have it now. */
static struct pool_worker *dispatch_choose_for(struct dispatch *d,
                                               const struct transfer *t)
{
    for (uint32_t i = 0; i < d->pool->count; i++) {
        struct load *l = &d->loads[i];
        if (d->pool->workers[i].number == t->worker && l->open && l->used < l->slots) {
            l->used++;
            return &d->pool->workers[i];
        }
    }
    return dispatch_choose(d);
}

/* -- giving -------------------------------------------------------------------------- */

static void dispatch_send(struct dispatch *d, struct pool_worker *w)
{
    if (!pool_batch_send(w))
        d->loads[w - d->pool->workers].open = 0;
}

static void dispatch_give(struct dispatch *d, struct pool_worker *w, int fd)
{
    pool_batch_add(w, fd);
    if (w->batch.count == CHANNEL_FDS)
        dispatch_send(d, w);
}

/* What w's channel did not take goes to others, the last comer first. */
static void dispatch_move_batch(struct dispatch *d, struct pool_worker *w)
{
    while (w->batch.count) {
        struct pool_worker *other = dispatch_choose(d);
        if (!other)
            return;
        dispatch_give(d, other, w->batch.fds[--w->batch.count]);
    }
}

static void dispatch_send_all(struct dispatch *d)
{
    struct pool *p = d->pool;
    for (uint32_t i = 0; i < p->count; i++)
        dispatch_send(d, &p->workers[i]);
    for (uint32_t i = 0; i < p->count; i++)
        if (!d->loads[i].open)
            dispatch_move_batch(d, &p->workers[i]);
    for (uint32_t i = 0; i < p->count; i++)
        if (d->loads[i].open)
            dispatch_send(d, &p->workers[i]);
}

/* -- transfers ----------------------------------------------------------------------- */

static void dispatch_tell_crowd(struct dispatch *d)
{
    int crowded = d->transfers >= (d->crowded ? CROWD / 2 : CROWD);
    if (crowded == d->crowded)
        return;
    d->crowded = crowded;
    d->callbacks->on_crowd(d, crowded, d->arg);
}

void dispatch_transfer(struct dispatch *d, struct transfer *t)
{
    t->next = NULL;
    *d->end = t;
    d->end = &t->next;
    d->transfers++;
    dispatch_tell_crowd(d);
    loop_soon(d->loop, &d->round);
}

void dispatch_save(const struct dispatch *d, struct baton *b)
{
    for (const struct transfer *t = d->first; t; t = t->next) {
        baton_begin(b, "transfer");
        transfer_save(t, b);
        baton_end(b);
    }
}

void dispatch_load(struct dispatch *d, struct baton *b)
{
    for (; baton_enter(b, "transfer"); baton_leave(b))
        dispatch_transfer(d, transfer_load(b));
}

/* 1 on its way; 0 its channel is full, and somebody else is to have it. */
static int dispatch_send_transfer(struct dispatch *d, struct pool_worker *w,
                                  struct transfer *t)
{
    if (t->is_new) {
        dispatch_give(d, w, fd_take(&t->fds[0]));
        transfer_free(t);
        return 1;
    }
    if (pool_send_transfer(w, t))
        return 1;
    d->loads[w - d->pool->workers].open = 0;
    return 0;
}

static void dispatch_send_transfers(struct dispatch *d)
{
    while (d->first) {
        struct pool_worker *w = dispatch_choose_for(d, d->first);
        if (!w)
            break;
        struct transfer *next = d->first->next;
        if (!dispatch_send_transfer(d, w, d->first))
            continue;
        d->first = next;
        if (!next)
            d->end = &d->first;
        d->transfers--;
    }
    dispatch_tell_crowd(d);
}

/* -- taking -------------------------------------------------------------------------- */

static void dispatch_pause(struct dispatch *d, int paused)
{
    if (d->paused == paused)
        return;
    d->paused = paused;
    for (int i = 0; i < d->listener_count; i++)
        if (paused)
            listener_pause(d->listeners[i]);
        else
            listener_resume(d->listeners[i]);
}

/* Whom a round takes. */
struct taking {
    struct listener **listeners;
    int count;
    int most;  /* of one listener */
    int taken; /* of all */
};

/* Accepts until nobody waits, or they are enough (1), or nobody is free (0). */
static int dispatch_take(struct dispatch *d, struct taking *t, struct listener *l)
{
    for (int n = 0; n < t->most; n++) {
        int before = d->last;
        struct pool_worker *w = dispatch_choose(d);
        if (!w)
            return 0;
        int fd = listener_accept(l);
        if (fd < 0) {
            d->loads[d->last].used--;
            d->last = before;
            return 1;
        }
        dispatch_give(d, w, fd);
        t->taken++;
    }
    return 1;
}

/* Transfers that nobody took leave nothing to anybody else. */
static int dispatch_take_all(struct dispatch *d, struct taking *t)
{
    dispatch_send_transfers(d);
    int free = !d->first;
    for (int i = 0; i < t->count && free; i++)
        free = dispatch_take(d, t, t->listeners[i]);
    return free;
}

static void dispatch_collect(struct dispatch *d, int on)
{
    d->collecting = on;
    ev_set_io_collect_interval(d->loop->ev, on ? COLLECT_SECONDS : 0);
}

static void dispatch_pace(struct dispatch *d, int taken)
{
    double now = d->loop->clock.now;
    if (!d->collecting) {
        d->collected = COLLECT_MIN;
        if (taken >= LOAD_MIN && now >= d->rests_until)
            dispatch_collect(d, 1);
        return;
    }
    d->collected += (taken - d->collected) / 4;
    if (d->collected >= COLLECT_MIN)
        return;
    d->rests_until = now + REST_SECONDS;
    dispatch_collect(d, 0);
}

static void dispatch_run_round(struct dispatch *d, struct taking *t)
{
    if (!d->pool)
        return;
    dispatch_look(d);
    dispatch_send_all(d); /* what an earlier round could not send */
    dispatch_pause(d, 0);
    if (!dispatch_take_all(d, t)) {
        pool_ask_for_slots(d->pool);
        dispatch_look(d); /* a slot may have become free before they were asked */
        if (!dispatch_take_all(d, t))
            dispatch_pause(d, 1);
    }
    dispatch_send_all(d);
    dispatch_pace(d, t->taken);
}

/* All who wait: it may be the last round. */
void dispatch_round(struct dispatch *d)
{
    dispatch_run_round(d,
                       &(struct taking){d->listeners, d->listener_count, ROUND_MAX, 0});
}

static void on_ready(struct listener *l, void *arg)
{
    struct dispatch *d = arg;
    int most = d->collecting ? ROUND_MAX : listener_waiting(l, ROUND_MAX);
    dispatch_run_round(d, &(struct taking){&l, 1, most, 0});
}

static const struct listener_callbacks callbacks = {on_ready};

static void on_round(void *arg)
{
    struct dispatch *d = arg;
    if (!d->closed)
        dispatch_round(d);
}

/* -- opening and closing ------------------------------------------------------------- */

struct dispatch *dispatch_open(struct loop *l, const struct dispatch_callbacks *c,
                               void *arg)
{
    struct dispatch *d = alloc_zero(sizeof *d);
    d->loop = l;
    d->callbacks = c;
    d->arg = arg;
    d->end = &d->first;
    d->round = (struct loop_job){.run = on_round, .arg = d};
    return d;
}

void dispatch_set_pool(struct dispatch *d, struct pool *p)
{
    d->pool = p;
    d->last = -1;
    free(d->loads);
    d->loads = NULL;
    if (!p)
        return;
    d->choose = policies[p->config->policy];
    d->loads = alloc_zero(p->count * sizeof *d->loads);
}

static void dispatch_close_listeners(struct dispatch *d)
{
    while (d->listener_count)
        listener_close(d->listeners[--d->listener_count]);
    free(d->listeners);
    d->listeners = NULL;
}

void dispatch_set_listeners(struct dispatch *d, const int *fds, int count)
{
    dispatch_close_listeners(d);
    d->listeners = alloc_zero((size_t)count * sizeof *d->listeners);
    for (; d->listener_count < count; d->listener_count++) {
        struct listener *l =
            listener_open(d->loop, fds[d->listener_count], &callbacks, d);
        listener_pause(l);
        d->listeners[d->listener_count] = l;
    }
    d->paused = 1;
}

int dispatch_transfers(const struct dispatch *d)
{
    return d->transfers;
}

int dispatch_drop_transfers(struct dispatch *d)
{
    int count = d->transfers;
    for (struct transfer *t; (t = d->first);) {
        d->first = t->next;
        transfer_free(t);
    }
    d->end = &d->first;
    d->transfers = 0;
    dispatch_tell_crowd(d);
    return count;
}

void dispatch_close(struct dispatch *d)
{
    if (!d)
        return;
    d->closed = 1;
    dispatch_close_listeners(d);
    dispatch_drop_transfers(d);
    ev_set_io_collect_interval(d->loop->ev, 0);
    free(d->loads);
    loop_free_later(d->loop, d);
}
