/*
 * pulse: finds the workers of a pool that are stuck, and kills them.
 *
 * A worker whose loop neither waits nor goes on for stuck_timeout is in a C function that
 * does not return: the Lua code in it is the watchdog's. One that does not come to an end
 * of loading its script has load_timeout. What waits in its channel is its successor's.
 */
#ifndef MOONPOOL_PULSE_H
#define MOONPOOL_PULSE_H

#include "pool.h"

struct pulse;

struct pulse *pulse_open(struct pool *p); /* borrows it */
void pulse_close(struct pulse *u);        /* NULL: nothing */

#endif
