/*
 * callback: a Lua function that C calls from inside a loop, for test-only bindings.
 *
 * No error may pass through libev, so the first one is kept in the registry, and whatever
 * turned the loop raises it with callback_raise when libev has returned.
 */
#ifndef NATIVE_CALLBACK_H
#define NATIVE_CALLBACK_H

#include <lauxlib.h>

#define CALLBACK_ERROR "native.callback.error"

struct callback {
    lua_State *L;
    int ref;
};

/* The function on top of the stack, or nil, which is then popped. */
static inline struct callback callback_take(lua_State *L)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main = lua_tothread(L, -1);
    lua_pop(L, 1);
    int none = lua_isnil(L, -1);
    struct callback c = {main, LUA_NOREF};
    if (none)
        lua_pop(L, 1);
    else
        c.ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return c;
}

static inline void callback_release(lua_State *L, struct callback *c)
{
    luaL_unref(L, LUA_REGISTRYINDEX, c->ref);
    c->ref = LUA_NOREF;
}

/* Whether there is one: it is then pushed, and arguments may follow. */
static inline int callback_begin(const struct callback *c)
{
    if (c->ref == LUA_NOREF)
        return 0;
    luaL_checkstack(c->L, 20, NULL);
    lua_rawgeti(c->L, LUA_REGISTRYINDEX, c->ref);
    return 1;
}

/* Calls it; what it returns, as an integer, or 0. */
static inline lua_Integer callback_call(const struct callback *c, int arguments)
{
    lua_Integer result = 0;
    if (lua_pcall(c->L, arguments, 1, 0) == LUA_OK)
        result = lua_tointeger(c->L, -1);
    else if (lua_getfield(c->L, LUA_REGISTRYINDEX, CALLBACK_ERROR) == LUA_TNIL) {
        lua_pushvalue(c->L, -2);
        lua_setfield(c->L, LUA_REGISTRYINDEX, CALLBACK_ERROR);
        lua_pop(c->L, 1);
    } else
        lua_pop(c->L, 1);
    lua_pop(c->L, 1);
    return result;
}

static inline void callback_raise(lua_State *L)
{
    if (lua_getfield(L, LUA_REGISTRYINDEX, CALLBACK_ERROR) != LUA_TNIL) {
        lua_pushnil(L);
        lua_setfield(L, LUA_REGISTRYINDEX, CALLBACK_ERROR);
        lua_error(L);
    }
    lua_pop(L, 1);
}

#endif
