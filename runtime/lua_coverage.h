/*
 * lua_coverage: which lines of Lua have run, in a spec.
 *
 *     coverage.start()           of this coroutine, and of those that begin from now on
 *     coverage.stop() -> { [source] = { [line] = times } }
 *
 * Lua's own debug.sethook does not reach the coroutines that C has made; a hook in C is
 * inherited by them (lua_newthread). In the module for stock Lua only.
 */
#ifndef MOONPOOL_LUA_COVERAGE_H
#define MOONPOOL_LUA_COVERAGE_H

#include <lua.h>

int luaopen_moonpool_coverage(lua_State *L);

#endif
