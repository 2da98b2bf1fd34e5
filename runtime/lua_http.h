/*
 * lua_http: HTTP/1.1 over conns, for Lua. Routing is lua/moonpool/http.lua.
 *
 *     local engine = http.engine(function(req, res) ... end [, settings])
 *     http.serve(engine, conn)      takes conn over and returns at once
 *
 * A connection between two requests has no task, no Lua value and no buffer. Each request
 * becomes a task that calls the function with two values that are valid until it returns:
 *
 *     req.method  req.path (decoded)  req.target  req.query (undecoded)  req.version
 *     req.params  req.headers[name]  req:header(name)  req.peer
 *     req:body()          all of the content
 *     req:read([most])    its next piece, nothing at its end
 *     res:status(code)  res:header(name, value)  res.sent
 *     res:send(body)      a response of known length
 *     res:sendfile(file [, offset [, length]])   as conn:sendfile
 *     res:write(...)      one that is written piece by piece, until the function returns
 *
 * Settings are keep_alive, head_time and idle_time, in seconds, and body_limit, in bytes
 * (http_session.h).
 */
#ifndef MOONPOOL_LUA_HTTP_H
#define MOONPOOL_LUA_HTTP_H

#include "lua_conn.h"

struct lua_http;

struct lua_http_callbacks { /* each may be NULL */
    void (*on_request)(void *arg);
    void (*on_error)(void *arg); /* its handler failed; the error is in the log */
};

/* What all engines of a Lua state share: their connections. */
struct lua_http *lua_http_new(struct lua_conn_env *env);
void lua_http_free(struct lua_http *http);
void lua_http_set_callbacks(struct lua_http *http,
                            const struct lua_http_callbacks *callbacks, void *arg);

/* Closes what waits for a request now, and the others after the one they are in. */
void lua_http_stop(struct lua_http *http);

int luaopen_moonpool_http(lua_State *L, struct lua_http *http); /* pushes the table */

#endif
