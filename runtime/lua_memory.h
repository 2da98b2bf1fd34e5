/*
 * lua_memory: where a Lua state has its memory from.
 *
 * A request makes some small objects, and the collector frees those of many requests in
 * one go: more than malloc(3) keeps at hand. Here freed blocks of up to LUA_MEMORY_SMALL
 * bytes are kept by their size for the next of that size. They are not given back before
 * the state is closed; bigger ones are malloc's.
 *
 * There may be a limit to what a state has in use. Lua collects its garbage before it
 * takes a refusal for an answer, and raises "not enough memory" then. To tell of that and
 * to end what has failed needs memory as well: a reserve is kept for it.
 */
#ifndef MOONPOOL_LUA_MEMORY_H
#define MOONPOOL_LUA_MEMORY_H

#include <lua.h>
#include <stddef.h>

enum { LUA_MEMORY_SMALL = 256 };

/* A state without libraries; NULL for want of memory. */
lua_State *lua_memory_open(void);
void lua_memory_close(lua_State *L); /* lua_close, and its memory is given back */

/* Of a state that is not from lua_memory_open nothing is known, nor limited. */
void lua_memory_limit(lua_State *L, size_t bytes); /* 0: none, as at first */
size_t lua_memory_used(lua_State *L);
size_t lua_memory_small(lua_State *L); /* of that, in blocks up to LUA_MEMORY_SMALL */
void lua_memory_use_reserve(lua_State *L, int on); /* at first off */
/* In a sentence, if the last refusal was for the limit's sake: 1, else 0. */
int lua_memory_explain(lua_State *L, char *text, size_t size);

#endif
