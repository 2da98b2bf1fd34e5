/*
 * ports: the listening sockets of a pool, by the addresses in its configuration. Those
 * that a later configuration names too stay open.
 */
#ifndef MOONPOOL_PORTS_H
#define MOONPOOL_PORTS_H

#include "endpoint.h"

struct ports;

/*
 * Opens what texts (NULL at the end) name, but for what is open in before (or NULL).
 * NULL and a sentence in why: then nothing has changed.
 */
struct ports *ports_open(char *const *texts, const struct endpoint_options *options,
                         const struct ports *before, char *why, size_t size);
void ports_close(struct ports *p); /* what no other ports have; or NULL */

/* Into the item that is open, and from it. */
void ports_save(const struct ports *p, struct baton *b);
struct ports *ports_load(struct baton *b);

int ports_count(const struct ports *p); /* of sockets */
const struct endpoint *ports_get(const struct ports *p, int i);

#endif
