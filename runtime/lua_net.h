/*
 * lua_net: connections that the script opens itself.
 *
 *     net.connect(address [, seconds]) -> conn      of a name, its first address only
 *     net.resolve(address) -> list of addresses     which blocks for a name:
 * getaddrinfo(3) net.pair() -> conn, conn                      a unix socketpair
 *     net.conn(fd [, unread]) -> conn               takes over a moonpool.fd; unread is
 *                                                    input that was read from it before
 */
#ifndef MOONPOOL_LUA_NET_H
#define MOONPOOL_LUA_NET_H

#include "lua_conn.h"

int luaopen_moonpool_net(lua_State *L, struct lua_conn_env *env); /* pushes the table */

#endif
