/*
 * pool: the workers of one pool as the supervisor sees them: their channels, how much
 * each has to do, and what is on its way to them.
 *
 * The channels belong to a place in the pool, not to a process. The supervisor keeps both
 * ends, so what is queued when a worker dies is received by its successor.
 */
#ifndef MOONPOOL_POOL_H
#define MOONPOOL_POOL_H

#include "config.h"
#include "peer.h"
#include "scoreboard.h"

#include <sys/types.h>

enum worker_state {
    WORKER_DOWN,     /* no process */
    WORKER_STARTING, /* loading its script */
    WORKER_READY,
    WORKER_STOPPING, /* was told to stop */
};

struct batch {
    int count;
    int fds[CHANNEL_FDS]; /* owned */
};

struct pool_worker {
    struct pool *pool;
    uint32_t number; /* from 1 */
    uint32_t cell_index;
    struct scoreboard_cell *cell;
    enum worker_state state;
    pid_t pid;
    struct peer *control, *bus;
    int far_control, far_bus; /* owned: the worker's ends */
    uint64_t sent;            /* connections put into its channel, ever */
    int full;                 /* the channel took no more; until on_room */
    struct batch batch;       /* connections of this round, not sent yet */
};

struct pool_callbacks {
    void (*on_ready)(struct pool_worker *w, void *arg);
    void (*on_failed)(struct pool_worker *w, const char *text, size_t len, void *arg);
    void (*on_slot)(struct pool *p, void *arg); /* a slot or room in a channel is free */
};

struct pool {
    struct loop *loop;
    const struct pool_config *config;
    const struct pool_callbacks *callbacks;
    void *arg;
    uint32_t count;
    struct pool_worker *workers;
};

/* cells: config->workers of them, from first_cell on. 0, or -1 and errno. */
int pool_open(struct pool *p, struct loop *l, const struct pool_config *config,
              struct scoreboard *board, uint32_t first_cell,
              const struct pool_callbacks *callbacks, void *arg);
void pool_close(struct pool *p);

/* Connections that count against w's concurrency: in it, on their way, in its batch. */
uint32_t pool_used(const struct pool_worker *w);
int pool_is_open(const struct pool_worker *w); /* ready, stays, and has room */

void pool_batch_add(struct pool_worker *w, int fd); /* takes fd; the batch is not full */
/* 1: the batch is on its way. 0: the channel is full, the batch stays. */
int pool_batch_send(struct pool_worker *w);

void pool_ask_for_slots(
    struct pool *p); /* on_slot will tell; look once more after this */
void pool_tell_stop(struct pool_worker *w);
void pool_tell_reopen(struct pool_worker *w);

void pool_started(struct pool_worker *w, pid_t pid);
/* Handles its last words, and puts its counts right: what it held is over. */
void pool_died(struct pool_worker *w);

#endif
