/*
 * lua_pack: a plain Lua value as bytes, to be the same value in another process.
 *
 * Plain are nil, booleans, numbers, strings, and tables of these without a metatable and
 * not inside themselves. What is in a table twice is there twice afterwards. The bytes
 * are for the same machine and the same version.
 */
#ifndef MOONPOOL_LUA_PACK_H
#define MOONPOOL_LUA_PACK_H

#include "buf.h"

#include <lua.h>

enum { LUA_PACK_DEPTH = 100 }; /* tables in tables */

/*
 * Appends the value at index. Returns 0; or -1 and pushes what is wrong with it, a
 * sentence that begins with name and the path to what cannot be written: then out holds
 * less than it. limit: bytes that it may take.
 */
int lua_pack(lua_State *L, int index, const char *name, struct buf *out, size_t limit);

/* Pushes the value: 0, or -1 for bytes that no lua_pack has written; then nothing. */
int lua_unpack(lua_State *L, const char *data, size_t len);

#endif
