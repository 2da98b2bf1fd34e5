/*
 * A worker says whose connection it is deciding about, then looks whether others decide
 * about the same holder's, then counts the lists. Of two that decide at once at least one
 * sees the other (all is sequentially consistent), and what it sees it counts as if it
 * were taken already, so there are never too many.
 *
 * If there is room for one but not for both, the one with the lower number goes first:
 * the other takes back its word, waits until it has decided, and looks again. That is a
 * matter of microseconds, and only of this holder's connections; whoever is not served by
 * then, because that worker was stopped just there, is refused.
 */
#include "census.h"

#include <sched.h>

enum { PATIENCE = 10000 }; /* times that others are let run: some milliseconds */

enum verdict { UNDECIDED, REFUSED, ADMITTED };

static int census_includes(const struct census *c, uint32_t i)
{
    return atomic_load_explicit(&c->cells[i].pool, memory_order_relaxed) ==
           atomic_load_explicit(&c->cells[c->self].pool, memory_order_relaxed);
}

/* Which of the workers from..to - 1 decide about holder's connections now: how many. */
static uint32_t census_deciding(const struct census *c, uint64_t holder, uint32_t from,
                                uint32_t to)
{
    uint32_t n = 0;
    for (uint32_t i = from; i < to; i++)
        if (census_includes(c, i))
            n += atomic_load(&c->cells[i].deciding) == holder;
    return n;
}

static uint32_t cell_count(const struct scoreboard_cell *cell, uint64_t holder)
{
    uint32_t n = 0, end = atomic_load(&cell->holders_end);
    for (uint32_t i = 0; i < end; i++)
        n += atomic_load_explicit(&cell->holders[i], memory_order_relaxed) == holder;
    return n;
}

static uint32_t census_count(const struct census *c, uint64_t holder)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->count; i++)
        if (census_includes(c, i))
            n += cell_count(&c->cells[i], holder);
    return n;
}

/*
 * What others decide is read before what they have: they write in the opposite order, so
 * a connection may be seen twice, but is never missed.
 */
static enum verdict census_look(const struct census *c, uint64_t holder, uint32_t most)
{
    uint32_t others = census_deciding(c, holder, 0, c->self) +
                      census_deciding(c, holder, c->self + 1, c->count);
    if (census_count(c, holder) + others < most)
        return ADMITTED;
    return others ? UNDECIDED : REFUSED;
}

static enum verdict census_decide(const struct census *c, uint64_t holder, uint32_t most)
{
    _Atomic uint64_t *deciding = &c->cells[c->self].deciding;
    enum verdict v = UNDECIDED;
    for (int tries = 0; tries < PATIENCE && v == UNDECIDED; tries++) {
        if (tries > 0)
            sched_yield();
        if (tries > 0 && census_deciding(c, holder, 0, c->self))
            atomic_store(deciding, 0); /* that one goes first */
        else {
            atomic_store(deciding, holder);
            v = census_look(c, holder, most);
        }
    }
    return v;
}

/* Whoever is killed in between leaves nothing beyond the end. */
static void cell_add(struct scoreboard_cell *cell, uint32_t i, uint64_t holder)
{
    if (i >= atomic_load(&cell->holders_end))
        atomic_store(&cell->holders_end, i + 1);
    atomic_store(&cell->holders[i], holder);
}

int census_enter(const struct census *c, int fd, uint64_t holder, uint32_t most)
{
    struct scoreboard_cell *self = &c->cells[c->self];
    if (fd >= SCOREBOARD_CONNECTIONS)
        return 0;
    enum verdict v = census_decide(c, holder, most);
    if (v == ADMITTED)
        cell_add(self, (uint32_t)fd, holder);
    atomic_store(&self->deciding, 0);
    return v == ADMITTED;
}

void census_leave(const struct census *c, int fd)
{
    struct scoreboard_cell *self = &c->cells[c->self];
    uint32_t end = atomic_load(&self->holders_end);
    atomic_store(&self->holders[fd], 0);
    while (end && !atomic_load(&self->holders[end - 1]))
        end--;
    atomic_store(&self->holders_end, end);
}

void census_forget(struct scoreboard_cell *cell)
{
    for (uint32_t i = atomic_load(&cell->holders_end); i--;)
        atomic_store(&cell->holders[i], 0);
    atomic_store(&cell->holders_end, 0);
    atomic_store(&cell->deciding, 0);
}
