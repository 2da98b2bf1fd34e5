/*
 * notify: tells systemd how the service is, where it wants to know: sd_notify(3), with
 * NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID from the environment.
 *
 * Each message has a status, a line about how things are; it is sent again by itself when
 * it has changed. So are signs of life, twice as often as systemd's watchdog wants them.
 */
#ifndef MOONPOOL_NOTIFY_H
#define MOONPOOL_NOTIFY_H

#include "loop.h"

#include <stddef.h>

struct notify;

/* NULL: nobody wants to know, or cannot be told, which is a warning. */
struct notify *notify_open(struct loop *l,
                           void (*describe)(char *status, size_t size, void *arg),
                           void *arg);
void notify_close(struct notify *n);

/* All do nothing with NULL, and nothing once it is stopping. */
void notify_ready(struct notify *n);     /* started, or done with a reload */
void notify_reloading(struct notify *n); /* notify_ready follows, even if it fails */
void notify_stopping(struct notify *n, double seconds); /* which it may take; or 0 */

#endif
