/*
 * dispatch: takes clients from the listeners of a pool, and from workers that give them
 * back, and gives them to its workers.
 */
#ifndef MOONPOOL_DISPATCH_H
#define MOONPOOL_DISPATCH_H

#include "pool.h"

struct dispatch;

struct dispatch_callbacks {
    /* More transfers wait than is good (1): none should come until there is room (0). */
    void (*on_crowd)(struct dispatch *d, int crowded, void *arg);
};

struct dispatch *dispatch_open(struct loop *l, const struct dispatch_callbacks *callbacks,
                               void *arg);
void dispatch_close(struct dispatch *d); /* and the transfers that wait */

/*
 * From now on the workers of p have the clients. Without p it gives and takes nothing.
 * Takes nobody before dispatch_round is called.
 */
void dispatch_set_pool(struct dispatch *d, struct pool *p);
/* From now on these are listened on, and they only. They stay the caller's. */
void dispatch_set_listeners(struct dispatch *d, const int *fds, int count);

/* Takes over t, which some worker gets before all new clients. */
void dispatch_transfer(struct dispatch *d, struct transfer *t);
int dispatch_transfers(const struct dispatch *d); /* that wait */
int dispatch_drop_transfers(struct dispatch *d);  /* closes them: how many */

/* The transfers that wait, into the item that is open, and from it. */
void dispatch_save(const struct dispatch *d, struct baton *b);
void dispatch_load(struct dispatch *d, struct baton *b);

/* A slot or a worker has become free: takes and gives as many as it can. */
void dispatch_round(struct dispatch *d);

#endif
