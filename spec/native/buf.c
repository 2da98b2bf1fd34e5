/*
 * native.buf: runtime/buf.c for its spec.
 *
 *   new()          an empty one
 *   b:append(s)    b:put(s): the same through buf_reserve and buf_added
 *   b:skip(n), b:release(), b:text(), b:length(), b:room(), b:size()
 */
#include "buf.h"

#include <lauxlib.h>
#include <string.h>

#define BUF "native.buf"

static struct buf *check_buf(lua_State *L)
{
    return luaL_checkudata(L, 1, BUF);
}

/* new() */
static int native_new(lua_State *L)
{
    struct buf *b = lua_newuserdatauv(L, sizeof *b, 0);
    memset(b, 0, sizeof *b);
    luaL_setmetatable(L, BUF);
    return 1;
}

/* b:append(s) */
static int native_append(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 2, &n);
    buf_append(check_buf(L), s, n);
    return 0;
}

/* b:put(s [, spare]): room for spare bytes more is asked for */
static int native_put(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 2, &n);
    struct buf *b = check_buf(L);
    char *to = buf_reserve(b, n + (size_t)luaL_optinteger(L, 3, 0));
    if (buf_room(b) < n + (size_t)luaL_optinteger(L, 3, 0))
        return luaL_error(L, "less room than was reserved");
    memcpy(to, s, n);
    buf_added(b, n);
    return 0;
}

/* b:skip(n) */
static int native_skip(lua_State *L)
{
    size_t n = (size_t)luaL_checkinteger(L, 2);
    luaL_argcheck(L, n <= buf_len(check_buf(L)), 2, "more than there is");
    buf_skip(check_buf(L), n);
    return 0;
}

/* b:fit() */
static int native_fit(lua_State *L)
{
    buf_fit(check_buf(L));
    return 0;
}

/* b:release() */
static int native_release(lua_State *L)
{
    buf_release(check_buf(L));
    return 0;
}

/* b:text() */
static int native_text(lua_State *L)
{
    struct buf *b = check_buf(L);
    lua_pushlstring(L, buf_len(b) ? buf_head(b) : "", buf_len(b));
    return 1;
}

/* b:length() */
static int native_length(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)buf_len(check_buf(L)));
    return 1;
}

/* b:room() */
static int native_room(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)buf_room(check_buf(L)));
    return 1;
}

/* b:size(): bytes of memory it holds */
static int native_size(lua_State *L)
{
    lua_pushinteger(L, check_buf(L)->size);
    return 1;
}

static const luaL_Reg methods[] = {
    {"append", native_append},   {"put", native_put},
    {"skip", native_skip},       {"fit", native_fit},
    {"release", native_release}, {"text", native_text},
    {"length", native_length},   {"room", native_room},
    {"size", native_size},       {NULL, NULL},
};

int luaopen_native_buf(lua_State *L);
int luaopen_native_buf(lua_State *L)
{
    luaL_newmetatable(L, BUF);
    lua_pushcfunction(L, native_release);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    lua_pushcfunction(L, native_new);
    lua_setfield(L, -2, "new");
    return 1;
}
