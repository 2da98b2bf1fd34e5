#include "lua_loop.h"

#include "watchdog.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>

static struct loop *loop_of(lua_State *L)
{
    struct tasks *ts = lua_touserdata(L, lua_upvalueindex(1));
    if (task_current(ts))
        luaL_error(L, "a task cannot turn the loop that runs it");
    return tasks_loop(ts);
}

/* loop.turn() -> boolean */
static int loop_turn_function(lua_State *L)
{
    lua_pushboolean(L, loop_turn(loop_of(L)));
    return 1;
}

/* loop.wait(seconds) */
static int loop_wait_function(lua_State *L)
{
    loop_wait(loop_of(L), luaL_checknumber(L, 1));
    return 0;
}

/* loop.next() -> seconds */
static int loop_next(lua_State *L)
{
    struct loop *l = loop_of(L);
    lua_pushnumber(L, clock_next(&l->clock) - loop_now(l));
    return 1;
}

/* loop.advance(seconds) */
static int loop_advance_function(lua_State *L)
{
    struct loop *l = loop_of(L);
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0, 1, "time does not go backwards");
    if (!l->is_virtual)
        return luaL_error(L, "the clock is real: only a virtual one can be advanced");
    loop_advance(l, seconds);
    return 0;
}

/* loop.virtual([on]) -> boolean */
static int loop_virtual(lua_State *L)
{
    struct loop *l = loop_of(L);
    if (!lua_isnone(L, 1))
        loop_set_virtual(l, lua_toboolean(L, 1));
    lua_pushboolean(L, l->is_virtual);
    return 1;
}

/* loop.handler_timeout(seconds) */
static int loop_handler_timeout(lua_State *L)
{
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0, 1, "negative time");
    if (watchdog_set(seconds) < 0)
        return luaL_error(L, "no timer: %s", strerror(errno));
    return 0;
}

static const luaL_Reg functions[] = {
    {"turn", loop_turn_function},
    {"wait", loop_wait_function},
    {"next", loop_next},
    {"advance", loop_advance_function},
    {"virtual", loop_virtual},
    {"handler_timeout", loop_handler_timeout},
    {NULL, NULL},
};

int luaopen_moonpool_loop(lua_State *L, struct tasks *ts)
{
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, ts);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
