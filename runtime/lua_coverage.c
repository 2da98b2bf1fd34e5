#include "lua_coverage.h"

#include <lauxlib.h>

static const char counts; /* its address is where the registry has them */

/* The table of a source, which is pushed. */
static void push_lines(lua_State *L, const char *source)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &counts);
    lua_getfield(L, -1, source);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, source);
    }
    lua_remove(L, -2);
}

static void on_line(lua_State *L, lua_Debug *where)
{
    lua_getinfo(L, "S", where);
    if (where->source[0] != '@' || !lua_checkstack(L, 4))
        return;
    push_lines(L, where->source);
    lua_rawgeti(L, -1, where->currentline);
    lua_pushinteger(L, lua_tointeger(L, -1) + 1);
    lua_rawseti(L, -3, where->currentline);
    lua_pop(L, 2);
}

/* coverage.start() */
static int coverage_start(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &counts);
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
    return 0;
}

/* coverage.stop() -> counts; coroutines that go on count for nobody */
static int coverage_stop(lua_State *L)
{
    lua_sethook(L, NULL, 0, 0);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &counts);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &counts);
    return 1;
}

int luaopen_moonpool_coverage(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"start", coverage_start}, {"stop", coverage_stop}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
