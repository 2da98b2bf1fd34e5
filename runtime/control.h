/*
 * control: a unix socket on which the supervisor takes commands, a line each, of its own
 * user and of root, and tells those who gave them how it goes: a line for each thing it
 * says, of which the first character is a mark.
 *
 *     " ..."  how far it is          ". ..."  done, the last line
 *     "- ..." what is wrong          "! ..."  failed, the last line
 */
#ifndef MOONPOOL_CONTROL_H
#define MOONPOOL_CONTROL_H

#include "baton.h"
#include "loop.h"

#include <stddef.h>

enum control_mark {
    CONTROL_PROGRESS = ' ',
    CONTROL_PROBLEM = '-',
    CONTROL_DONE = '.',
    CONTROL_FAILED = '!',
};

struct control;

/* on_command may answer at once. NULL and a sentence in why. */
struct control *control_open(struct loop *l, const char *path,
                             void (*on_command)(const char *command, void *arg),
                             void *arg, char *why, size_t size);
void control_close(struct control *c); /* or NULL */

/* With its clients, into the item that is open, and from it, in place of control_open. */
void control_save(struct control *c, struct baton *b);
struct control *control_load(struct loop *l, void (*on_command)(const char *, void *arg),
                             void *arg, struct baton *b);

/* To all who have given a command and were not told the last line. text may be lines. */
void control_say(struct control *c, enum control_mark mark, const char *text);

/*
 * The other side: gives the command at path and prints what is said, problems to standard
 * error, until the last line. Returns 0 done, 1 failed, -1 and errno nobody is there.
 */
int control_ask(const char *path, const char *command);

#endif
