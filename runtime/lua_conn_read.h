/*
 * lua_conn_read: the methods of a conn's box that read (lua_conn.h).
 */
#ifndef MOONPOOL_LUA_CONN_READ_H
#define MOONPOOL_LUA_CONN_READ_H

#include <lauxlib.h>

extern const luaL_Reg lua_conn_read_methods[];

#endif
