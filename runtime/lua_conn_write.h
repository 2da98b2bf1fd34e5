/*
 * lua_conn_write: the methods of a conn's box that write (lua_conn.h).
 */
#ifndef MOONPOOL_LUA_CONN_WRITE_H
#define MOONPOOL_LUA_CONN_WRITE_H

#include <lauxlib.h>

extern const luaL_Reg lua_conn_write_methods[];

#endif
