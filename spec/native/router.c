/*
 * native.router: runtime/router.c and runtime/path.c for their spec.
 *
 *   router(patterns) -> find(path) -> number of the pattern from 1, its values as they
 *                       came; and prefix(path) -> number, or nil
 *   clean(path) -> the path, whether it has changed; or nil, why
 *   decode(path) -> string
 */
#include "router.h"
#include "path.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static struct router *router_of(lua_State *L)
{
    return *(struct router **)lua_touserdata(L, lua_upvalueindex(1));
}

/* A copy of exactly its size, so that the sanitizer sees a read beyond it. */
static char *path_copy(lua_State *L, size_t *len)
{
    const char *path = luaL_checklstring(L, 1, len);
    char *copy = malloc(*len);
    if (*len)
        memcpy(copy, path, *len);
    return copy;
}

static int find(lua_State *L)
{
    struct router_match m;
    size_t len;
    char *path = path_copy(L, &len);
    int is_plain = !len || !memchr(path, '%', len);
    int found = router_find(router_of(L), path, len, is_plain, &m);
    if (router_find(router_of(L), path, len, 0, &m) != found)
        return luaL_error(L, "found otherwise when it is known to be plain");
    lua_settop(L, 0);
    if (found) {
        lua_pushinteger(L, m.pattern + 1);
        for (int i = 0; i < m.count; i++)
            lua_pushlstring(L, m.values[i].at, m.values[i].len);
    }
    free(path);
    return lua_gettop(L);
}

static int prefix(lua_State *L)
{
    size_t len;
    char *path = path_copy(L, &len);
    int is_plain = !len || !memchr(path, '%', len);
    int found = router_find_prefix(router_of(L), path, len, is_plain);
    if (router_find_prefix(router_of(L), path, len, 0) != found)
        return luaL_error(L, "found otherwise when it is known to be plain");
    free(path);
    if (found < 0)
        return 0;
    lua_pushinteger(L, found + 1);
    return 1;
}

static int router_gc(lua_State *L)
{
    router_free(*(struct router **)lua_touserdata(L, 1));
    return 0;
}

static void add_all(lua_State *L, struct router *r)
{
    for (lua_Integer i = 1; lua_geti(L, 1, i) == LUA_TSTRING; i++) {
        size_t len;
        const char *pattern = lua_tolstring(L, -1, &len);
        lua_pushinteger(L, router_add(r, pattern, len) + 1);
        lua_seti(L, 2, i);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* router(patterns) -> find, prefix, list of the patterns' numbers */
static int router(lua_State *L)
{
    lua_settop(L, 1);
    lua_newtable(L);
    struct router **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = router_new();
    if (luaL_newmetatable(L, "native.router")) {
        lua_pushcfunction(L, router_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    add_all(L, *box);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, find, 1);
    lua_pushvalue(L, 3);
    lua_pushcclosure(L, prefix, 1);
    lua_pushvalue(L, 2);
    return 3;
}

static int clean(lua_State *L)
{
    struct buf b = {0};
    size_t len;
    const char *why;
    char *path = path_copy(L, &len);
    int done = path_clean(path, len, &b, &why);
    if (done == 1)
        lua_pushlstring(L, buf_head(&b), buf_len(&b));
    else if (done == 0)
        lua_pushlstring(L, path, len);
    else
        luaL_pushfail(L);
    buf_release(&b);
    free(path);
    lua_pushboolean(L, done == 1);
    if (done < 0)
        lua_pushstring(L, why);
    return done < 0 ? (lua_remove(L, -2), 2) : 2;
}

static int decode(lua_State *L)
{
    size_t len;
    char *path = path_copy(L, &len), *out = malloc(len);
    lua_pushlstring(L, out, path_decode(path, len, out));
    free(out);
    free(path);
    return 1;
}

static const luaL_Reg functions[] = {
    {"router", router}, {"clean", clean}, {"decode", decode}, {NULL, NULL}};

int luaopen_native_router(lua_State *L);

int luaopen_native_router(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
