/*
 * lua_handler: a handler served in this process, without a server.
 *
 *     local serve = core.handler(fn)   fn as a script would return it
 *     local conn = serve()             the client's end of a socketpair
 *     serve:move(other [, why]) -> count    of its connections, as a reload moves them
 *     serve:connections() -> { [id] = fileno ... }    an id stays when it is moved
 *     serve:cut([id])                  that one fails, or all do
 */
#ifndef MOONPOOL_LUA_HANDLER_H
#define MOONPOOL_LUA_HANDLER_H

#include "lua_conn.h"

void lua_handler_push(lua_State *L,
                      struct lua_conn_env *env); /* the function "handler" */

#endif
