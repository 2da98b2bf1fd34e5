/*
 * supervisor: owns the listening sockets and the workers, and keeps them running until it
 * is told to stop. It runs no code of the user's and reads no byte of a client's.
 *
 *     SIGTERM, SIGINT   stop: take no more, wait for what is open; the second time, at
 *                       once
 *     SIGHUP            reload, as moonpool reload
 *     SIGUSR2           upgrade, as moonpool upgrade
 *     SIGUSR1           all workers open their log files anew (logrotate)
 */
#ifndef MOONPOOL_SUPERVISOR_H
#define MOONPOOL_SUPERVISOR_H

#include "baton.h"
#include "config_child.h"

/*
 * Runs until it is stopped and returns the exit code: 0 all connections came to their
 * end, 1 it could not start (the reason is on standard error) or had to cut connections.
 * Takes over config; source is where it came from, to be read again.
 */
int supervisor_run(struct config *config, struct config_source *source,
                   const char *library);

/*
 * The same after an upgrade, where the program that has passed b has stopped. Takes over
 * b. source->inherited becomes what it was for that program.
 */
int supervisor_go_on(struct baton *b, struct config_source *source, const char *library);

/* Why a supervisor cannot go on with b and that configuration; NULL: it can. */
const char *supervisor_refuse(struct baton *b, const struct config *config);

#endif
