#include "lua_handler.h"

#include "fd.h"
#include "handler.h"
#include "lua_fail.h"

#include <errno.h>
#include <lauxlib.h>
#include <sys/socket.h>

#define NAME "moonpool.handler"

static const struct handler_callbacks no_callbacks;

struct lua_handler {
    struct lua_conn_env *env;
    struct handler *handler;
};

/* serve() -> conn */
static int handler_connect(lua_State *L)
{
    struct lua_handler *box = luaL_checkudata(L, 1, NAME);
    struct lua_conn *client = lua_conn_push(L, box->env);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return lua_fail(L, errno);
    if (lua_conn_open(client, ends[0]) < 0) {
        int error = errno;
        fd_close(&ends[0]);
        fd_close(&ends[1]);
        return lua_fail(L, error);
    }
    handler_accept(box->handler, ends[1]);
    return 1;
}

static int handler_gc(lua_State *L)
{
    struct lua_handler *box = luaL_checkudata(L, 1, NAME);
    if (box->handler)
        handler_free(box->handler);
    box->handler = NULL;
    return 0;
}

/* handler(fn) -> serve */
static int handler_create(lua_State *L)
{
    struct lua_conn_env *env = lua_touserdata(L, lua_upvalueindex(1));
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    struct lua_handler *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct lua_handler){.env = env};
    luaL_setmetatable(L, NAME);
    lua_insert(L, 1);
    box->handler = handler_new(L, env, &no_callbacks, NULL);
    return 1;
}

void lua_handler_push(lua_State *L, struct lua_conn_env *env)
{
    luaL_newmetatable(L, NAME);
    lua_pushcfunction(L, handler_connect);
    lua_setfield(L, -2, "__call");
    lua_pushcfunction(L, handler_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushlightuserdata(L, env);
    lua_pushcclosure(L, handler_create, 1);
}
