/*
 * At the end of a cycle an object without references is finalized, which asks for a job:
 * what is in use by then is alive. The job sets the pause and makes the next such object.
 *
 * Cycles are to begin at rest: so that is due sooner than Lua begins one by itself, even
 * though what was taken during the last counts as alive here. And there they go on: a
 * negative LUA_GCSTEP makes no step, but puts off Lua's own.
 */
#include "lua_pace.h"

#include "lua_memory.h"

#include <lauxlib.h>

#define METATABLE "moonpool.pace"

/* As Lua keeps it, in percent. */
enum { STEP_SIZE = 8, STEP_MULTIPLIER = 4 }; /* of 1 << 8 bytes: 5 objects for 16 */
enum { PAUSE_AT_FIRST = 200, PAUSE_MAX = 1000, PAUSE_STEP = 4 };
enum { WAIT_OF_LUA = 140 }; /* in percent of the garbage that is waited for here */

void lua_pace_set_step(lua_State *L)
{
    lua_gc(L, LUA_GCINC, 0, STEP_MULTIPLIER, STEP_SIZE);
}

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* -- between cycles ------------------------------------------------------------------ */

static void pace_never(struct lua_pace *p)
{
    p->collects = 0;
    p->due = p->small_due = SIZE_MAX;
}

/* __gc */
static int on_cycle(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, lua_upvalueindex(1));
    if (!p->tasks)
        return 0;
    p->alive = lua_memory_used(L); /* here lua_gc does not answer */
    p->small_alive = lua_memory_small(L);
    pace_never(p);
    loop_soon(tasks_loop(p->tasks), &p->reset);
    return 0;
}

static int pause_for(double alive, double garbage)
{
    double pause = 100 + 100 * garbage / alive;
    return pause < PAUSE_MAX ? (int)pause / PAUSE_STEP * PAUSE_STEP : PAUSE_MAX;
}

static int pace_set(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, 1);
    int pause = pause_for((double)p->alive, (double)max(p->alive, LUA_PACE_GARBAGE));
    int before = lua_gc(L, LUA_GCSETPAUSE, pause);
    if (before != p->pause) {
        lua_gc(L, LUA_GCSETPAUSE, before);
        return 0; /* the script has its own */
    }
    p->pause = pause;
    p->due = p->alive + p->alive / WAIT_OF_LUA * (size_t)(pause - 100);
    p->small_due = p->small_alive + max(p->alive, LUA_PACE_SMALL);
    lua_newuserdatauv(L, 0, 0);
    luaL_setmetatable(L, METATABLE);
    return 0;
}

static void on_reset(void *arg)
{
    struct lua_pace *p = arg;
    if (p->tasks)
        tasks_protect(p->tasks, pace_set, p);
}

/* -- at rest ------------------------------------------------------------------------- */

/* What is beyond LUA_PACE_AHEAD, Lua has done. */
static int pace_step(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, 1);
    size_t used = lua_memory_used(L);
    if (used - p->paid > LUA_PACE_AHEAD)
        p->paid = used - LUA_PACE_AHEAD;
    for (; p->collects && p->paid < used; p->paid += LUA_PACE_STEP)
        lua_gc(L, LUA_GCSTEP, 0);
    if (p->collects)
        lua_gc(L, LUA_GCSTEP, -LUA_PACE_AHEAD / 1024);
    p->paid = lua_memory_used(L);
    return 0;
}

static void on_rest(void *arg)
{
    struct lua_pace *p = arg;
    size_t used = lua_memory_used(p->L);
    if (!p->collects && (used >= p->due || lua_memory_small(p->L) >= p->small_due)) {
        p->collects = 1;
        p->paid = used - LUA_PACE_AHEAD;
    }
    if (p->collects && used >= p->paid + LUA_PACE_AHEAD / 2 &&
        lua_gc(p->L, LUA_GCISRUNNING))
        tasks_protect(p->tasks, pace_step, p);
}

/* -- life ---------------------------------------------------------------------------- */

/* Loading has begun a cycle, or left enough garbage for one. */
static int pace_open(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, 1);
    luaL_newmetatable(L, METATABLE);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, on_cycle, 1);
    lua_setfield(L, -2, "__gc");
    lua_settop(L, 1);
    p->L = L;
    p->alive = lua_memory_used(L);
    p->small_alive = lua_memory_small(L);
    p->paid = p->alive;
    p->collects = 1;
    return pace_set(L);
}

void lua_pace_start(struct lua_pace *p, struct tasks *ts)
{
    *p = (struct lua_pace){.tasks = ts,
                           .reset = {.run = on_reset, .arg = p},
                           .rest = {.run = on_rest, .arg = p},
                           .pause = PAUSE_AT_FIRST};
    pace_never(p);
    if (tasks_protect(ts, pace_open, p) == 0)
        loop_at_rest(tasks_loop(ts), &p->rest);
}

void lua_pace_stop(struct lua_pace *p)
{
    loop_at_rest(tasks_loop(p->tasks), NULL);
    p->tasks = NULL;
}
