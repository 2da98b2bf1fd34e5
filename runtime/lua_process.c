#include "lua_process.h"

#include "fd.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
    const char *name;
    int number;
} signals[] = {{"TERM", SIGTERM}, {"INT", SIGINT},   {"KILL", SIGKILL}, {"STOP", SIGSTOP},
               {"CONT", SIGCONT}, {"SEGV", SIGSEGV}, {"ABRT", SIGABRT}, {"HUP", SIGHUP},
               {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"NULL", 0}};

char **lua_process_check_strings(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    size_t n = (size_t)luaL_len(L, arg);
    char **list = lua_newuserdatauv(L, (n + 1) * sizeof *list, 0);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, arg, (lua_Integer)i + 1);
        list[i] = (char *)luaL_checkstring(L, -1); /* the table keeps it */
        lua_pop(L, 1);
    }
    list[n] = NULL;
    return list;
}

/* Descriptors to pass on, as many as this is long: a userdata, or NULL. */
struct listeners {
    int count;
    int fds[];
};

static struct listeners *opt_listeners(lua_State *L, int arg)
{
    if (lua_isnoneornil(L, arg))
        return NULL;
    int is_list = lua_istable(L, arg), count = is_list ? (int)luaL_len(L, arg) : 1;
    struct listeners *l =
        lua_newuserdatauv(L, sizeof *l + (size_t)count * sizeof *l->fds, 0);
    l->count = count;
    for (int i = 0; i < count; i++) {
        if (is_list)
            lua_rawgeti(L, arg, i + 1);
        else
            lua_pushvalue(L, arg);
        l->fds[i] = (int)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    return l;
}

static void set_number(const char *name, int n)
{
    char text[32];
    snprintf(text, sizeof text, "%d", n);
    setenv(name, text, 1);
}

/* First all out of the way, so that none is overwritten before it is moved. */
static void pass_listeners(struct listeners *l)
{
    for (int i = 0; i < l->count; i++)
        l->fds[i] = fcntl(l->fds[i], F_DUPFD_CLOEXEC, 3 + l->count);
    for (int i = 0; i < l->count; i++)
        if (dup2(l->fds[i], 3 + i) < 0)
            _exit(127);
    set_number("LISTEN_FDS", l->count);
    set_number("LISTEN_PID", getpid());
}

static void run_child(char **argv, char **env, int output, lua_Integer fd_limit,
                      struct listeners *listeners)
{
    struct rlimit limit = {(rlim_t)fd_limit, (rlim_t)fd_limit};
    unsetenv("LD_PRELOAD"); /* the sanitizer's, which the program brings itself */
    for (; *env; env++)
        putenv(*env);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    if (listeners)
        pass_listeners(listeners);
    if (fd_limit)
        setrlimit(RLIMIT_NOFILE, &limit);
    execvp(argv[0], argv);
    _exit(127);
}

static int process_start_function(lua_State *L)
{
    lua_Integer fd_limit = luaL_optinteger(L, 3, 0);
    struct listeners *listeners = opt_listeners(L, 4);
    char **argv = lua_process_check_strings(L, 1);
    char **env = lua_process_check_strings(L, 2);
    int *in = lua_fd_push(L), ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return lua_fail(L, errno);
    *in = ends[0];
    pid_t pid = fork();
    if (pid == 0)
        run_child(argv, env, ends[1], fd_limit, listeners);
    fd_close(&ends[1]);
    if (pid < 0)
        return lua_fail(L, errno);
    lua_pushinteger(L, pid);
    lua_insert(L, -2);
    return 2;
}

static int process_kill(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    const char *name = luaL_checkstring(L, 2);
    luaL_argcheck(L, pid > 1, 1, "not a process");
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (strcmp(name, signals[i].name) == 0) {
            if (kill(pid, signals[i].number) < 0)
                return lua_fail(L, errno);
            lua_pushboolean(L, 1);
            return 1;
        }
    return luaL_argerror(L, 2, "no such signal");
}

static int process_wait(lua_State *L)
{
    int status;
    pid_t pid = (pid_t)luaL_checkinteger(L, 1);
    pid_t got = waitpid(pid, &status, lua_toboolean(L, 2) ? WNOHANG : 0);
    if (got < 0)
        return lua_fail(L, errno);
    if (got == 0)
        return 0;
    lua_pushstring(L, WIFSIGNALED(status) ? "signal" : "exit");
    lua_pushinteger(L, WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    return 2;
}

static int process_raise_fd_limit_function(lua_State *L)
{
    rlim_t wanted = (rlim_t)luaL_checkinteger(L, 1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted)
        limit.rlim_cur = wanted;
    if (limit.rlim_max < wanted) /* only root may */
        limit.rlim_max = wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return lua_fail(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

static int process_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

static const luaL_Reg functions[] = {
    {"start", process_start_function},
    {"kill", process_kill},
    {"wait", process_wait},
    {"pid", process_pid},
    {"raise_fd_limit", process_raise_fd_limit_function},
    {NULL, NULL},
};

int luaopen_moonpool_process(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
