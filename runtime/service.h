/*
 * service: a pool with all that belongs to it: what it listens on, the crew that works
 * for it, and, around a reload, the next crew and earlier ones.
 *
 * A reload is service_prepare, and once on_prepared has told that the next crew is ready,
 * service_commit: from then on it has the clients, and the crew before retires. Nothing
 * has changed until then, and service_abandon forgets it all.
 */
#ifndef MOONPOOL_SERVICE_H
#define MOONPOOL_SERVICE_H

#include "crew.h"

struct service;

struct service_callbacks {
    void (*on_prepared)(struct service *v, void *arg);
    /* as crew_callbacks.on_failed; the service is still prepared, in vain */
    void (*on_failed)(struct service *v, const char *why, void *arg);
    void (*on_gone)(struct service *v, void *arg); /* some crew has */
    /* t is given, for another pool than this one */
    void (*on_handoff)(struct transfer *t, void *arg);
};

/* id: from 1, its own. fd_limit: descriptors that a process may have. */
struct service *service_open(const struct crew_context *context, uint32_t id,
                             unsigned long fd_limit,
                             const struct service_callbacks *callbacks, void *arg);
void service_close(struct service *v); /* its processes must have gone */

/*
 * While it serves, and nothing is prepared: into the item that is open; and from it, into
 * one that was opened just now. settings are config's.
 */
void service_save(const struct service *v, struct baton *b);
void service_load(struct service *v, struct config *config,
                  const struct pool_config *settings, struct baton *b);

/* 0, or -1 and a sentence in why. settings are config's. */
int service_prepare(struct service *v, struct config *config,
                    const struct pool_config *settings, char *why, size_t size);
void service_commit(struct service *v);
void service_abandon(struct service *v);

void service_transfer(struct service *v, struct transfer *t); /* takes over t */
void service_stop(struct service *v); /* takes no more; on_gone tells of the end */
void service_kill(struct service *v);
void service_reopen(struct service *v); /* log files */

int service_is_prepared(const struct service *v); /* the next crew is ready */
int service_is_gone(const struct service *v);     /* no process is left */
int service_was_cut(const struct service *v);     /* connections were, while it stopped */

uint32_t service_ready(const struct service *v); /* workers that clients can go to */
uint32_t service_connections(const struct service *v); /* that all crews have */

/* How far the crews before this one have come. */
struct service_leaving {
    uint32_t workers;     /* that have not gone */
    uint32_t settled;     /* of these, those that have nothing but what is pinned */
    uint32_t connections; /* that they have still */
    uint32_t pinned;      /* of these */
    uint64_t moved;       /* connections, since the last commit */
};
struct service_leaving service_leaving(const struct service *v);

#endif
