/*
 * lua_http: HTTP/1.1 over conns, for Lua. Routing is lua/moonpool/http.lua.
 *
 *     local engine = http.engine(function(req, res) ... end [, settings])
 *     local engine = http.engine(nil, settings, plan)   what plan() returns, routes
 *                                   (lua_routes.h), say which function; it is called
 *                                   again after http.replan(engine)
 *     http.serve(engine, conn)      takes conn over and returns at once
 *     http.req, http.res            the tables of their methods
 *     http.phrase(status)           "Not Found"
 *     http.parse_query(text)        as req:args() (lua_query.h)
 *     http.fields(name, value, ...) for res:header (lua_res.h)
 *     http.resumes(engine, fn)      fn(conn, state, why) goes on with a connection that has
 *                                   been upgraded and moved here, with the bytes that it
 *                                   was to go on with: http.keep(conn, bytes) has said
 *                                   them, and the first is 0x80 or more
 *
 * A connection between two requests is a conn: no session, no task, no Lua value, no
 * buffer. Each request becomes a task that calls the function with two values that are
 * valid until it returns, req (lua_req.h) and res (lua_res.h).
 *
 * Settings, in seconds and bytes (http_session.h); 0: no limit, where that can be:
 *
 *     keep_alive = 60      between two requests      head_limit = 16384
 *     head_time = 10       for a head to arrive      target_limit = 8192
 *     idle_time = 30       without a byte of content, or of a response, moving
 *     min_rate = 240       bytes of content a second, on an average, after idle_time
 *     body_limit = 1048576                           header_limit = 100, of fields
 *     requests = 0         on one connection
 *     connections_per_address = 0   at a time, exactly, in all workers of the pool; what
 *                          is beyond is answered 503 at once. A connection counts until
 *                          its descriptor is closed, also when it has gone over to
 *                          another protocol, but not while it is on its way from one
 *                          worker to another; IPv6 addresses count by their network
 *                          (address.h), unix sockets not at all
 *     answered = function(entry)   is called after each answer, and must not wait; entry
 *                          has status, bytes (of content), seconds, peer; where they
 *                          could be read method, target, version, referer, user_agent;
 *                          and if the handler has set any, in entry.req, the request's
 *                          own values
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
