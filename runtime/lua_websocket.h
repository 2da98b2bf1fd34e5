/*
 * lua_websocket: a websocket as a Lua value, "moonpool.websocket", for its handler. The
 * handshake, and what applications have of it, is lua/moonpool/websocket.lua.
 *
 *     ws:receive([timeout]) -> message, "text" or "binary"
 *                          the next message; the state is kept as it is at the call
 *     ws:messages()        for message, kind in ws:messages() do: ends at the end, quietly
 *     ws:send(message [, kind = "text"])  waits while the client is slow -> ws
 *     ws:put(frame)        what websocket.frame(message, kind) has made for many; does not
 *                          wait: "ENOBUFS" where the client is slow -> ws
 *     ws:ping([data])      -> ws
 *     ws:close([code = 1000 [, reason]])   does not wait -> true
 *     ws:closed()          -> code, reason of the Close frame; nothing while it is open
 *     ws:state()           what goes along when it moves
 *     ws:pin([on = true]) ws:moved() ws:peer()   as conn's (lua_conn.h)
 *
 * receive, send, put and ping fail with nil, message, code: "EOF" when the client has
 * closed, "EPROTO" for what is against the protocol, "ECONNRESET" when it has gone without
 * a word, "ETIMEDOUT", "ECANCELED" for what has been closed here.
 *
 * For websocket.lua:
 *
 *     site(settings)       idle = 30, message_limit = 1048576, redeliver (websocket.h)
 *     open(res, site, deflate, label, state) -> ws, which takes over the connection
 *     resume(site, conn, checkpoint) -> ws; nil if it is none
 *     label(checkpoint) -> label, or nil; set_label(ws, label)
 *     start(ws, fn [, why])  a task that calls fn(ws, state, why), and closes ws: 1011 if
 *                          that fails
 *     frame(message, kind), accept(key)
 *
 * And for rooms.lua, of the messages that go to many, each with a number that is greater
 * than those before:
 *
 *     broadcast(set, frame, number)   puts it to each key of set that is a websocket; who
 *                          has no room is cut. The number becomes its mark
 *     mark(ws, number) -> its mark when it came from another worker, until it receives a
 *                          message here; else nil: then number, if greater, becomes it
 */
#ifndef MOONPOOL_LUA_WEBSOCKET_H
#define MOONPOOL_LUA_WEBSOCKET_H

#include "lua_conn.h"

struct lua_websockets;

struct lua_websockets *lua_websockets_new(struct lua_conn_env *env);
void lua_websockets_free(struct lua_websockets *all);
void lua_websockets_stop(struct lua_websockets *all); /* closes each: 1001 */

int luaopen_moonpool_websocket(lua_State *L, struct lua_websockets *all);

#endif
