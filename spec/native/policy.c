/*
 * native.policy: runtime/policy.c for its spec.
 *
 *   least_loaded(loads, last), round_robin, first_free: the number of the chosen one, or
 *   nil. loads is a list of { used, slots, open }, last a number or nil at the beginning.
 */
#include "policy.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static struct load load_get(lua_State *L)
{
    struct load l = {0};
    lua_rawgeti(L, -1, 1);
    l.used = (uint32_t)luaL_checkinteger(L, -1);
    lua_rawgeti(L, -2, 2);
    l.slots = (uint32_t)luaL_checkinteger(L, -1);
    lua_rawgeti(L, -3, 3);
    l.open = lua_isnil(L, -1) || lua_toboolean(L, -1);
    lua_pop(L, 3);
    return l;
}

static int choose(lua_State *L, policy_choose *policy)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int last = (int)luaL_optinteger(L, 2, 0) - 1, count = (int)luaL_len(L, 1);
    size_t size = sizeof(struct load) * (size_t)count;
    struct load *loads = lua_newuserdatauv(L, size, 0);
    for (int i = 0; i < count; i++) {
        lua_rawgeti(L, 1, i + 1);
        loads[i] = load_get(L);
        lua_pop(L, 1);
    }
    int chosen = policy(loads, count, last);
    if (chosen < 0)
        luaL_pushfail(L);
    else
        lua_pushinteger(L, chosen + 1);
    return 1;
}

/* least_loaded(loads, last) */
static int native_least_loaded(lua_State *L)
{
    return choose(L, policy_least_loaded);
}

/* round_robin(loads, last) */
static int native_round_robin(lua_State *L)
{
    return choose(L, policy_round_robin);
}

/* first_free(loads, last) */
static int native_first_free(lua_State *L)
{
    return choose(L, policy_first_free);
}

static const luaL_Reg functions[] = {
    {"least_loaded", native_least_loaded},
    {"round_robin", native_round_robin},
    {"first_free", native_first_free},
    {NULL, NULL},
};

int luaopen_native_policy(lua_State *L);
int luaopen_native_policy(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
