/*
 * The clock's timers are served by one ev_timer, set to the earliest of them before each
 * wait. Jobs run before each wait; a bounded number at a time, so that jobs that beget
 * jobs do not keep descriptors waiting.
 */
#include "loop.h"

#include "alloc.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { JOBS_PER_TURN = 1000 };

static double loop_read_clock(const struct loop *l)
{
    return clock_monotonic() + l->ahead;
}

static void loop_bury_dead(struct loop *l)
{
    while (l->dead_count)
        free(l->dead[--l->dead_count]);
}

static void jobs_put(struct loop_jobs *q, struct loop_job *job)
{
    if (job->queued)
        return;
    job->queued = 1;
    job->next = NULL;
    *q->end = job;
    q->end = &job->next;
}

static void jobs_do_first(struct loop *l, struct loop_jobs *q)
{
    struct loop_job *job = q->first;
    q->first = job->next;
    if (!q->first)
        q->end = &q->first;
    job->queued = 0;
    l->events++;
    job->run(job->arg);
}

static int loop_has_jobs(const struct loop *l)
{
    return l->soon.first || l->last.first;
}

static void loop_do_jobs(struct loop *l)
{
    int left = JOBS_PER_TURN;
    while (loop_has_jobs(l) && left > 0) {
        for (; l->soon.first && left > 0; left--)
            jobs_do_first(l, &l->soon);
        for (int n = JOBS_PER_TURN; l->last.first && n > 0; n--, left--)
            jobs_do_first(l, &l->last);
    }
    if (!loop_has_jobs(l))
        loop_bury_dead(l);
}

/* A later time needs no change: the alarm then ends one wait in vain. */
static void loop_set_alarm(struct loop *l)
{
    double next = clock_next(&l->clock);
    if (l->is_virtual || next >= l->alarm_at)
        return;
    double after = next - l->clock.now;
    ev_timer_stop(l->ev, &l->alarm);
    ev_timer_set(&l->alarm, after > 0 ? after : 0, 0);
    ev_timer_start(l->ev, &l->alarm);
    l->alarm_at = next;
}

static void loop_beat(struct loop *l, int is_awake)
{
    if (l->heartbeat)
        atomic_store_explicit(l->heartbeat, 2 * (uint64_t)l->turns + (unsigned)is_awake,
                              memory_order_relaxed);
}

/* What is done at rest may ask for jobs. */
static void loop_rest(struct loop *l)
{
    if (!l->rest || loop_has_jobs(l))
        return;
    l->rest->run(l->rest->arg);
    loop_do_jobs(l);
}

static void on_before_wait(struct ev_loop *ev, ev_prepare *w, int revents)
{
    struct loop *l = w->data;
    (void)ev, (void)revents;
    loop_do_jobs(l);
    loop_rest(l);
    if (loop_has_jobs(l))
        ev_idle_start(l->ev, &l->more);
    else
        ev_idle_stop(l->ev, &l->more);
    loop_set_alarm(l);
    loop_beat(l, 0);
}

/* libev calls check watchers before those of the descriptors: all see the same time. */
static void on_after_wait(struct ev_loop *ev, ev_check *w, int revents)
{
    struct loop *l = w->data;
    (void)ev, (void)revents;
    l->turns++;
    loop_beat(l, 1);
    if (!l->is_virtual)
        l->events += (unsigned)clock_set(&l->clock, loop_read_clock(l));
}

/* It only ends the wait: on_after_wait fires what is due. */
static void on_alarm(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct loop *l = w->data;
    (void)ev, (void)revents;
    l->alarm_at = INFINITY;
}

/* It only keeps the loop from waiting. */
static void on_more(struct ev_loop *ev, ev_idle *w, int revents)
{
    (void)ev, (void)w, (void)revents;
}

/* The epoll descriptor is the first that libev opens, so the lowest that was free. */
static int lowest_free_fd(void)
{
    int fd = dup(STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd;
}

static int is_epoll(int fd)
{
    char name[64], target[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(name, target, sizeof target - 1);
    return n > 0 && strstr((target[n] = 0, target), "[eventpoll]") != NULL;
}

static void loop_start_watchers(struct loop *l)
{
    ev_prepare_init(&l->before_wait, on_before_wait);
    ev_check_init(&l->after_wait, on_after_wait);
    ev_timer_init(&l->alarm, on_alarm, 0, 0);
    ev_idle_init(&l->more, on_more);
    l->before_wait.data = l->after_wait.data = l->alarm.data = l;
    ev_prepare_start(l->ev, &l->before_wait);
    ev_check_start(l->ev, &l->after_wait);
}

struct loop *loop_new(enum loop_kind kind)
{
    int lowest = lowest_free_fd();
    struct ev_loop *ev = kind == LOOP_DEFAULT
                             ? ev_default_loop(EVFLAG_AUTO | EVBACKEND_EPOLL)
                             : ev_loop_new(EVFLAG_AUTO | EVBACKEND_EPOLL);
    if (!ev)
        return NULL;
    struct loop *l = alloc_zero(sizeof *l);
    l->ev = ev;
    l->soon.end = &l->soon.first;
    l->last.end = &l->last.first;
    l->alarm_at = INFINITY;
    l->epoll_fd = is_epoll(lowest) ? lowest : -1;
    clock_set(&l->clock, clock_monotonic());
    loop_start_watchers(l);
    return l;
}

void loop_free(struct loop *l)
{
    do
        loop_do_jobs(l);
    while (loop_has_jobs(l));
    ev_prepare_stop(l->ev, &l->before_wait);
    ev_check_stop(l->ev, &l->after_wait);
    ev_timer_stop(l->ev, &l->alarm);
    ev_idle_stop(l->ev, &l->more);
    ev_loop_destroy(l->ev);
    clock_clear(&l->clock);
    free(l->dead);
    free(l);
}

void loop_set_virtual(struct loop *l, int on)
{
    l->clock.now = loop_now(l);
    l->is_virtual = on;
    l->ahead = l->clock.now - clock_monotonic();
    l->alarm_at = INFINITY; /* it was set by the other time */
}

void loop_run(struct loop *l)
{
    ev_run(l->ev, 0);
}

void loop_stop(struct loop *l)
{
    ev_break(l->ev, EVBREAK_ALL);
}

int loop_turn(struct loop *l)
{
    unsigned long before = l->events;
    ev_run(l->ev, EVRUN_NOWAIT);
    return l->events != before;
}

static void on_waited(void *arg)
{
    (void)arg;
}

void loop_wait(struct loop *l, double seconds)
{
    struct timer limit;
    timer_init(&limit, on_waited, NULL);
    timer_start(&l->clock, &limit, loop_now(l) + seconds);
    ev_run(l->ev, l->is_virtual ? EVRUN_NOWAIT : EVRUN_ONCE);
    timer_stop(&l->clock, &limit);
}

static void loop_settle(struct loop *l)
{
    while (loop_turn(l))
        ;
}

void loop_advance(struct loop *l, double seconds)
{
    double end = l->clock.now + seconds;
    loop_settle(l);
    for (double next; (next = clock_next(&l->clock)) <= end; loop_settle(l))
        clock_set(&l->clock, next);
    clock_set(&l->clock, end);
}

double loop_now(struct loop *l)
{
    return l->is_virtual ? l->clock.now : loop_read_clock(l);
}

void loop_soon(struct loop *l, struct loop_job *job)
{
    jobs_put(&l->soon, job);
}

void loop_last(struct loop *l, struct loop_job *job)
{
    jobs_put(&l->last, job);
}

void loop_at_rest(struct loop *l, struct loop_job *job)
{
    l->rest = job;
}

void loop_free_later(struct loop *l, void *p)
{
    if (l->dead_count == l->dead_size) {
        l->dead_size = l->dead_size ? l->dead_size * 2 : 64;
        l->dead = alloc_array(l->dead, l->dead_size, sizeof *l->dead);
    }
    l->dead[l->dead_count++] = p;
}

void loop_forget(struct loop *l, int fd)
{
    struct epoll_event unused = {0};
    if (l->epoll_fd >= 0)
        epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, &unused);
}
