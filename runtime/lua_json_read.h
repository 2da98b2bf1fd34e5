/*
 * lua_json_read: JSON text as a Lua value.
 */
#ifndef MOONPOOL_LUA_JSON_READ_H
#define MOONPOOL_LUA_JSON_READ_H

#include <lua.h>

/*
 * Reads what is from *at to end, where a zero byte follows, as Lua has it after strings.
 * Pushes the value and returns NULL; or returns what is wrong at *at, and has pushed
 * whatever it had made so far. Arrays get the metatable at index array.
 */
const char *lua_json_read(lua_State *L, int array, const char **at, const char *end);

#endif
