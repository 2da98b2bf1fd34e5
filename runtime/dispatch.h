/*
 * dispatch: takes clients from the listeners of a pool and gives them to its workers.
 */
#ifndef MOONPOOL_DISPATCH_H
#define MOONPOOL_DISPATCH_H

#include "endpoint.h"
#include "pool.h"

struct dispatch;

/* Endpoints stay the caller's. It takes nobody before dispatch_round is called first. */
struct dispatch *dispatch_open(struct pool *p, const struct endpoint *endpoints,
                               int count);
void dispatch_close(struct dispatch *d);

/* A slot or a worker has become free: takes and gives as many as it can. */
void dispatch_round(struct dispatch *d);

#endif
