/*
 * worker: a process that runs the script of a pool for the connections it is given.
 */
#ifndef MOONPOOL_WORKER_H
#define MOONPOOL_WORKER_H

/* argv: the settings (wire.h). Returns the exit code: 0 it was told to stop and has. */
int worker_run(int argc, char **argv);

#endif
