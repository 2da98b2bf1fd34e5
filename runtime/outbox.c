#include "outbox.h"

#include "alloc.h"
#include "fd.h"

#include <stdlib.h>

enum { QUEUED_MAX = 65536 }; /* 85 connections without much in their parcels */

#define AGAIN_SECONDS 0.02

struct outbox_item {
    struct outbox_item *next;
    struct conn *conn;
    struct outbox_place to;
};

/* As channel_send. A long parcel goes beside the message, in a descriptor. */
static int send_packed(struct outbox *o, const struct wire_header *h, int fd,
                       const struct buf *packed)
{
    int fds[2] = {fd, -1};
    if (buf_len(packed) <= PARCEL_INLINE)
        return peer_send(o->control, h, buf_head(packed), buf_len(packed), fds, 1);
    fds[1] = parcel_store(packed);
    if (fds[1] < 0)
        return -1;
    int sent = peer_send(o->control, h, NULL, 0, fds, 2);
    fd_close(&fds[1]);
    return sent;
}

static int outbox_send(struct outbox *o, const struct wire_header *h, struct conn *c,
                       const struct parcel *p)
{
    struct buf packed = {0};
    parcel_write(p, &packed);
    int sent = send_packed(o, h, conn_fd(c), &packed);
    buf_release(&packed);
    o->full = sent == 0;
    if (sent > 0)
        conn_moved(c, p->why);
    return sent > 0;
}

int outbox_give(struct outbox *o, struct conn *c, const struct parcel *p)
{
    struct wire_header h = {.type = WIRE_MOVED, .number = conn_record(c)};
    return !o->full && outbox_send(o, &h, c, p);
}

/* -- what is handed to others -------------------------------------------------------- */

/*
 * Who leaves a crowded pool makes room for one of those that wait for it. So there are no
 * more of them in all, and pools that are crowded do not wait for each other.
 */
static int outbox_is_kept_out(const struct outbox *o, uint32_t pool)
{
    return scoreboard_is_crowded(o->board, pool) &&
           !scoreboard_is_crowded(o->board, o->pool);
}

/*
 * What is on its way to the supervisor already does not know that a pool has become
 * crowded, so it is not much.
 */
static int outbox_has_to_wait(const struct outbox *o, uint32_t pool)
{
    return o->full || outbox_is_kept_out(o, pool) || peer_queued(o->control) > QUEUED_MAX;
}

/* 1 it is not here any more; 0 it has to wait. */
static int item_send(struct outbox *o, struct outbox_item *i)
{
    struct wire_header h = {.type = WIRE_HANDOFF,
                            .number = conn_record(i->conn),
                            .total = (uint64_t)i->to.pool << 32 | i->to.worker};
    struct parcel p;
    if (conn_error(i->conn)) {
        conn_close(i->conn);
        return 1;
    }
    if (outbox_has_to_wait(o, i->to.pool))
        return 0;
    conn_pack_all(i->conn, &p);
    p.why = PARCEL_HANDOFF;
    p.counted &= i->to.pool == o->pool; /* others have limits of their own */
    return outbox_send(o, &h, i->conn, &p);
}

static void outbox_try_again(struct outbox *o)
{
    struct clock *clock = &o->loop->clock;
    if (o->first && !o->again.place)
        timer_start(clock, &o->again, clock->now + AGAIN_SECONDS);
}

static void outbox_try(struct outbox *o)
{
    struct outbox_item **at = &o->first;
    for (struct outbox_item *i; (i = *at);) {
        if (item_send(o, i)) {
            *at = i->next;
            free(i);
        } else {
            at = &i->next;
        }
    }
    o->end = at;
    outbox_try_again(o);
}

static void on_again(void *arg)
{
    outbox_try(arg);
}

void outbox_hand(struct outbox *o, struct conn *c, const struct outbox_place *to)
{
    static const struct conn_callbacks nobody;
    struct outbox_item item = {.conn = c, .to = *to};
    conn_set_owner(c, &nobody, NULL);
    if (item_send(o, &item))
        return;
    *o->end = alloc(sizeof item);
    **o->end = item;
    o->end = &(*o->end)->next;
    outbox_try_again(o);
}

void outbox_has_room(struct outbox *o)
{
    o->full = 0;
    outbox_try(o);
}

/* -- opening and closing ------------------------------------------------------------- */

void outbox_open(struct outbox *o, struct loop *l, struct peer *control,
                 const struct scoreboard *board, uint32_t pool)
{
    *o = (struct outbox){.loop = l, .control = control, .board = board, .pool = pool};
    o->end = &o->first;
    timer_init(&o->again, on_again, o);
}

void outbox_close(struct outbox *o)
{
    timer_stop(&o->loop->clock, &o->again);
    for (struct outbox_item *i; (i = o->first);) {
        o->first = i->next;
        free(i);
    }
}
