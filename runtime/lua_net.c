#include "lua_net.h"

#include "fd.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static struct lua_conn_env *env_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* A socket on its way to a: 0 connected, EINPROGRESS, or another errno and no socket. */
static int connect_begin(const struct address *a, int *fd)
{
    int on = 1;
    *fd = socket(a->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return errno;
    if (a->any.sa_family != AF_UNIX)
        setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(*fd, &a->any, a->len) == 0)
        return 0;
    int error = errno;
    if (error != EINPROGRESS)
        fd_close(fd);
    return error;
}

/* The box of a new connection over fd, or an errno; fd is closed if it fails. */
static int adopt(struct lua_conn *box, int *fd)
{
    if (lua_conn_open(box, *fd) < 0) {
        int error = errno;
        fd_close(fd);
        return error;
    }
    fd_take(fd);
    return 0;
}

static int connect_address(lua_State *L, const struct address *a, double timeout)
{
    int fd = -1;
    struct lua_conn *box = lua_conn_push(L, env_of(L));
    int connecting = connect_begin(a, &fd);
    if (fd < 0)
        return lua_fail(L, connecting);
    int error = adopt(box, &fd);
    if (error)
        return lua_fail(L, error);
    if (!connecting)
        return 1;
    conn_connecting(lua_conn_get(box));
    return lua_conn_connected(L, lua_gettop(L), timeout);
}

/* net.connect(address [, seconds]) -> conn; of a name, its first address only */
static int net_connect(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1);
    char why[256];
    double timeout = luaL_optnumber(L, 2, INFINITY);
    struct address a;
    lua_settop(L, 2);
    if (address_parse(text, &a, 1, why, sizeof why) < 1)
        return lua_fail_text(L, lua_pushfstring(L, "%s: %s", text, why), "EINVAL");
    return connect_address(L, &a, timeout);
}

/* net.resolve(address) -> list of addresses, without names */
static int net_resolve(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1);
    struct address found[ADDRESS_MAX];
    char why[256], one[ADDRESS_TEXT];
    int n = address_parse(text, found, ADDRESS_MAX, why, sizeof why);
    if (n < 1)
        return lua_fail_text(L, lua_pushfstring(L, "%s: %s", text, why), "EINVAL");
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        address_format(&found[i], one);
        lua_pushstring(L, one);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* net.pair() -> conn, conn */
static int net_pair(lua_State *L)
{
    struct lua_conn *a = lua_conn_push(L, env_of(L)), *b = lua_conn_push(L, env_of(L));
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return lua_fail(L, errno);
    int error = adopt(a, &ends[0]);
    if (!error)
        error = adopt(b, &ends[1]);
    fd_close(&ends[1]);
    return error ? lua_fail(L, error) : 2;
}

/* net.conn(fd [, unread]) -> conn; the descriptor is then the connection's */
static int net_conn(lua_State *L)
{
    int *from = lua_fd_check(L, 1);
    size_t len;
    const char *unread = luaL_optlstring(L, 2, "", &len);
    struct lua_conn *box = lua_conn_push(L, env_of(L));
    if (fd_is_listener(*from))
        return lua_fail(L, EINVAL);
    if (fd_set_nonblock(*from) < 0 || lua_conn_open(box, *from) < 0)
        return lua_fail(L, errno);
    fd_take(from);
    buf_append(conn_input(lua_conn_get(box)), unread, len);
    return 1;
}

static const luaL_Reg functions[] = {
    {"connect", net_connect},
    {"resolve", net_resolve},
    {"pair", net_pair},
    {"conn", net_conn},
    {NULL, NULL},
};

int luaopen_moonpool_net(lua_State *L, struct lua_conn_env *env)
{
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, env);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
