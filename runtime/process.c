#include "process.h"

#include "alloc.h"
#include "fd.h"
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* These may be sent to all processes at once: they must not end one that is starting. */
static int is_broadcast(int signal)
{
    return signal == SIGUSR1 || signal == SIGUSR2;
}

static void reset_signals(void)
{
    sigset_t none;
    for (int s = 1; s < NSIG; s++)
        signal(s, is_broadcast(s) ? SIG_IGN : SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* First all out of the way, so that none is overwritten before it is moved. */
static int place_fds(const int fds[PROCESS_FDS])
{
    int moved[PROCESS_FDS];
    for (int i = 0; i < PROCESS_FDS; i++) {
        moved[i] = fds[i];
        if (fds[i] >= 0)
            moved[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, PROCESS_FIRST_FD + PROCESS_FDS);
        if (fds[i] >= 0 && moved[i] < 0)
            return -1;
    }
    /* They are so from birth, but for what was passed to this process. */
    close_range(PROCESS_FIRST_FD, ~0U, CLOSE_RANGE_CLOEXEC);
    for (int i = 0; i < PROCESS_FDS; i++)
        if (fds[i] >= 0 && dup2(moved[i], PROCESS_FIRST_FD + i) < 0)
            return -1;
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null == STDIN_FILENO) /* this process has none itself */
        return fd_set_cloexec(null, 0);
    return null < 0 ? -1 : dup2(null, STDIN_FILENO);
}

static int drop_privileges(const struct process_options *o)
{
    int drop = o->uid != (uid_t)-1, group = o->gid != (gid_t)-1;
    if (drop && o->user && group && initgroups(o->user, o->gid) < 0)
        return -1;
    if (group && !drop && setgroups(1, &o->gid) < 0)
        return -1;
    if (group && setresgid(o->gid, o->gid, o->gid) < 0)
        return -1;
    return drop ? setresuid(o->uid, o->uid, o->uid) : 0;
}

/* What systemd says to this process is meant for no other. */
static void clear_environment(void)
{
    static const char *const names[] = {"LISTEN_FDS",   "LISTEN_PID",    "LISTEN_FDNAMES",
                                        "WATCHDOG_PID", "WATCHDOG_USEC", "NOTIFY_SOCKET"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static int set_environment(char *const *env)
{
    clear_environment();
    for (; env && *env; env++)
        if (putenv(*env) != 0)
            return -1;
    return 0;
}

static void fail_child(const char *what)
{
    log_error("%s: %s", what, strerror(errno));
    _exit(PROCESS_FAILED);
}

static void run_child(const struct process_options *o)
{
    reset_signals();
    if (place_fds(o->fds) < 0)
        fail_child("cannot place the descriptors of a worker");
    if (drop_privileges(o) < 0)
        fail_child("cannot become the configured user and group");
    if (set_environment(o->env) < 0)
        fail_child("cannot set the environment of a worker");
    execv(o->program, o->argv);
    fail_child(o->program);
}

pid_t process_start(const struct process_options *o)
{
    pid_t pid = fork();
    if (pid == 0)
        run_child(o);
    return pid;
}

unsigned long process_raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur;
}

char *process_program(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0)
        log_fatal(1, "/proc/self/exe: %s", strerror(errno));
    path[n] = 0;
    return alloc_string(path);
}

static int is_this_program(const char *path)
{
    struct stat self, other;
    return stat("/proc/self/exe", &self) == 0 && stat(path, &other) == 0 &&
           self.st_dev == other.st_dev && self.st_ino == other.st_ino;
}

/* What execvp(3) has found it by; PATH's first that it is. */
static char *find_in_path(const char *name)
{
    const char *at = getenv("PATH");
    for (int len; at && *at; at += len + (at[len] == ':')) {
        len = (int)strcspn(at, ":");
        char *path = alloc_format("%.*s/%s", len, at, name);
        if (*path == '/' && is_this_program(path))
            return path;
        free(path);
    }
    return NULL;
}

static char *make_absolute(const char *path)
{
    char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);
    char *absolute = cwd ? alloc_format("%s/%s", cwd, path) : alloc_string(path);
    free(cwd);
    return absolute;
}

char *process_started_as(const char *argv0)
{
    char *path = strchr(argv0, '/') ? make_absolute(argv0) : find_in_path(argv0);
    if (path && is_this_program(path))
        return path;
    free(path); /* whoever started it has said something else */
    return process_program();
}
