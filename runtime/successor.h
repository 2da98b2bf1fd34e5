/*
 * successor: the program that is to take this one's place is asked first whether it can:
 * it must start, understand what it will be passed, and read the configuration.
 */
#ifndef MOONPOOL_SUCCESSOR_H
#define MOONPOOL_SUCCESSOR_H

#include "baton.h"
#include "config_child.h"

struct successor;

/*
 * source: as for config_child_start, with the path of the new program; b: what it would
 * be passed now. on_answer is called once, not before this has returned: with config, for
 * config_read in the new program, and why NULL; or with what is wrong, lines. All are
 * valid for that call. NULL and errno.
 */
typedef void successor_on_answer(const char *config, size_t len, const char *why,
                                 void *arg);
struct successor *successor_ask(struct loop *l, const struct config_source *source,
                                const struct baton *b, successor_on_answer *on_answer,
                                void *arg);
void successor_stop(struct successor *s); /* before on_answer; or NULL */

/*
 * The other side, moonpool successor INHERITED ARGUMENT...: the exit code. refuse returns
 * what is wrong with b, for a program with that configuration, or NULL.
 */
int successor_answer(const char *library, int argc, char **argv,
                     const char *(*refuse)(struct baton *b, const struct config *c));

#endif
