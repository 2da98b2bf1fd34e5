/*
 * Waiting inside the script's own coroutines: a task's wait is a yield with a mark, and a
 * yield reaches only the nearest resume. So coroutine.resume and coroutine.wrap of the
 * state are replaced by two that, seeing the mark, yield on themselves, and resume again
 * when they are resumed. For everything else they are Lua's own.
 */
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

static void push_task(lua_State *L, struct task *t)
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
    push_task(L, task_start(tasks_of(L), L, lua_gettop(L) - 1, NULL, NULL));
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
        push_task(L, t);
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

/* -- coroutines of the script -------------------------------------------------------- */

static int resume_k(lua_State *L, int status, lua_KContext ctx);

/* Resumes co with the n values on the top of its stack: results, or -1 and an error. */
static int resume(lua_State *L, lua_State *co, int n, int *results)
{
    int status = lua_resume(co, L, n, results);
    if (status == LUA_YIELD && *results == 1 && task_is_wait(co, -1)) {
        lua_pop(co, 1);
        return 0;
    }
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        return -1;
    }
    if (!lua_checkstack(L, *results + 1)) {
        lua_pop(co, *results);
        lua_pushliteral(L, "too many results to resume");
        return -1;
    }
    lua_xmove(co, L, *results);
    return 1;
}

/* How resume and wrap go on is the context: which of the two this is. */
enum { RESUME, WRAP };

static lua_State *coroutine_of(lua_State *L, lua_KContext which)
{
    return lua_tothread(L, which == WRAP ? lua_upvalueindex(2) : 1);
}

/* As Lua's own: a wrapped coroutine that fails is closed, its error goes on. */
static int wrap_failed(lua_State *L, lua_State *co)
{
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD && lua_resetthread(co) != LUA_OK) {
        lua_pop(L, 1);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int resume_and_answer(lua_State *L, int n, lua_KContext which)
{
    lua_State *co = coroutine_of(L, which);
    int results = 0;
    int some = resume(L, co, n, &results);
    if (some == 0)
        return task_pass_wait(tasks_of(L), L, which, resume_k);
    if (some < 0 && which == WRAP)
        return wrap_failed(L, co);
    if (which == WRAP)
        return results;
    lua_pushboolean(L, some > 0);
    lua_insert(L, -(some > 0 ? results : 1) - 1);
    return some > 0 ? results + 1 : 2;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return resume_and_answer(L, 0, ctx);
}

static int resume_refused(lua_State *L, const char *message, lua_KContext which)
{
    lua_pushstring(L, message);
    if (which == WRAP)
        return wrap_failed(L, coroutine_of(L, which));
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* The arguments from first on are moved to the coroutine, which is then resumed. */
static int resume_begin(lua_State *L, int first, lua_KContext which)
{
    lua_State *co = coroutine_of(L, which);
    int n = lua_gettop(L) - first + 1;
    if (!lua_checkstack(co, n))
        return resume_refused(L, "too many arguments to resume", which);
    lua_xmove(L, co, n);
    return resume_and_answer(L, n, which);
}

/* coroutine.resume(co, ...) */
static int coroutine_resume(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    return resume_begin(L, 2, RESUME);
}

static int wrapped(lua_State *L)
{
    return resume_begin(L, 1, WRAP);
}

/* coroutine.wrap(fn) */
static int coroutine_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_pushcclosure(L, wrapped, 2);
    return 1;
}

static const luaL_Reg coroutine_functions[] = {
    {"resume", coroutine_resume},
    {"wrap", coroutine_wrap},
    {NULL, NULL},
};

static void replace_coroutine_functions(lua_State *L, struct tasks *ts)
{
    if (lua_getglobal(L, "coroutine") == LUA_TTABLE) {
        lua_pushlightuserdata(L, ts);
        luaL_setfuncs(L, coroutine_functions, 1);
    }
    lua_pop(L, 1);
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
    replace_coroutine_functions(L, ts);
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, ts);
    luaL_setfuncs(L, functions, 1);
    return 1;
}
