/*
 * outbox: connections that leave this worker, by the control channel.
 *
 * What it gives back (WIRE_MOVED) goes at once, or stays where it is. What a script hands
 * to others (WIRE_HANDOFF) is nobody's here any more: it waits in the outbox, where its
 * output goes on leaving, while the pool that it is for has too many on their way to it,
 * so that they do not use up the supervisor's descriptors.
 */
#ifndef MOONPOOL_OUTBOX_H
#define MOONPOOL_OUTBOX_H

#include "conn.h"
#include "peer.h"
#include "scoreboard.h"

struct outbox_place {
    uint32_t pool;   /* as the scoreboard has it */
    uint32_t worker; /* its number there; 0: any */
};

struct outbox {
    struct loop *loop;
    struct peer *control;
    const struct scoreboard *board;
    uint32_t pool; /* this worker's */
    int full;      /* control took no more; until outbox_has_room */
    struct outbox_item *first, **end;
    struct timer again;
};

/* All are borrowed. */
void outbox_open(struct outbox *o, struct loop *l, struct peer *control,
                 const struct scoreboard *board, uint32_t pool);
void outbox_close(struct outbox *o); /* what waits stays open */
void outbox_has_room(struct outbox *o);

/* Of a conn that rests, and its parcel: 1 it has moved, 0 it stays. */
int outbox_give(struct outbox *o, struct conn *c, const struct parcel *p);
/* Takes over c, whose checkpoint is the state, if it has one. */
void outbox_hand(struct outbox *o, struct conn *c, const struct outbox_place *to);

#endif
