/*
 * clock: the one time that everything here goes by, and the timers that wait for it.
 *
 * Time is seconds since some beginning, never backwards. A clock does not run by itself:
 * its owner sets it with clock_set, from the system's monotonic clock in a server, from
 * the spec in a test; timers that are due then fire in order of time, those of one
 * instant in order of their start.
 */
#ifndef MOONPOOL_CLOCK_H
#define MOONPOOL_CLOCK_H

#include <stdint.h>

struct timer {
    double at;
    void (*fire)(void *arg); /* may start and stop any timer, this one too */
    void *arg;
    uint64_t order;
    uint32_t place; /* in the heap, from 1; 0: not started */
};

struct clock {
    double now;
    struct timer **heap; /* owned; the timers are their owners' */
    uint32_t count, size;
    uint64_t started;
};

void clock_clear(struct clock *c);          /* stops all timers, gives memory back */
double clock_next(const struct clock *c);   /* when the next timer is due, or INFINITY */
int clock_set(struct clock *c, double now); /* fires what is due; returns how many */
double clock_monotonic(void);               /* the system's, clock_gettime(2) */

void timer_init(struct timer *t, void (*fire)(void *arg), void *arg);

void timer_stop(struct clock *c, struct timer *t); /* started or not */

/*
 * Also: moves it. A time that is past means now. What fire() starts, for whatever time,
 * waits for the next clock_set.
 */
void timer_start(struct clock *c, struct timer *t, double at);

#endif
