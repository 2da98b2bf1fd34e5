#include "lua_loop.h"

#include "lua_task.h"
#include "watchdog.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <string.h>

static struct tasks *tasks_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static struct loop *loop_of(lua_State *L)
{
    struct tasks *ts = tasks_of(L);
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

/* loop.jump(seconds) */
static int loop_jump(lua_State *L)
{
    struct loop *l = loop_of(L);
    double seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds >= 0, 1, "time does not go backwards");
    if (!l->is_virtual)
        return luaL_error(L, "the clock is real: only a virtual one can jump");
    clock_set(&l->clock, l->clock.now + seconds);
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

/* -- tasks --------------------------------------------------------------------------- */

/* loop.shuffle(seed) */
static int loop_shuffle(lua_State *L)
{
    struct loop *l = loop_of(L);
    lua_Integer seed = luaL_checkinteger(L, 1);
    while (loop_turn(l))
        ;
    tasks_shuffle(tasks_of(L), (uint64_t)seed);
    return 0;
}

/* loop.spawn(fn, ...) -> task: one of the spec itself */
static int loop_spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct task *t = task_start(tasks_of(L), L, lua_gettop(L) - 1, NULL, NULL);
    task_set_spec(t);
    lua_task_push(L, t);
    return 1;
}

static const char probe_key; /* its address is where the registry has the function */

/* What the function raises, the wait does. */
static int call_probe(lua_State *L, void *arg)
{
    (void)arg;
    luaL_checkstack(L, LUA_MINSTACK, NULL);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &probe_key);
    return lua_pcall(L, 0, 0, 0) != LUA_OK;
}

/* loop.probe([fn]) */
static int loop_probe(lua_State *L)
{
    int has_one = !lua_isnoneornil(L, 1);
    if (has_one)
        luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &probe_key);
    tasks_set_probe(tasks_of(L), has_one ? call_probe : NULL, NULL);
    return 0;
}

static void push_known(lua_State *L, struct task *t, double now)
{
    lua_createtable(L, 0, 5);
    lua_task_push(L, t);
    lua_setfield(L, -2, "task");
    lua_pushfstring(L, "%p %I", (void *)t, (LUAI_UACINT)task_serial(t));
    lua_setfield(L, -2, "id");
    if (task_thread(t) && lua_pushthread(task_thread(t)) >= 0)
        lua_xmove(task_thread(t), L, 1);
    lua_setfield(L, -2, "thread");
    lua_pushboolean(L, task_is_spec(t));
    lua_setfield(L, -2, "is_spec");
    if (task_waits(t) && !isinf(task_deadline(t))) {
        lua_pushnumber(L, task_deadline(t) - now);
        lua_setfield(L, -2, "left");
    }
}

/* loop.tasks() -> { { id =, task =, thread =, is_spec =, left = seconds or nil } ... } */
static int loop_tasks(lua_State *L)
{
    struct tasks *ts = tasks_of(L);
    lua_Integer n = 0;
    lua_newtable(L);
    uint32_t place = 0;
    for (struct task *t; (t = tasks_next(ts, &place));) {
        push_known(L, t, loop_now(tasks_loop(ts)));
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    {"jump", loop_jump},
    {"shuffle", loop_shuffle},
    {"spawn", loop_spawn},
    {"probe", loop_probe},
    {"tasks", loop_tasks},
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
