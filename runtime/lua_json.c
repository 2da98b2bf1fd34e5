#include "lua_json.h"

#include "lua_json_read.h"
#include "lua_json_write.h"

#include <lauxlib.h>

#define TEXT_KEPT (64u << 10) /* bytes of memory that one call leaves to the next */

enum { ARRAY = lua_upvalueindex(1), TEXT = lua_upvalueindex(2) }; /* of all functions */

/* A finalizer that runs in lua_pushlstring may have written a text of its own by now. */
static void text_clear(struct buf *text)
{
    if (text->size > TEXT_KEPT)
        buf_release(text);
    else
        buf_skip(text, buf_len(text));
}

/* json.encode(value) -> text */
static int json_encode(lua_State *L)
{
    struct buf *text = lua_touserdata(L, TEXT);
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    text_clear(text); /* of a call that has raised */
    lua_json_write(L, ARRAY, text);
    lua_pushlstring(L, buf_head(text), buf_len(text));
    text_clear(text);
    return 1;
}

/* json.decode(text) -> value | nil, message, code */
static int json_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len), *at = text;
    const char *why = lua_json_read(L, ARRAY, &at, text + len);
    if (!why)
        return 1;
    lua_settop(L, 1);
    lua_pushnil(L);
    lua_pushfstring(L, "%s at byte %I", why, (LUAI_UACINT)(at - text + 1));
    lua_pushliteral(L, "EINVAL");
    return 3;
}

/* json.array([t]) -> t, which is an array from now on, even when it is empty */
static int json_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (lua_getmetatable(L, 1) && !lua_rawequal(L, -1, ARRAY))
        return luaL_argerror(L, 1, "it has a metatable of its own");
    lua_settop(L, 1);
    lua_pushvalue(L, ARRAY);
    lua_setmetatable(L, 1);
    return 1;
}

/* json.is_array(value) -> whether it is marked as one */
static int json_is_array(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, lua_istable(L, 1) && lua_json_is_array(L, 1, ARRAY));
    return 1;
}

static int text_gc(lua_State *L)
{
    buf_release(lua_touserdata(L, 1));
    return 0;
}

static void push_text(lua_State *L)
{
    struct buf *text = lua_newuserdatauv(L, sizeof *text, 0);
    *text = (struct buf){.data = NULL};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, text_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
}

static const luaL_Reg functions[] = {
    {"encode", json_encode},
    {"decode", json_decode},
    {"array", json_array},
    {"is_array", json_is_array},
    {NULL, NULL},
};

int luaopen_moonpool_json(lua_State *L)
{
    luaL_newlibtable(L, functions);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "moonpool.json.array");
    lua_setfield(L, -2, "__name");
    push_text(L);
    luaL_setfuncs(L, functions, 2);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
    return 1;
}
