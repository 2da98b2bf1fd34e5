/*
 * scoreboard: one shared mapping in which supervisor and workers keep what the others may
 * read at any time. Each field has a single writer at a time, so nobody locks and a
 * process killed at any instant leaves nothing held.
 *
 * Used slots of a worker, as the supervisor counts them:
 *
 *     sent - received + open
 *
 * sent is the supervisor's own count of connections it put into the worker's channel.
 * The worker adds to open before it sets received, so a reader may for an instant see too
 * many slots used, never too few.
 */
#ifndef MOONPOOL_SCOREBOARD_H
#define MOONPOOL_SCOREBOARD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Of a worker: descriptors that Linux allows a process (fs.nr_open, by default). */
enum { SCOREBOARD_CONNECTIONS = 1 << 20, SCOREBOARD_TEXT = 128 };

/* Some megabytes, of which those that nobody touches cost nothing. */
struct scoreboard_cell {
    /* written by the supervisor (all of the cell while no worker has it) */
    _Alignas(64) _Atomic uint64_t generation;
    _Atomic uint32_t pool;      /* whose worker it is for, from 1; 0: nobody's */
    _Atomic int32_t pid;        /* 0: nobody */
    _Atomic uint32_t want_slot; /* 1: tell me when a slot is free; whoever tells clears */
    _Atomic uint64_t lost_messages; /* published, but the worker's queue was full */
    _Atomic uint64_t published;     /* position of the pool's last message (bus_log.h) */

    /* written by the worker */
    _Alignas(64) _Atomic uint64_t received; /* running total, taken from the messages */
    _Atomic uint64_t topics; /* a bit for each hash of a subscribed topic */
    _Atomic uint32_t open;   /* connections it holds now */
    _Atomic uint32_t pinned; /* of these, the ones that are not to be moved */
    _Atomic uint32_t draining;
    _Atomic uint64_t served;    /* connections that are over */
    _Atomic uint64_t requests;  /* that handlers began */
    _Atomic uint64_t errors;    /* that handlers and other tasks ended with */
    _Atomic uint64_t lua_bytes; /* memory of the Lua state */
    _Atomic uint64_t heartbeat; /* loop.h; and 1 until its script is loaded */
    _Atomic uint32_t serving; /* now: a connection, by its record in the journal; or 0 */
    /* The line from which a C function does not return, or at which it has crashed. */
    char stuck[SCOREBOARD_TEXT];

    /*
     * Written by the worker too: who holds which connection, by descriptor (census.h).
     * What else there will be to know of each goes beside it in the same way.
     */
    _Alignas(64) _Atomic uint64_t deciding; /* whose connection it may take; 0: none */
    _Atomic uint32_t holders_end;           /* from here on there is nobody */
    _Atomic uint64_t holders[SCOREBOARD_CONNECTIONS]; /* 0: nobody */
};

/* Behind the cells, of all. */
struct scoreboard_all {
    _Atomic uint64_t crowded; /* written by the supervisor: scoreboard_set_crowded */
};

struct scoreboard {
    int fd; /* owned: a memfd, close-on-exec */
    size_t count;
    struct scoreboard_cell *cells;
    struct scoreboard_all *all;
};

int scoreboard_create(struct scoreboard *b, size_t count); /* 0, or -1 and errno */
int scoreboard_attach(struct scoreboard *b, int fd);       /* takes over fd on success */
void scoreboard_close(struct scoreboard *b);

/* For the supervisor: a cell for a worker of pool; -1, there is none left. */
int scoreboard_take(struct scoreboard *b, uint32_t pool);
void scoreboard_give(struct scoreboard *b, uint32_t cell); /* after census_forget */

/* One more, for the field's one writer: without the lock that atomic_fetch_add takes. */
static inline void scoreboard_count(_Atomic uint64_t *field)
{
    uint64_t n = atomic_load_explicit(field, memory_order_relaxed);
    atomic_store_explicit(field, n + 1, memory_order_relaxed);
}

/*
 * For the supervisor: whether so many connections are on their way to that pool that no
 * more are to be handed to it for now. Pools whose numbers have the same low six bits are
 * one in this.
 */
void scoreboard_set_crowded(struct scoreboard *b, uint32_t pool, int crowded);
int scoreboard_is_crowded(const struct scoreboard *b, uint32_t pool);

/*
 * The two sides of "tell me when a slot is free". The worker calls scoreboard_receive
 * once those that have come are counted in open, and so not twice any more, and
 * scoreboard_give_back after each connection: whether the supervisor has asked and must
 * now be told, once. The supervisor calls scoreboard_ask and must then look at the slots
 * once more: of the two, at least one sees the other (both are sequentially consistent).
 */
void scoreboard_ask(struct scoreboard_cell *c);
int scoreboard_receive(struct scoreboard_cell *c, uint64_t received);
int scoreboard_give_back(struct scoreboard_cell *c);

#endif
