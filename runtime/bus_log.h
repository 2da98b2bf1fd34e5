/*
 * bus_log: the latest messages between the workers of a pool, in the order in which all
 * get them, for those who come back and have missed some. Each has a sequence number, its
 * position, from 1.
 */
#ifndef MOONPOOL_BUS_LOG_H
#define MOONPOOL_BUS_LOG_H

#include "baton.h"

#include <stddef.h>
#include <stdint.h>

struct bus_log { /* zeroed: empty */
    struct bus_entry *first, **end;
    size_t bytes;
    uint64_t dropped; /* the last message that is not kept any more, or 0 */
    uint64_t last;    /* the last that there was, or 0 */
};

/* Returns its position. The oldest go, so that about a megabyte is kept. */
uint64_t bus_log_add(struct bus_log *b, const char *topic, size_t topic_len,
                     const char *text, size_t len);
/*
 * Calls fn for each message of the topic after that position. Returns 1; 0 if one of
 * them may be missing. fn must not add any.
 */
int bus_log_replay(const struct bus_log *b, uint64_t since, const char *topic,
                   size_t topic_len,
                   void (*fn)(uint64_t position, const char *text, size_t len, void *arg),
                   void *arg);
/* Into the item that is open; and from it, where there is none yet. */
void bus_log_save(const struct bus_log *b, struct baton *to);
void bus_log_load(struct bus_log *b, struct baton *from);
void bus_log_clear(struct bus_log *b); /* as if nothing of it was kept any more */

#endif
