/*
 * native.endpoint: runtime/endpoint.c for its spec, and the system calls that the spec
 * needs to look at what was opened, from outside and as another process.
 *
 *   open(text [, options])  a set of endpoints, or nil and why; options are the fields
 *                           of struct endpoint_options and max
 *   #set, set:close(), set:fd([i]), set:text([i]), set:path([i])
 */
#include "endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SET "native.endpoint.set"

enum { NOBODY = 65534 };

struct set {
    int n;
    struct endpoint at[ADDRESS_MAX];
};

static int push_failure(lua_State *L, const char *why)
{
    luaL_pushfail(L);
    lua_pushstring(L, why);
    return 2;
}

static int push_result(lua_State *L, int result)
{
    if (result < 0)
        return push_failure(L, strerror(errno));
    lua_pushinteger(L, result);
    return 1;
}

static struct set *check_set(lua_State *L)
{
    return luaL_checkudata(L, 1, SET);
}

static struct endpoint *check_endpoint(lua_State *L)
{
    struct set *set = check_set(L);
    lua_Integer i = luaL_optinteger(L, 2, 1);
    luaL_argcheck(L, i >= 1 && i <= set->n, 2, "no such endpoint");
    return &set->at[i - 1];
}

static lua_Integer option_field(lua_State *L, const char *name, lua_Integer otherwise)
{
    if (!lua_istable(L, 2))
        return otherwise;
    lua_getfield(L, 2, name);
    lua_Integer value = luaL_optinteger(L, -1, otherwise);
    lua_pop(L, 1);
    return value;
}

/* open(text [, options]) */
static int native_open(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1);
    struct endpoint_options options = {
        .backlog = (int)option_field(L, "backlog", 16),
        .mode = (mode_t)option_field(L, "mode", 0),
        .uid = (uid_t)option_field(L, "uid", -1),
        .gid = (gid_t)option_field(L, "gid", -1),
    };
    int max = (int)option_field(L, "max", ADDRESS_MAX);
    char why[512];
    struct set *set = lua_newuserdatauv(L, sizeof *set, 0);
    set->n = 0;
    luaL_setmetatable(L, SET);
    int n = endpoint_open(text, &options, set->at, max, why, sizeof why);
    if (n < 0)
        return push_failure(L, why);
    set->n = n;
    return 1;
}

/* set:close() */
static int set_close(lua_State *L)
{
    struct set *set = check_set(L);
    for (int i = 0; i < set->n; i++)
        endpoint_close(&set->at[i]);
    return 0;
}

/* #set */
static int set_len(lua_State *L)
{
    lua_pushinteger(L, check_set(L)->n);
    return 1;
}

/* set:fd([i]) */
static int set_fd(lua_State *L)
{
    lua_pushinteger(L, check_endpoint(L)->fd);
    return 1;
}

/* set:text([i]) */
static int set_text(lua_State *L)
{
    lua_pushstring(L, check_endpoint(L)->text);
    return 1;
}

/* set:path([i]) */
static int set_path(lua_State *L)
{
    lua_pushstring(L, check_endpoint(L)->path);
    return 1;
}

/* connect(text [, from]): a descriptor, or nil and why; from is the address of its own; a
 * full unix backlog is not waited for */
static int native_connect(lua_State *L)
{
    struct address a, from = {.len = 0};
    char why[256];
    if (address_parse(luaL_checkstring(L, 1), &a, 1, why, sizeof why) < 0)
        return push_failure(L, why);
    if (lua_isstring(L, 2) &&
        address_parse(lua_tostring(L, 2), &from, 1, why, sizeof why) < 0)
        return push_failure(L, why);
    int family = a.sa.ss_family;
    int flags = SOCK_STREAM | SOCK_CLOEXEC | (family == AF_UNIX ? SOCK_NONBLOCK : 0);
    int fd = socket(family, flags, 0);
    if (fd >= 0 && ((from.len && bind(fd, &from.any, from.len) < 0) ||
                    connect(fd, &a.any, a.len) < 0)) {
        close(fd);
        fd = -1;
    }
    return push_result(L, fd);
}

/* accept(fd): a descriptor, or nil and why; waits a second at most */
static int native_accept(lua_State *L)
{
    struct pollfd ready = {.fd = (int)luaL_checkinteger(L, 1), .events = POLLIN};
    poll(&ready, 1, 1000);
    return push_result(L, accept4(ready.fd, NULL, NULL, SOCK_CLOEXEC));
}

/* socket(kind [, path]): a blocking "stream" or "dgram" socket, or a "listener" */
static int native_socket(lua_State *L)
{
    static const char *const kinds[] = {"stream", "dgram", "listener", NULL};
    int kind = luaL_checkoption(L, 1, NULL, kinds);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strncpy(un.sun_path, luaL_optstring(L, 2, ""), sizeof un.sun_path - 1);
    int fd =
        socket(*un.sun_path ? AF_UNIX : AF_INET, kind == 1 ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (fd < 0 || (*un.sun_path && bind(fd, (struct sockaddr *)&un, sizeof un) < 0) ||
        (kind == 2 && listen(fd, 16) < 0))
        return luaL_error(L, "socket: %s", strerror(errno));
    return push_result(L, fd);
}

/* close(fd) */
static int native_close(lua_State *L)
{
    return push_result(L, close((int)luaL_checkinteger(L, 1)));
}

/* option(fd, name [, value]): its value, after setting it if one is given */
static int native_option(lua_State *L)
{
    static const char *const names[] = {"reuseaddr", "nodelay", "v6only",
                                        "sndbuf",    "rcvbuf",  NULL};
    static const int ids[][2] = {{SOL_SOCKET, SO_REUSEADDR},
                                 {IPPROTO_TCP, TCP_NODELAY},
                                 {IPPROTO_IPV6, IPV6_V6ONLY},
                                 {SOL_SOCKET, SO_SNDBUF},
                                 {SOL_SOCKET, SO_RCVBUF}};
    const int *id = ids[luaL_checkoption(L, 2, NULL, names)];
    int fd = (int)luaL_checkinteger(L, 1), value = (int)luaL_optinteger(L, 3, -1);
    socklen_t len = sizeof value;
    if (!lua_isnoneornil(L, 3))
        setsockopt(fd, id[0], id[1], &value, len);
    getsockopt(fd, id[0], id[1], &value, &len);
    return push_result(L, value);
}

static _Noreturn void child_run(lua_State *L, int result)
{
    lua_settop(L, 1);
    int failed = lua_pcall(L, 0, 1, 0) != LUA_OK;
    size_t len;
    const char *text = luaL_tolstring(L, -1, &len);
    if (write(result, text, len) != (ssize_t)len)
        failed = 1;
    _exit(failed);
}

/* child(fn): what fn returns, as a string, when a forked process calls it */
static int native_child(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int ends[2], status = -1;
    char text[1024];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return luaL_error(L, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        child_run(L, ends[1]);
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text); /* one write, one read */
    close(ends[0]);
    if (pid < 0 || waitpid(pid, &status, 0) < 0)
        return luaL_error(L, "child: %s", strerror(errno));
    lua_pushlstring(L, text, n > 0 ? (size_t)n : 0);
    return status == 0 ? 1 : lua_error(L);
}

/* The rest is for a child, which may change itself. */

/* pid() */
static int native_pid(lua_State *L)
{
    return push_result(L, getpid());
}

/* setenv(name, value or nil) */
static int native_setenv(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *value = luaL_tolstring(L, 2, NULL);
    return push_result(L, lua_isnil(L, 2) ? unsetenv(name) : setenv(name, value, 1));
}

/* dup2(from, to) */
static int native_dup2(lua_State *L)
{
    return push_result(L,
                       dup2((int)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2)));
}

/* end_passing(): its warnings go to standard error */
static int native_end_passing(lua_State *L)
{
    (void)L;
    endpoint_end_passing();
    return 0;
}

/* umask(mask) */
static int native_umask(lua_State *L)
{
    return push_result(L, (int)umask((mode_t)luaL_checkinteger(L, 1)));
}

/* user(): its id */
static int native_user(lua_State *L)
{
    return push_result(L, (int)geteuid());
}

/* unprivileged(): root becomes nobody */
static int native_unprivileged(lua_State *L)
{
    return push_result(L, geteuid() == 0 ? setuid(NOBODY) : 0);
}

static const luaL_Reg methods[] = {
    {"close", set_close}, {"fd", set_fd}, {"text", set_text},
    {"path", set_path},   {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", set_close}, {"__close", set_close}, {"__len", set_len},
    {"__index", NULL},   {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", native_open},
    {"connect", native_connect},
    {"accept", native_accept},
    {"socket", native_socket},
    {"close", native_close},
    {"option", native_option},
    {"child", native_child},
    {"pid", native_pid},
    {"setenv", native_setenv},
    {"dup2", native_dup2},
    {"end_passing", native_end_passing},
    {"umask", native_umask},
    {"user", native_user},
    {"unprivileged", native_unprivileged},
    {NULL, NULL},
};

int luaopen_native_endpoint(lua_State *L);
int luaopen_native_endpoint(lua_State *L)
{
    luaL_newmetatable(L, SET);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
