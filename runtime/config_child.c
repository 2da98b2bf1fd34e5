#include "config_child.h"

#include "alloc.h"
#include "fd.h"
#include "inquiry.h"

#include <stdlib.h>

#define PATIENCE 30.0 /* seconds */

struct config_child {
    struct inquiry *inquiry;
    void (*on_done)(struct config *c, const char *why, void *arg);
    void *arg;
};

void config_child_stop(struct config_child *c)
{
    if (!c)
        return;
    inquiry_stop(c->inquiry);
    free(c);
}

static void on_said(const char *said, size_t len, int how, void *arg)
{
    struct config_child *c = arg;
    char *why = NULL;
    struct config *config = how == INQUIRY_LATE ? NULL : config_read(said, len, &why);
    if (how == INQUIRY_LATE)
        why = alloc_string("the configuration was not read in time");
    c->on_done(config, why, c->arg);
    free(why);
    free(c);
}

/* PROGRAM COMMAND INHERITED ARGUMENT... */
struct inquiry *config_source_ask(struct loop *l, const struct config_source *s,
                                  const char *command, int fd, double patience,
                                  inquiry_on_answer *on_answer, void *arg)
{
    char **argv = alloc_zero(((size_t)s->argc + 4) * sizeof *argv);
    char *inherited = alloc_format("%d", s->inherited);
    argv[0] = (char *)s->program;
    argv[1] = (char *)command;
    argv[2] = inherited;
    for (int i = 0; i < s->argc; i++)
        argv[3 + i] = s->argv[i];
    struct process_options options = {.program = s->program,
                                      .argv = argv,
                                      .fds = {-1, fd, -1, -1},
                                      .uid = (uid_t)-1,
                                      .gid = (gid_t)-1};
    struct inquiry *q = inquiry_start(l, &options, patience, on_answer, arg);
    free(inherited);
    free(argv);
    return q;
}

struct config_child *config_child_start(struct loop *l, const struct config_source *s,
                                        void (*on_done)(struct config *c, const char *why,
                                                        void *arg),
                                        void *arg)
{
    struct config_child *c = alloc(sizeof *c);
    *c = (struct config_child){.on_done = on_done, .arg = arg};
    c->inquiry = config_source_ask(l, s, "config", -1, PATIENCE, on_said, c);
    if (c->inquiry)
        return c;
    free(c);
    return NULL;
}

int config_child_run(const char *library, int argc, char **argv)
{
    struct buf packed = {0};
    int done = config_write(library, atoi(argv[0]), argc - 1, argv + 1, &packed);
    if (done == 0)
        done = fd_write_all(INQUIRY_FD, buf_head(&packed), buf_len(&packed));
    buf_release(&packed);
    return done < 0;
}
