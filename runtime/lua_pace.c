/*
 * At the end of a cycle an object without references is finalized, which asks for a job:
 * what is in use by then is alive. The job sets the pause and makes the next such object.
 */
#include "lua_pace.h"

#include "lua_memory.h"

#include <lauxlib.h>

#define METATABLE "moonpool.pace"

/* As Lua keeps it, in percent. */
enum { STEP_SIZE = 8, STEP_MULTIPLIER = 4 }; /* of 1 << 8 bytes: 5 objects for 16 */
enum { PAUSE_AT_FIRST = 200, PAUSE_MAX = 1000, PAUSE_STEP = 4 };

void lua_pace_set_step(lua_State *L)
{
    lua_gc(L, LUA_GCINC, 0, STEP_MULTIPLIER, STEP_SIZE);
}

/* __gc */
static int on_cycle(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, lua_upvalueindex(1));
    if (!p->tasks)
        return 0;
    p->alive = lua_memory_used(L); /* here lua_gc does not answer */
    loop_soon(tasks_loop(p->tasks), &p->job);
    return 0;
}

static int pause_for(double alive, double garbage)
{
    double pause = 100 + 100 * (alive > garbage ? alive : garbage) / alive;
    return pause < PAUSE_MAX ? (int)pause / PAUSE_STEP * PAUSE_STEP : PAUSE_MAX;
}

static int pace_set(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, 1);
    int pause = pause_for((double)p->alive, LUA_PACE_GARBAGE);
    int before = lua_gc(L, LUA_GCSETPAUSE, pause);
    if (before != p->pause) {
        lua_gc(L, LUA_GCSETPAUSE, before);
        return 0; /* the script has its own */
    }
    p->pause = pause;
    lua_newuserdatauv(L, 0, 0);
    luaL_setmetatable(L, METATABLE);
    return 0;
}

static void pace_job(void *arg)
{
    struct lua_pace *p = arg;
    if (p->tasks)
        tasks_protect(p->tasks, pace_set, p);
}

static int pace_open(lua_State *L)
{
    struct lua_pace *p = lua_touserdata(L, 1);
    luaL_newmetatable(L, METATABLE);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, on_cycle, 1);
    lua_setfield(L, -2, "__gc");
    lua_settop(L, 1);
    p->alive = lua_memory_used(L);
    return pace_set(L);
}

void lua_pace_start(struct lua_pace *p, struct tasks *ts)
{
    *p = (struct lua_pace){
        .tasks = ts, .job = {.run = pace_job, .arg = p}, .pause = PAUSE_AT_FIRST};
    tasks_protect(ts, pace_open, p);
}

void lua_pace_stop(struct lua_pace *p)
{
    p->tasks = NULL;
}
