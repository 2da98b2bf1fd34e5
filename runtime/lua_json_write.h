/*
 * lua_json_write: a Lua value as JSON text.
 */
#ifndef MOONPOOL_LUA_JSON_WRITE_H
#define MOONPOOL_LUA_JSON_WRITE_H

#include "buf.h"

#include <lua.h>

/*
 * Appends the value on top of the stack to out. Tables with the metatable at index array
 * are arrays, also when they are empty; other metatables do not count. Raises what JSON
 * cannot say; out then holds half of it. Calls no Lua.
 */
void lua_json_write(lua_State *L, int array, struct buf *out);

int lua_json_is_array(lua_State *L, int index, int array);

#endif
