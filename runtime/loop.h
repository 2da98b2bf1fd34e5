/*
 * loop: one libev loop, one clock, and a queue of jobs to be done before it waits again.
 *
 * A turn is: wait for descriptors, tell their watchers, fire timers, do the jobs.
 * A loop is real (it waits; its clock is the system's) or virtual (it never waits; its
 * clock stands still until loop_advance).
 *
 * Jobs are how something happens "soon" instead of inside a callback: a task that is
 * ready runs, a closed conn is freed. They are done in the order in which they were asked
 * for, and may ask for more. Last jobs wait until the others are done: output is one, so
 * that all that is written in one turn leaves at once. Then, at rest, is the time for what
 * nobody waits for.
 */
#ifndef MOONPOOL_LOOP_H
#define MOONPOOL_LOOP_H

#include "clock.h"

#include <ev.h>
#include <stdatomic.h>

struct loop_job {
    void (*run)(void *arg);
    void *arg;
    struct loop_job *next;
    int queued;
};

struct loop {
    struct ev_loop *ev;
    struct clock clock;
    int is_virtual;
    unsigned long events; /* callbacks, timers and jobs so far: did something happen? */
    uint32_t turns;       /* so far, to know this one again */
    /* For who watches the loop from outside, or NULL: odd while it does not wait, and
     * another value after each wait. */
    _Atomic uint64_t *heartbeat;
    /* private */
    struct loop_jobs {
        struct loop_job *first, **end;
    } soon, last;
    struct loop_job *rest; /* or NULL */
    void **dead;           /* for loop_free_later */
    size_t dead_count, dead_size;
    double ahead; /* how far the clock is ahead of the system's */
    double alarm_at;
    ev_prepare before_wait;
    ev_check after_wait;
    ev_timer alarm;
    ev_idle more;
    int epoll_fd;
};

/* LOOP_DEFAULT is libev's default loop, the one that can watch children; only one. */
enum loop_kind { LOOP_OWN, LOOP_DEFAULT };

struct loop *loop_new(enum loop_kind kind); /* real; NULL and errno on failure */
void loop_free(struct loop *l);
void loop_set_virtual(struct loop *l, int on);

void loop_run(struct loop *l);  /* turns until loop_stop */
void loop_stop(struct loop *l); /* loop_run returns after this turn */
int loop_turn(struct loop *l);  /* one turn without waiting: did anything happen? */
void loop_wait(struct loop *l, double seconds); /* one turn that waits at most so long */
void loop_advance(struct loop *l, double seconds); /* virtual: firing on the way */

double loop_now(struct loop *l); /* the clock's time, read afresh where it is real */

void loop_soon(struct loop *l, struct loop_job *job); /* once, however often asked */
void loop_last(struct loop *l, struct loop_job *job); /* likewise, after the others */
/* Each time that nothing is left to do but to wait; NULL: nothing any more. */
void loop_at_rest(struct loop *l, struct loop_job *job);

/* free(p), but not before the callbacks and jobs that may still hold it are over. */
void loop_free_later(struct loop *l, void *p);

/*
 * To be called before close(fd) where another process may hold the same description:
 * closing alone would leave it in the epoll set for ever (epoll(7), Q6).
 */
void loop_forget(struct loop *l, int fd);

#endif
