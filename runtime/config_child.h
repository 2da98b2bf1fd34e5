/*
 * config_child: reads the configuration again, in a process of its own: what its file
 * does, and if it loops for ever, is no matter of the supervisor's.
 */
#ifndef MOONPOOL_CONFIG_CHILD_H
#define MOONPOOL_CONFIG_CHILD_H

#include "config.h"
#include "inquiry.h"

struct config_child;

struct config_source { /* borrowed */
    const char *program;
    const char *successor; /* that an upgrade is to */
    int inherited;         /* config_inherited, of the supervisor */
    int argc;              /* as for config_load */
    char **argv;
};

/*
 * on_done is called once, not before this has returned: with a config that is the
 * callee's; or with NULL and what is wrong, a line for each problem, valid for that call.
 * NULL and errno.
 */
struct config_child *config_child_start(struct loop *l, const struct config_source *s,
                                        void (*on_done)(struct config *c, const char *why,
                                                        void *arg),
                                        void *arg);
void config_child_stop(struct config_child *c); /* before on_done; or NULL */

/* That process, moonpool config INHERITED ARGUMENT...: the exit code. */
int config_child_run(const char *library, int argc, char **argv);

/*
 * Asks its program to do a command for which that needs what is here: PROGRAM COMMAND
 * INHERITED ARGUMENT... fd, or -1, is its descriptor ASKED_FD; as inquiry_start.
 */
enum { ASKED_FD = INQUIRY_FD + 1 };
struct inquiry *config_source_ask(struct loop *l, const struct config_source *s,
                                  const char *command, int fd, double patience,
                                  inquiry_on_answer *on_answer, void *arg);

#endif
