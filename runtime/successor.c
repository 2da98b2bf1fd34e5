/*
 * The answer is a configuration if the new program exits with 0, and what is wrong if it
 * does not.
 */
#include "successor.h"

#include "alloc.h"
#include "fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE 10.0 /* seconds */

struct successor {
    struct inquiry *inquiry;
    char *program;
    struct stat asked; /* what that was when it was asked */
    successor_on_answer *on_answer;
    void *arg;
};

static void successor_free(struct successor *s)
{
    free(s->program);
    free(s);
}

void successor_stop(struct successor *s)
{
    if (!s)
        return;
    inquiry_stop(s->inquiry);
    successor_free(s);
}

/* What has not been asked is not to begin. */
static int is_another(const struct successor *s)
{
    struct stat now;
    return stat(s->program, &now) == 0 &&
           (now.st_dev != s->asked.st_dev || now.st_ino != s->asked.st_ino ||
            now.st_size != s->asked.st_size ||
            now.st_mtim.tv_sec != s->asked.st_mtim.tv_sec ||
            now.st_mtim.tv_nsec != s->asked.st_mtim.tv_nsec);
}

/* What is wrong; NULL: nothing. */
static char *explain(const struct successor *s, const char *said, size_t len, int how)
{
    if (how == INQUIRY_LATE)
        return alloc_format("%s has not answered in %g s", s->program, PATIENCE);
    if (WIFSIGNALED(how))
        return alloc_format("%s died of signal %d (%s)", s->program, WTERMSIG(how),
                            strsignal(WTERMSIG(how)));
    if (WEXITSTATUS(how) && len)
        return alloc_format("%.*s", (int)len, said);
    if (WEXITSTATUS(how))
        return alloc_format("%s exited with %d", s->program, WEXITSTATUS(how));
    if (!len)
        return alloc_format("%s is another program", s->program);
    if (is_another(s))
        return alloc_format("%s was replaced while it was asked", s->program);
    return NULL;
}

static void on_said(const char *said, size_t len, int how, void *arg)
{
    struct successor *s = arg;
    char *why = explain(s, said, len, how);
    s->on_answer(said, len, why, s->arg);
    free(why);
    successor_free(s);
}

struct successor *successor_ask(struct loop *l, const struct config_source *source,
                                const struct baton *b, successor_on_answer *on_answer,
                                void *arg)
{
    struct stat asked;
    int is_there =
        stat(source->program, &asked) == 0 && access(source->program, X_OK) == 0;
    int fd = is_there ? baton_store(b) : -1;
    if (fd < 0)
        return NULL;
    struct successor *s = alloc(sizeof *s);
    *s = (struct successor){.program = alloc_string(source->program),
                            .asked = asked,
                            .on_answer = on_answer,
                            .arg = arg};
    s->inquiry = config_source_ask(l, source, "successor", fd, PATIENCE, on_said, s);
    fd_close(&fd);
    if (s->inquiry)
        return s;
    successor_free(s);
    return NULL;
}

/* -- the other side ------------------------------------------------------------------ */

static char *judge(const struct buf *packed,
                   const char *(*refuse)(struct baton *b, const struct config *c))
{
    char *why;
    struct baton *b = baton_open(ASKED_FD);
    struct config *config = config_read(buf_head(packed), buf_len(packed), &why);
    if (!b) {
        free(why);
        why = alloc_string("moonpool " MOONPOOL_VERSION
                           " cannot go on where the other stops: that takes a restart");
    } else if (config) {
        const char *refusal = refuse(b, config);
        why = refusal ? alloc_string(refusal) : NULL;
    }
    config_release(config);
    baton_free(b);
    return why;
}

int successor_answer(const char *library, int argc, char **argv,
                     const char *(*refuse)(struct baton *b, const struct config *c))
{
    struct buf packed = {0};
    config_write(library, atoi(argv[0]), argc - 1, argv + 1, &packed);
    char *why = judge(&packed, refuse);
    const char *answer = why ? why : buf_head(&packed);
    size_t len = why ? strlen(why) : buf_len(&packed);
    int failed = fd_write_all(INQUIRY_FD, answer, len) < 0 || why;
    free(why);
    buf_release(&packed);
    return failed;
}
