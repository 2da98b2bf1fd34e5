/*
 * lua_routes: which function serves a request, by its path (router.h) and method.
 *
 *     http.routes(resolve) -> routes
 *     routes:pattern(path) -> its number, from 1; raises what is no pattern
 *     routes:prefix(path) -> its number, from 1: of "" and of what middleware goes by
 *
 * resolve(prefix, pattern, method) -> function, names, keep: is asked what serves the
 * requests of that method whose path fits the pattern (nil: none does) and has the
 * prefix. names are those in the pattern. If keep is true it is not asked again.
 */
#ifndef MOONPOOL_LUA_ROUTES_H
#define MOONPOOL_LUA_ROUTES_H

#include "exchange.h"

/*
 * Finds what serves x and pushes some values, of which the last two are the list of names,
 * if there are values for them, and the function; the exchange has then its path and those
 * values. 0, or -1: the path is refused and *why says so. Raises what resolve raises.
 */
int lua_routes_find(lua_State *L, int routes, struct exchange *x, const char **why);

void lua_routes_check(lua_State *L, int index); /* raises if it is something else */
int lua_routes_new(lua_State *L);               /* http.routes */
void luaopen_moonpool_routes(lua_State *L);

#endif
