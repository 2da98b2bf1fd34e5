/*
 * native.fragile: a worker's Lua state whose memory fails when a spec says so, with all
 * that serves connections in it.
 *
 *   new(path, code) -> f    package.path, and the source of a script
 *   f:fail(n [, for_good])  the n-th allocation from now on, or all from there on; 0: none
 *   f:count()               allocations since then
 *   f:ask(text) -> answer, is_closed    of a new connection that sends this
 *   f:free(); also <close>
 */
#include "class.h"
#include "core.h"
#include "fd.h"
#include "handler.h"
#include "log.h"
#include "scoreboard.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAGILE "native.fragile"

struct fragile {
    lua_State *L; /* the one that is fragile */
    struct loop *loop;
    struct scoreboard board;
    struct core *core;
    struct handler *handler;
    lua_Integer count, fail_at; /* 0: never */
    int for_good;
};

/* Lua asks twice, with a collection in between: the second answer is the first. */
static int is_to_fail(struct fragile *f)
{
    f->count++;
    if (!f->fail_at || f->count < f->fail_at)
        return 0;
    return f->for_good || f->count <= f->fail_at + 1;
}

static void *fragile_alloc(void *arg, void *block, size_t old, size_t size)
{
    if (!size) {
        free(block);
        return NULL;
    }
    if ((!block || size > old) && is_to_fail(arg))
        return NULL;
    return realloc(block, size);
}

static const struct handler_callbacks no_callbacks;

/* (fragile, path, code) */
static int open_protected(lua_State *L)
{
    static const struct core_worker nobody = {.pool = ""};
    struct fragile *f = lua_touserdata(L, 1);
    struct census census = {.cells = f->board.cells, .count = 1};
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_pushstring(L, lua_touserdata(L, 2));
    lua_setfield(L, -2, "path");
    f->core = core_open(L, f->loop, &core_default_limits, &census, &nobody);
    if (luaL_loadstring(L, lua_touserdata(L, 3)) != LUA_OK)
        return lua_error(L);
    lua_call(L, 0, 1);
    f->handler = handler_new(L, &f->core->conns, &no_callbacks, NULL);
    return 0;
}

/* new(path, code) */
static int native_new(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1), *code = luaL_checkstring(L, 2);
    struct fragile *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct fragile){.board = {.fd = -1}};
    luaL_setmetatable(L, FRAGILE);
    log_threshold((enum log_level)(LOG_ERROR + 1)); /* it is full of errors */
    f->loop = loop_new(LOOP_OWN);
    if (!f->loop || scoreboard_create(&f->board, 1) < 0)
        return luaL_error(L, "no loop or no scoreboard");
    f->L = lua_newstate(fragile_alloc, f);
    lua_pushcfunction(f->L, open_protected);
    lua_pushlightuserdata(f->L, f);
    lua_pushlightuserdata(f->L, (void *)path);
    lua_pushlightuserdata(f->L, (void *)code);
    if (lua_pcall(f->L, 3, 0, 0) != LUA_OK)
        return luaL_error(L, "%s", lua_tostring(f->L, -1));
    return 1;
}

static struct fragile *check(lua_State *L)
{
    struct fragile *f = luaL_checkudata(L, 1, FRAGILE);
    luaL_argcheck(L, f->L, 1, "it is gone");
    return f;
}

/* f:fail(n [, for_good]) */
static int native_fail(lua_State *L)
{
    struct fragile *f = check(L);
    f->fail_at = luaL_checkinteger(L, 2);
    f->for_good = lua_toboolean(L, 3);
    f->count = 0;
    return 0;
}

/* f:count() */
static int native_count(lua_State *L)
{
    lua_pushinteger(L, check(L)->count);
    return 1;
}

static void settle(struct fragile *f)
{
    while (loop_turn(f->loop))
        ;
}

/* Pushes what can be read: whether that was all that there will ever be. */
static int push_read(lua_State *L, int fd)
{
    luaL_Buffer b;
    ssize_t n;
    luaL_buffinit(L, &b);
    while ((n = read(fd, luaL_prepbuffer(&b), LUAL_BUFFERSIZE)) > 0)
        luaL_addsize(&b, (size_t)n);
    luaL_pushresult(&b);
    return n == 0;
}

/* f:ask(text) */
static int native_ask(lua_State *L)
{
    struct fragile *f = check(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
        return luaL_error(L, "no socketpair");
    handler_take(f->handler, &(struct arrival){.fd = ends[1]});
    settle(f);
    ssize_t sent = send(ends[0], text, len, MSG_NOSIGNAL); /* it may have been closed */
    (void)sent;
    settle(f);
    lua_pushboolean(L, push_read(L, ends[0]));
    close(ends[0]);
    settle(f);
    return 2;
}

/* f:free() */
static int native_free(lua_State *L)
{
    struct fragile *f = luaL_checkudata(L, 1, FRAGILE);
    f->fail_at = 0;
    if (f->handler)
        handler_free(f->handler);
    if (f->L)
        lua_close(f->L);
    if (f->loop)
        loop_free(f->loop);
    scoreboard_close(&f->board);
    *f = (struct fragile){.board = {.fd = -1}};
    return 0;
}

static const luaL_Reg methods[] = {
    {"fail", native_fail}, {"count", native_count},
    {"ask", native_ask},   {"free", native_free},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {{"new", native_new}, {NULL, NULL}};

int luaopen_native_fragile(lua_State *L);

int luaopen_native_fragile(lua_State *L)
{
    class_new(L, FRAGILE, methods, native_free);
    luaL_newlib(L, functions);
    return 1;
}
