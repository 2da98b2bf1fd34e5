/*
 * lua_memory: where a Lua state has its memory from.
 *
 * A request makes some small objects, and the collector frees those of many requests in
 * one go: more than malloc(3) keeps at hand. Here freed blocks of up to LUA_MEMORY_SMALL
 * bytes are kept by their size for the next of that size. They are not given back before
 * the state is closed; bigger ones are malloc's.
 */
#ifndef MOONPOOL_LUA_MEMORY_H
#define MOONPOOL_LUA_MEMORY_H

#include <lua.h>

enum { LUA_MEMORY_SMALL = 256 };

/* A state without libraries; NULL for want of memory. */
lua_State *lua_memory_open(void);
void lua_memory_close(lua_State *L); /* lua_close, and its memory is given back */

#endif
