/*
 * lua_query: fields as queries and forms have them, "a=1&b=2"
 * (application/x-www-form-urlencoded), for Lua: "+" is a space, "%XX" a byte.
 */
#ifndef MOONPOOL_LUA_QUERY_H
#define MOONPOOL_LUA_QUERY_H

#include <lua.h>

/*
 * Pushes the first value of each name, and the list of all values of each: two tables;
 * or nil, message, "EINVAL" of more than 1,000 fields. It returns how many it has pushed.
 */
int lua_query_push(lua_State *L, const char *text, size_t len);

int lua_query_parse(lua_State *L); /* parse_query(text) -> the same */

#endif
