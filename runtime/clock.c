/*
 * A binary heap of pointers; each timer knows its place, so stopping one needs no search.
 */
#include "clock.h"

#include "alloc.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

static int timer_before(const struct timer *a, const struct timer *b)
{
    if (a->at != b->at)
        return a->at < b->at;
    return a->order < b->order;
}

static void heap_put(struct clock *c, uint32_t place, struct timer *t)
{
    c->heap[place - 1] = t;
    t->place = place;
}

static void heap_up(struct clock *c, struct timer *t, uint32_t place)
{
    while (place > 1 && timer_before(t, c->heap[place / 2 - 1])) {
        heap_put(c, place, c->heap[place / 2 - 1]);
        place /= 2;
    }
    heap_put(c, place, t);
}

static void heap_down(struct clock *c, struct timer *t, uint32_t place)
{
    for (uint32_t child; (child = place * 2) <= c->count; place = child) {
        if (child < c->count && timer_before(c->heap[child], c->heap[child - 1]))
            child++;
        if (!timer_before(c->heap[child - 1], t))
            break;
        heap_put(c, place, c->heap[child - 1]);
    }
    heap_put(c, place, t);
}

static void heap_settle(struct clock *c, struct timer *t, uint32_t place)
{
    heap_up(c, t, place);
    heap_down(c, t, t->place);
}

void clock_clear(struct clock *c)
{
    while (c->count)
        timer_stop(c, c->heap[c->count - 1]);
    free(c->heap);
    *c = (struct clock){.now = c->now};
}

double clock_next(const struct clock *c)
{
    return c->count ? c->heap[0]->at : INFINITY;
}

int clock_set(struct clock *c, double now)
{
    int fired = 0;
    if (now > c->now)
        c->now = now;
    uint64_t newcomers = c->started; /* what fire() starts waits for the next call */
    while (c->count && c->heap[0]->at <= c->now && c->heap[0]->order < newcomers) {
        struct timer *t = c->heap[0];
        timer_stop(c, t);
        t->fire(t->arg);
        fired++;
    }
    return fired;
}

double clock_monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void timer_init(struct timer *t, void (*fire)(void *arg), void *arg)
{
    *t = (struct timer){.fire = fire, .arg = arg};
}

void timer_start(struct clock *c, struct timer *t, double at)
{
    t->at = at > c->now ? at : c->now; /* so newcomers are behind all that is due */
    t->order = c->started++;
    if (!t->place) {
        if (c->count == c->size) {
            c->size = c->size ? c->size * 2 : 16;
            c->heap = alloc_array(c->heap, c->size, sizeof *c->heap);
        }
        t->place = ++c->count;
    }
    heap_settle(c, t, t->place);
}

void timer_stop(struct clock *c, struct timer *t)
{
    if (!t->place)
        return;
    uint32_t place = t->place;
    struct timer *last = c->heap[--c->count];
    t->place = 0;
    if (last != t)
        heap_settle(c, last, place);
}
