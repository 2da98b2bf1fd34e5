/*
 * census: how many connections a client has with all workers of a pool, for a limit that
 * holds for the pool and not for each worker.
 *
 * Each worker has a list of its own in the scoreboard, by descriptor, of who holds which
 * connection (address_holder); to count is to read the lists of all. Nothing is locked,
 * and a worker that is killed at any instant leaves only its list, which the supervisor
 * empties. A connection on its way from one worker to another is in no list.
 */
#ifndef MOONPOOL_CENSUS_H
#define MOONPOOL_CENSUS_H

#include "scoreboard.h"

struct census {
    struct scoreboard_cell *cells; /* borrowed: all; those of its pool count */
    uint32_t count;
    uint32_t self; /* the one that this process writes */
};

/*
 * Adds fd to what holder has: 1, or 0 if that would be more than most in the pool. Never
 * are there more; fewer only if a worker stands still for milliseconds right here. A
 * descriptor beyond SCOREBOARD_CONNECTIONS cannot be counted, so it is refused.
 */
int census_enter(const struct census *c, int fd, uint64_t holder, uint32_t most);
void census_leave(const struct census *c, int fd); /* before it is closed */

/* For the supervisor: a worker has died, and what it held is over. */
void census_forget(struct scoreboard_cell *cell);

#endif
