/*
 * native.lua_memory: runtime/lua_memory.c for its spec.
 *
 *   run(code) -> what it returns, as a string, in a state of its own; or nil, the error;
 *                its functions used() and small() tell what it has
 */
#include "lua_memory.h"

#include <lauxlib.h>
#include <lualib.h>

static int state_used(lua_State *state)
{
    lua_pushinteger(state, (lua_Integer)lua_memory_used(state));
    return 1;
}

static int state_small(lua_State *state)
{
    lua_pushinteger(state, (lua_Integer)lua_memory_small(state));
    return 1;
}

static int run_protected(lua_State *state)
{
    luaL_openlibs(state);
    lua_register(state, "used", state_used);
    lua_register(state, "small", state_small);
    if (luaL_loadstring(state, lua_touserdata(state, 1)) != LUA_OK)
        return lua_error(state);
    lua_call(state, 0, 1);
    luaL_tolstring(state, -1, NULL);
    return 1;
}

static int native_run(lua_State *L)
{
    const char *code = luaL_checkstring(L, 1);
    lua_State *state = lua_memory_open();
    lua_pushcfunction(state, run_protected);
    lua_pushlightuserdata(state, (void *)code);
    int failed = lua_pcall(state, 1, 1, 0) != LUA_OK;
    size_t len;
    const char *text = lua_tolstring(state, -1, &len);
    if (failed)
        luaL_pushfail(L);
    lua_pushlstring(L, text ? text : "", len);
    lua_memory_close(state);
    return failed ? 2 : 1;
}

static const luaL_Reg functions[] = {{"run", native_run}, {NULL, NULL}};

int luaopen_native_lua_memory(lua_State *L);

int luaopen_native_lua_memory(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
