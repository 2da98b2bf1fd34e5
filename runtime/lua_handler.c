#include "lua_handler.h"

#include "fd.h"
#include "handler.h"
#include "lua_fail.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

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
    handler_take(box->handler, &(struct arrival){.fd = ends[1]});
    return 1;
}

static struct lua_handler *check_handler(lua_State *L, int index)
{
    struct lua_handler *box = luaL_checkudata(L, index, NAME);
    luaL_argcheck(L, box->handler, index, "a handler that goes on");
    return box;
}

/* For luaL_checkoption: parcel_whys, and an end. */
static const char *whys[PARCEL_WHYS + 1];

/* As it goes from worker to worker: 1 it has moved, 0 it may not. */
static int move(struct conn *c, struct handler *to, enum parcel_why why)
{
    struct parcel p;
    struct buf packed = {0};
    if (!conn_pack(c, &p))
        return 0;
    p.why = why;
    int fd = fcntl(conn_fd(c), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    parcel_write(&p, &packed);
    conn_moved(c, p.why);
    if (parcel_read(&p, buf_head(&packed), buf_len(&packed)) < 0)
        fd_close(&fd);
    else
        handler_take(to, &(struct arrival){.fd = fd, .parcel = &p});
    buf_release(&packed);
    return 1;
}

/* serve:move(other [, why]) -> how many of its connections have gone over to the other */
static int handler_move(lua_State *L)
{
    struct lua_handler *from = check_handler(L, 1), *to = check_handler(L, 2);
    int why = luaL_checkoption(L, 3, parcel_whys[PARCEL_RELOAD], whys);
    lua_Integer count = 0;
    for (struct conn *c = conns_first(&from->env->conns), *next; c; c = next) {
        next = conn_next(c);
        if (conn_end_arg(c) == from->handler)
            count += move(c, to->handler, (enum parcel_why)why);
    }
    lua_pushinteger(L, count);
    return 1;
}

/* What stays the same when the connection moves; 0: unknown. */
static lua_Integer conn_id(const struct conn *c)
{
    struct stat st;
    return fstat(conn_fd(c), &st) < 0 ? 0 : (lua_Integer)st.st_ino;
}

/* serve:connections() -> { [id] = fileno ... } */
static int handler_connections(lua_State *L)
{
    struct lua_handler *box = check_handler(L, 1);
    lua_newtable(L);
    for (struct conn *c = conns_first(&box->env->conns); c; c = conn_next(c))
        if (conn_end_arg(c) == box->handler) {
            lua_pushinteger(L, conn_fd(c));
            lua_rawseti(L, -2, conn_id(c));
        }
    return 1;
}

/* serve:cut([id]), which fails that one, or all of them */
static int handler_cut(lua_State *L)
{
    struct lua_handler *box = check_handler(L, 1);
    lua_Integer id = luaL_optinteger(L, 2, 0);
    for (struct conn *c = conns_first(&box->env->conns), *next; c; c = next) {
        next = conn_next(c);
        if (conn_end_arg(c) == box->handler && (!id || id == conn_id(c)))
            conn_fail(c, ECONNRESET);
    }
    return 0;
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

static const luaL_Reg methods[] = {
    {"move", handler_move},
    {"connections", handler_connections},
    {"cut", handler_cut},
    {NULL, NULL},
};

void lua_handler_push(lua_State *L, struct lua_conn_env *env)
{
    memcpy(whys, parcel_whys, sizeof parcel_whys);
    luaL_newmetatable(L, NAME);
    lua_pushcfunction(L, handler_connect);
    lua_setfield(L, -2, "__call");
    lua_pushcfunction(L, handler_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushlightuserdata(L, env);
    lua_pushcclosure(L, handler_create, 1);
}
