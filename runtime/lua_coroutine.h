/*
 * lua_coroutine: what a script has in place of Lua's own coroutine.resume, wrap and
 * close, and pcall and xpcall. They are Lua's but for two things: a task can wait inside
 * the script's own coroutines, and none of them stops the watchdog.
 */
#ifndef MOONPOOL_LUA_COROUTINE_H
#define MOONPOOL_LUA_COROUTINE_H

#include "task.h"

void lua_coroutine_open(lua_State *L, struct tasks *ts); /* replaces the globals */

#endif
