/*
 * crew: the processes that work for a pool, all of one generation. They start together;
 * one that dies is replaced; and in the end they retire or stop together.
 *
 *   STARTING  until each of them has loaded the script; one that cannot fails the crew
 *   WORKING   a process that dies is started again
 *   LEAVING   none is; what was queued for one that has gone is given back
 */
#ifndef MOONPOOL_CREW_H
#define MOONPOOL_CREW_H

#include "pool.h"

struct crew_context { /* borrowed, by all crews */
    struct loop *loop;
    struct scoreboard *board;
    const char *program, *library;
};

enum crew_phase { CREW_STARTING, CREW_WORKING, CREW_LEAVING };

struct crew {
    const struct crew_context *context;
    const struct crew_callbacks *callbacks;
    void *arg;
    struct config *config;       /* of which it is a user */
    struct pool_config settings; /* a copy, so that concurrency can be cut to size */
    struct pool pool;
    struct pulse *pulse;
    struct place *places;
    uint64_t *lives; /* borrowed: how many processes each number has had, ever */
    enum crew_phase phase;
    int failed, was_cut;
    uint64_t moved;    /* connections that others have, since it leaves */
    struct crew *next; /* the owner's */
};

struct crew_callbacks {
    void (*on_ready)(struct crew *c, void *arg); /* all are */
    /* It is LEAVING then. why: a line or more, which the log has already */
    void (*on_failed)(struct crew *c, const char *why, void *arg);
    void (*on_gone)(struct crew *c, void *arg); /* all processes have: it may be closed */
    void (*on_slot)(struct crew *c, void *arg);
    void (*on_transfer)(struct crew *c, struct transfer *t, void *arg);
    void (*on_publish)(const struct wire_header *h, const char *text, size_t len,
                       void *arg);
    void (*on_replay)(struct pool_worker *w, const struct wire_header *h,
                      const char *topic, size_t len, void *arg);
};

/* id: as in pool_open. NULL and errno. */
struct crew *crew_open(const struct crew_context *context, struct config *config,
                       const struct pool_config *settings, uint32_t id, uint64_t *lives,
                       const struct crew_callbacks *callbacks, void *arg);
void crew_close(struct crew *c); /* or NULL */

/*
 * With its processes, into the item that is open; and from it, in place of crew_open and
 * crew_start: settings are for those that will be started again.
 */
void crew_save(const struct crew *c, struct baton *b);
struct crew *crew_load(const struct crew_context *context, struct config *config,
                       const struct pool_config *settings, uint64_t *lives,
                       const struct crew_callbacks *callbacks, void *arg,
                       struct baton *b);

void crew_start(struct crew *c);
/*
 * Others go on with what can move; what can neither move nor has ended after drain
 * seconds, and is not pinned, is cut.
 */
void crew_retire(struct crew *c, int gives_states, double drain);
void crew_stop(struct crew *c, double drain); /* nobody goes on: all ends, or is cut */
void crew_kill(struct crew *c);

/* From time to time. Who has too many connections gives some of them. */
void crew_balance(struct crew *c);

int crew_is_gone(const struct crew *c);
int crew_resumes(const struct crew *c); /* all take connections that bring a state */
uint32_t crew_count(const struct crew *c, enum worker_state state);
uint32_t crew_connections(const struct crew *c); /* that it has */
uint32_t crew_pinned(const struct crew *c);      /* of these */
uint32_t crew_settled(const struct crew *c); /* workers with pinned ones, and no others */

#endif
