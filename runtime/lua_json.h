/*
 * lua_json: JSON (RFC 8259) for Lua, "moonpool.json"; lua/moonpool/json.lua says what
 * scripts see of it.
 *
 * It is strict: what the grammar does not have, names that come twice, text that is not
 * UTF-8 and numbers that no Lua number holds are refused. Integers stay integers, floats
 * are written so that they are read as the same float, and arrays stay arrays when they
 * are empty: lua-cjson 2.1.0, which is Debian's, does none of the three.
 */
#ifndef MOONPOOL_LUA_JSON_H
#define MOONPOOL_LUA_JSON_H

#include <lua.h>

int luaopen_moonpool_json(lua_State *L); /* pushes the table of functions */

#endif
