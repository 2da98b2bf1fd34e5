#include "lua_task.h"

#include "lua_fail.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>

#define NAME "moonpool.task"

struct lua_task {
    struct task *task;
    uint64_t serial;
};

static struct tasks *tasks_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

void lua_task_push(lua_State *L, struct task *t)
{
    struct lua_task *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct lua_task){t, task_serial(t)};
    luaL_setmetatable(L, NAME);
}

/* The task at index 1, or NULL when it is over. */
static struct task *check_task(lua_State *L)
{
    struct lua_task *box = luaL_checkudata(L, 1, NAME);
    return task_is_alive(box->task, box->serial) ? box->task : NULL;
}

/* -- functions ----------------------------------------------------------------------- */

/* task.spawn(fn, ...) -> task */
static int task_spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_task_push(L, task_start(tasks_of(L), L, lua_gettop(L) - 1, NULL, NULL));
    return 1;
}

static int sleep_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)L, (void)status, (void)ctx;
    return 0;
}

static double check_seconds(lua_State *L, int arg)
{
    double seconds = luaL_checknumber(L, arg);
    luaL_argcheck(L, seconds >= 0, arg, "negative time");
    return seconds;
}

/* task.sleep(seconds) */
static int task_sleep(lua_State *L)
{
    struct tasks *ts = tasks_of(L);
    double deadline = loop_now(tasks_loop(ts)) + check_seconds(L, 1);
    return task_wait(ts, L, deadline, NULL, NULL, 0, sleep_k);
}

static int park_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_YIELD && task_timed_out(tasks_of(L)))
        return lua_fail(L, ETIMEDOUT);
    lua_pushboolean(L, 1);
    return 1;
}

/* task.park([seconds]) -> true | nil, "timeout", "ETIMEDOUT" */
static int task_park_function(lua_State *L)
{
    struct tasks *ts = tasks_of(L);
    double deadline = INFINITY;
    if (!lua_isnoneornil(L, 1))
        deadline = loop_now(tasks_loop(ts)) + check_seconds(L, 1);
    return task_park(ts, L, deadline, park_k);
}

/* task.current() -> task or nil */
static int task_current_function(lua_State *L)
{
    struct task *t = task_current(tasks_of(L));
    if (t)
        lua_task_push(L, t);
    else
        lua_pushnil(L);
    return 1;
}

/* task.now() -> seconds */
static int task_now(lua_State *L)
{
    lua_pushnumber(L, loop_now(tasks_loop(tasks_of(L))));
    return 1;
}

/* -- methods ------------------------------------------------------------------------- */

/* task:unpark() */
static int method_unpark(lua_State *L)
{
    struct task *t = check_task(L);
    if (t)
        task_unpark(t);
    return 0;
}

/* task:cancel() */
static int method_cancel(lua_State *L)
{
    struct task *t = check_task(L);
    if (t)
        task_cancel(t);
    return 0;
}

/* task:detach() -> task */
static int method_detach(lua_State *L)
{
    struct task *t = check_task(L);
    if (t)
        task_detach(t);
    lua_settop(L, 1);
    return 1;
}

/* task:alive() -> boolean */
static int method_alive(lua_State *L)
{
    lua_pushboolean(L, check_task(L) != NULL);
    return 1;
}

static int task_equal(lua_State *L)
{
    struct lua_task *a = luaL_checkudata(L, 1, NAME), *b = luaL_checkudata(L, 2, NAME);
    lua_pushboolean(L, a->task == b->task && a->serial == b->serial);
    return 1;
}

/* -- opening ------------------------------------------------------------------------- */

static const luaL_Reg methods[] = {
    {"unpark", method_unpark},
    {"cancel", method_cancel},
    {"detach", method_detach},
    {"alive", method_alive},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"spawn", task_spawn},
    {"sleep", task_sleep},
    {"park", task_park_function},
    {"current", task_current_function},
    {"now", task_now},
    {NULL, NULL},
};

int luaopen_moonpool_task(lua_State *L, struct tasks *ts)
{
    luaL_newmetatable(L, NAME);
    lua_pushcfunction(L, task_equal);
    lua_setfield(L, -2, "__eq");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, ts);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
