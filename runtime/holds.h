/*
 * holds: the supervisor's own descriptors of the connections that a worker has, so that
 * none ends with it. When the worker has died its journal tells what becomes of each.
 *
 * Connections are numbered as they were sent to the worker, from 1. Until it has received
 * one that came with a parcel, that is kept too: it may die in between.
 */
#ifndef MOONPOOL_HOLDS_H
#define MOONPOOL_HOLDS_H

#include "address.h"
#include "journal.h"
#include "transfer.h"

struct holds {         /* zeroed: empty */
    uint64_t *numbers; /* by descriptor; 0: it is not one of these */
    uint32_t size;
    struct transfer *kept, **kept_end; /* without their connection's descriptor */
};

void holds_add(struct holds *h, int fd, uint64_t number); /* takes over fd */
void holds_add_transfer(struct holds *h, struct transfer *t, uint64_t number); /* and t */
/* The worker does not have it any more: it is closed. number: its low bits. */
void holds_release(struct holds *h, uint32_t fd, uint32_t number);
void holds_release_any(struct holds *h, uint32_t fd);
void holds_received(struct holds *h, uint64_t number); /* all up to this one */
void holds_clear(struct holds *h);

/* Into the item that is open, and from it: the descriptors are the same, as they must be.
 */
void holds_save(const struct holds *h, struct baton *b);
void holds_load(struct holds *h, struct baton *b);

struct holds_outcome {
    uint32_t on;   /* go on elsewhere */
    uint32_t cut;  /* were in the midst of something, and are told so */
    uint32_t lost; /* likewise, but nobody knows what to tell them: they are closed */
    char blamed[ADDRESS_TEXT + JOURNAL_DOING + 8]; /* what it was at, and whose; or "" */
};

/*
 * The worker is dead, which had received those up to number: give gets those that others
 * are to have, and the rest is closed; the journal is as made anew then. blamed: which
 * the worker was at when it died, by descriptor, or 0.
 */
struct holds_outcome holds_rescue(struct holds *h, uint64_t number, int journal,
                                  uint32_t blamed,
                                  void (*give)(struct transfer *t, void *arg), void *arg);

#endif
