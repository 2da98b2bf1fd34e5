/*
 * pool: the workers of one pool, or of a generation of it, as the supervisor sees them:
 * their channels, how much each has to do, and what is on its way to them.
 *
 * The channels belong to a place in the pool, not to a process. The supervisor keeps both
 * ends, so what is queued when a worker dies is received by its successor, or, where it
 * has none, by the supervisor itself.
 */
#ifndef MOONPOOL_POOL_H
#define MOONPOOL_POOL_H

#include "config.h"
#include "holds.h"
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
    uint32_t number; /* from 1; one more than config->workers has no work at first */
    uint32_t cell_index;
    struct scoreboard_cell *cell;
    enum worker_state state;
    pid_t pid;
    int resumes; /* it takes connections that bring a state */
    struct peer *control, *bus;
    int far_control, far_bus; /* owned: the worker's ends */
    int journal;              /* owned; -1: its connections die with it */
    struct holds holds;       /* where there is a journal, what it is about */
    uint64_t sent;            /* connections put into its channel, ever */
    uint64_t gave_at;         /* its heartbeat when it was told last to give some */
    int full;                 /* the channel took no more; until on_room */
    struct batch batch;       /* connections of this round, not sent yet */
};

struct pool_callbacks {
    void (*on_ready)(struct pool_worker *w, void *arg);
    void (*on_failed)(struct pool_worker *w, const char *text, size_t len, void *arg);
    void (*on_tired)(struct pool_worker *w, void *arg);
    void (*on_slot)(struct pool *p, void *arg); /* a slot or room in a channel is free */
    void (*on_transfer)(struct pool *p, struct transfer *t, void *arg); /* t is given */
    void (*on_publish)(const struct wire_header *h, const char *text, size_t len,
                       void *arg);
    void (*on_replay)(struct pool_worker *w, const struct wire_header *h,
                      const char *topic, size_t len, void *arg);
};

struct pool {
    struct loop *loop;
    struct scoreboard *board;
    const struct pool_config *config;
    const struct pool_callbacks *callbacks;
    void *arg;
    uint32_t count;
    struct pool_worker *workers;
};

/* id: of the pool, in the scoreboard. 0, or -1 and errno: EUSERS, no cell is left. */
int pool_open(struct pool *p, struct loop *l, const struct pool_config *config,
              struct scoreboard *board, uint32_t id,
              const struct pool_callbacks *callbacks, void *arg);
void pool_close(struct pool *p);

/*
 * All that is open for its workers, into the item that is open; and, with config->workers
 * as it was, from it, in place of pool_open.
 */
void pool_save(const struct pool *p, struct baton *b);
void pool_load(struct pool *p, struct loop *l, const struct pool_config *config,
               struct scoreboard *board, const struct pool_callbacks *callbacks,
               void *arg, struct baton *b);

/* Connections that count against w's concurrency: in it, on their way, in its batch. */
uint32_t pool_used(const struct pool_worker *w);
int pool_is_open(const struct pool_worker *w); /* ready, stays, and has room */

void pool_batch_add(struct pool_worker *w, int fd); /* takes fd; the batch is not full */
/* 1: the batch is on its way. 0: the channel is full, the batch stays. */
int pool_batch_send(struct pool_worker *w);

/* What was kept in case that w dies before it has received it need not be any more. */
void pool_settle(struct pool_worker *w);

/* 1 t is on its way and freed; 0 the channel is full. */
int pool_send_transfer(struct pool_worker *w, struct transfer *t);
void pool_take_back(struct pool_worker *w); /* what is queued for it: on_transfer */
void pool_hold(struct pool *p, int on);     /* leaves what workers say where it is */

/* To those who want topics with that bit. */
void pool_publish(struct pool *p, uint64_t bit, const struct wire_header *h,
                  const char *text, size_t len);
void pool_set_published(struct pool *p, uint64_t position); /* the last that there was */
/* h: WIRE_REPLAY or WIRE_REPLAYED. Whether there was room for it. */
int pool_replay(struct pool_worker *w, const struct wire_header *h, const char *text,
                size_t len);
void pool_ask_for_slots(
    struct pool *p); /* on_slot will tell; look once more after this */
void pool_tell_stop(struct pool_worker *w);
void pool_tell_retire(struct pool_worker *w, int why, int gives_states, double drain);
/* Not again before it has had time to. */
void pool_tell_give(struct pool_worker *w, uint32_t count);
void pool_tell_reopen(struct pool_worker *w);

void pool_started(struct pool_worker *w, pid_t pid);
/*
 * Handles its last words, gives what others can go on with to on_transfer, and puts its
 * counts right: all else that it had is over.
 */
struct holds_outcome pool_died(struct pool_worker *w);

#endif
