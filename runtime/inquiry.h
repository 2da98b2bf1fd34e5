/*
 * inquiry: a program is started, and what it says, on its descriptor INQUIRY_FD, is the
 * answer. What it does, and if it hangs, is no matter of this process's.
 */
#ifndef MOONPOOL_INQUIRY_H
#define MOONPOOL_INQUIRY_H

#include "loop.h"
#include "process.h"

#include <stddef.h>

struct inquiry;

typedef void inquiry_on_answer(const char *said, size_t len, int how, void *arg);

enum { INQUIRY_FD = PROCESS_FIRST_FD };

/*
 * Takes what process_start does, but for fds[0], which is its own. on_answer is called
 * once the program has ended, not before this has returned: with all it has said, valid
 * for that call, and how it ended, as in waitpid(2); or with INQUIRY_LATE if it has not
 * ended within patience seconds, or does not come to an end of saying things: it is
 * killed. NULL and errno. l is the default loop.
 */
enum { INQUIRY_LATE = -1 };
struct inquiry *inquiry_start(struct loop *l, const struct process_options *options,
                              double patience, inquiry_on_answer *on_answer, void *arg);
void inquiry_stop(struct inquiry *q); /* before on_answer; or NULL */

#endif
