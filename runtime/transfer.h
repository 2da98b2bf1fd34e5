/*
 * transfer: a connection on its way from one worker to another, in the supervisor.
 */
#ifndef MOONPOOL_TRANSFER_H
#define MOONPOOL_TRANSFER_H

#include "baton.h"

#include <stddef.h>
#include <stdint.h>

struct transfer {
    struct transfer *next; /* its owner's */
    uint64_t number;       /* likewise */
    int fd_count;
    int fds[2];            /* owned: the connection's, and perhaps its parcel's; or -1 */
    int is_new;            /* no worker has had it */
    uint32_t pool, worker; /* to which it is handed, if it is there; 0: to any */
    size_t len;
    char text[]; /* its parcel */
};

/* Takes over the descriptors, and leaves -1 in their place. */
struct transfer *transfer_new(int *fds, int count, const char *text, size_t len);
void transfer_free(struct transfer *t); /* closes what it has */

/* Into the item that is open, and from it. */
void transfer_save(const struct transfer *t, struct baton *b);
struct transfer *transfer_load(const struct baton *b);

#endif
