/*
 * process: starting a program afresh, with nothing inherited that is not named here.
 */
#ifndef MOONPOOL_PROCESS_H
#define MOONPOOL_PROCESS_H

#include <sys/types.h>

enum { PROCESS_FDS = 4, PROCESS_FIRST_FD = 3 };

struct process_options {
    const char *program; /* path, as for execve(2) */
    char *const *argv;
    /* "NAME=value", added to this process's environment, less what systemd has put
     * there for this one; or NULL */
    char *const *env;
    int fds[PROCESS_FDS]; /* become 3, 4, 5 and 6, but for -1; all others are gone */
    const char *user;     /* whose groups it gets, or NULL */
    uid_t uid;            /* -1: unchanged */
    gid_t gid;            /* -1: unchanged */
};

/*
 * Returns its pid, or -1 and errno. What goes wrong in the child itself is said on its
 * standard error, and it exits with PROCESS_FAILED. Its standard input is /dev/null, its
 * signals are as the system begins, but for SIGUSR1 and SIGUSR2, which it does not see
 * unless it asks for them.
 */
enum { PROCESS_FAILED = 127 };
pid_t process_start(const struct process_options *o);

/* Raises the limit of open descriptors to what is allowed; returns it. setrlimit(2) */
unsigned long process_raise_fd_limit(void);

/* The path of this program, resolved now: a later one of that name may be another. */
char *process_program(void);
/* The path by which it was started, made absolute: where a later one is looked for. */
char *process_started_as(const char *argv0);

#endif
