/*
 * class: the metatable of a kind of userdata, for test-only bindings.
 */
#ifndef NATIVE_CLASS_H
#define NATIVE_CLASS_H

#include <lauxlib.h>

/* close is for the collector and <close> alike, so it may come twice. */
static inline void class_new(lua_State *L, const char *name, const luaL_Reg *methods,
                             lua_CFunction close)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

#endif
