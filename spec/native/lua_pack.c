/*
 * native.lua_pack: runtime/lua_pack.c for its spec.
 *
 *   pack(value, limit)   the bytes; or nil and what is wrong with "state"
 *   unpack(bytes)        true and the value; or false
 */
#include "lua_pack.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

/* pack(value, limit) */
static int native_pack(lua_State *L)
{
    struct buf out = {0};
    luaL_checkany(L, 1);
    lua_settop(L, 2);
    size_t limit = (size_t)luaL_optinteger(L, 2, 1 << 20);
    if (lua_pack(L, 1, "state", &out, limit) < 0) {
        luaL_pushfail(L);
        lua_insert(L, 3);
    } else {
        lua_pushlstring(L, buf_len(&out) ? buf_head(&out) : "", buf_len(&out));
    }
    buf_release(&out);
    return lua_gettop(L) - 2;
}

/* unpack(bytes) */
static int native_unpack(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    char *copy = malloc(len ? len : 1); /* of exactly its size, for the sanitizer */
    memcpy(copy, data, len);
    lua_settop(L, 1);
    int done = lua_unpack(L, copy, len);
    free(copy);
    lua_pushboolean(L, done == 0);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static const luaL_Reg functions[] = {
    {"pack", native_pack},
    {"unpack", native_unpack},
    {NULL, NULL},
};

int luaopen_native_lua_pack(lua_State *L);
int luaopen_native_lua_pack(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
