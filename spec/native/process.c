/*
 * process: what runtime/lua_process.h has, for black-box specs, and
 * runtime/process.c for its spec:
 *
 *     process.exec{ program, argument ..., fds = { a, b, c }, env = { "NAME=value" ... },
 *                   user = name, uid = id, gid = id } -> pid
 *     process.program()              the path of this one
 *     process.raise()                process_raise_fd_limit
 *     process.disturb()              a handled, an ignored and a blocked signal
 *     process.id(name) -> uid, gid   of a user
 */
#include "process.h"
#include "lua_fail.h"
#include "lua_process.h"

#include <errno.h>
#include <lauxlib.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>

int luaopen_native_process(lua_State *L);

static lua_Integer integer_field(lua_State *L, const char *name, lua_Integer otherwise)
{
    lua_getfield(L, 1, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

static const char *string_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return luaL_optstring(L, -1, NULL); /* the table keeps it */
}

static int process_exec(lua_State *L)
{
    char **argv = lua_process_check_strings(L, 1);
    lua_getfield(L, 1, "env");
    struct process_options o = {
        .program = argv[0],
        .argv = argv,
        .env = lua_isnil(L, -1) ? NULL : lua_process_check_strings(L, lua_gettop(L)),
        .user = string_field(L, "user"),
        .uid = (uid_t)integer_field(L, "uid", -1),
        .gid = (gid_t)integer_field(L, "gid", -1),
    };
    lua_getfield(L, 1, "fds");
    for (int i = 0; i < PROCESS_FDS; i++) {
        lua_rawgeti(L, -1, i + 1);
        o.fds[i] = (int)luaL_optinteger(L, -1, -1);
        lua_pop(L, 1);
    }
    pid_t pid = process_start(&o);
    if (pid < 0)
        return lua_fail(L, errno);
    lua_pushinteger(L, pid);
    return 1;
}

static int process_program_function(lua_State *L)
{
    char *path = process_program();
    lua_pushstring(L, path);
    free(path);
    return 1;
}

static int process_raise(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)process_raise_fd_limit());
    return 1;
}

static void on_signal(int number)
{
    (void)number;
}

static int process_disturb(lua_State *L)
{
    sigset_t blocked;
    (void)L;
    signal(SIGUSR1, on_signal);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGRTMAX);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    return 0;
}

static int process_id(lua_State *L)
{
    struct passwd *user = getpwnam(luaL_checkstring(L, 1));
    if (!user)
        return 0;
    lua_pushinteger(L, user->pw_uid);
    lua_pushinteger(L, user->pw_gid);
    return 2;
}

int luaopen_native_process(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"exec", process_exec},   {"program", process_program_function},
        {"raise", process_raise}, {"disturb", process_disturb},
        {"id", process_id},       {NULL, NULL},
    };
    luaopen_moonpool_process(L);
    luaL_setfuncs(L, functions, 0);
    return 1;
}
