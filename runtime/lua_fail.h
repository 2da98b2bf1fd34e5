/*
 * lua_fail: how the world's failures look in Lua: nil, message, code.
 *
 * The code is errno's symbolic name ("ECONNREFUSED"), or "EOF" for the end of a stream.
 * Messages are LuaSocket's where it has one: "closed", "timeout".
 */
#ifndef MOONPOOL_LUA_FAIL_H
#define MOONPOOL_LUA_FAIL_H

#include <lua.h>

int lua_fail(lua_State *L, int error); /* pushes the three and returns 3; 0: "EOF" */
int lua_fail_text(lua_State *L, const char *message, const char *code); /* likewise */

#endif
