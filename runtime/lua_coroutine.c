/*
 * A task's wait is a yield with a mark, and a yield reaches only the nearest resume: that
 * one, seeing the mark, yields on itself, and resumes again when it is resumed.
 *
 * What the watchdog has ended ends whatever has called it too: these functions hand that
 * on in place of a result.
 */
#include "lua_coroutine.h"

#include "watchdog.h"

#include <lauxlib.h>

/* How resume and wrap go on is the context: which of the two this is. */
enum { RESUME, WRAP };

enum outcome { FAILED, RETURNED, WAITS, INTERRUPTED };

static struct tasks *tasks_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* -- coroutines ---------------------------------------------------------------------- */

/* Runs what its <close> variables have to do: its status. */
static int close_coroutine(lua_State *co)
{
    lua_State *before = watchdog_switch(co);
    int status = lua_resetthread(co);
    watchdog_switch(before);
    return status;
}

static enum outcome take_results(lua_State *L, lua_State *co, int results)
{
    if (lua_checkstack(L, results + 1)) {
        lua_xmove(co, L, results);
        return RETURNED;
    }
    lua_pop(co, results);
    lua_pushliteral(L, "too many results to resume");
    return FAILED;
}

/* Resumes co with the n values on the top of its stack: results, or an error. */
static enum outcome resume(lua_State *L, lua_State *co, int n, int *results)
{
    lua_State *before = watchdog_switch(co);
    int status = lua_resume(co, L, n, results);
    watchdog_switch(before);
    if (watchdog_has_ended(co, status)) {
        close_coroutine(co);
        return INTERRUPTED;
    }
    if (status == LUA_YIELD && *results == 1 && task_is_wait(co, -1)) {
        lua_pop(co, 1);
        return WAITS;
    }
    if (status == LUA_OK || status == LUA_YIELD)
        return take_results(L, co, *results);
    lua_xmove(co, L, 1);
    return FAILED;
}

static lua_State *coroutine_of(lua_State *L, lua_KContext which)
{
    return lua_tothread(L, which == WRAP ? lua_upvalueindex(2) : 1);
}

/* As Lua's own: a wrapped coroutine that fails is closed, its error goes on. */
static int wrap_failed(lua_State *L, lua_State *co)
{
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) {
        status = close_coroutine(co);
        lua_pop(L, 1);
        lua_xmove(co, L, 1);
    }
    if (watchdog_has_ended(co, status))
        return watchdog_go_on(L);
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

/* "return failed(...)": the error is on the top. */
static int failed(lua_State *L, lua_KContext which)
{
    if (which == WRAP)
        return wrap_failed(L, coroutine_of(L, which));
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

static int returned(lua_State *L, int results, lua_KContext which)
{
    if (which == WRAP)
        return results;
    lua_pushboolean(L, 1);
    lua_insert(L, -results - 1);
    return results + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx);

static int resume_and_answer(lua_State *L, int n, lua_KContext which)
{
    int results = 0;
    switch (resume(L, coroutine_of(L, which), n, &results)) {
    case WAITS:
        return task_pass_wait(tasks_of(L), L, which, resume_k);
    case INTERRUPTED:
        return watchdog_go_on(L);
    case FAILED:
        return failed(L, which);
    default:
        return returned(L, results, which);
    }
}

static int resume_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return resume_and_answer(L, 0, ctx);
}

/* The arguments from first on are moved to the coroutine, which is then resumed. */
static int resume_begin(lua_State *L, int first, lua_KContext which)
{
    lua_State *co = coroutine_of(L, which);
    int n = lua_gettop(L) - first + 1;
    if (!lua_checkstack(co, n)) {
        lua_pushliteral(L, "too many arguments to resume");
        return failed(L, which);
    }
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

/* coroutine.close(co) -> true | false, error */
static int coroutine_close(lua_State *L)
{
    lua_Debug frame;
    luaL_checktype(L, 1, LUA_TTHREAD);
    lua_State *co = lua_tothread(L, 1);
    if (co == L || (lua_status(co) == LUA_OK && lua_getstack(co, 0, &frame)))
        return luaL_error(L, "cannot close a %s coroutine",
                          co == L ? "running" : "normal");
    int status = close_coroutine(co);
    if (watchdog_has_ended(co, status))
        return watchdog_go_on(L);
    lua_pushboolean(L, status == LUA_OK);
    if (status == LUA_OK)
        return 1;
    lua_xmove(co, L, 1);
    return 2;
}

/* -- protected calls ----------------------------------------------------------------- */

/* Below the results there are as many values as extra says. */
static int pcall_k(lua_State *L, int status, lua_KContext extra)
{
    if (watchdog_has_ended(L, status))
        return watchdog_go_on(L);
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - (int)extra;
    lua_pushboolean(L, 0);
    lua_pushvalue(L, -2);
    return 2;
}

/* pcall(fn, ...) */
static int protected_call(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int n = lua_gettop(L) - 2;
    return pcall_k(L, lua_pcallk(L, n, LUA_MULTRET, 0, 0, pcall_k), 0);
}

/* xpcall(fn, handler, ...) */
static int protected_call_handled(lua_State *L)
{
    int n = lua_gettop(L) - 2;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    return pcall_k(L, lua_pcallk(L, n, LUA_MULTRET, 2, 2, pcall_k), 2);
}

/* -- opening ------------------------------------------------------------------------- */

static const luaL_Reg coroutine_functions[] = {
    {"resume", coroutine_resume},
    {"wrap", coroutine_wrap},
    {"close", coroutine_close},
    {NULL, NULL},
};

static const luaL_Reg global_functions[] = {
    {"pcall", protected_call},
    {"xpcall", protected_call_handled},
    {NULL, NULL},
};

static void replace(lua_State *L, const luaL_Reg *functions, struct tasks *ts)
{
    lua_pushlightuserdata(L, ts);
    luaL_setfuncs(L, functions, 1);
    lua_pop(L, 1);
}

void lua_coroutine_open(lua_State *L, struct tasks *ts)
{
    lua_pushglobaltable(L);
    replace(L, global_functions, ts);
    if (lua_getglobal(L, "coroutine") == LUA_TTABLE)
        replace(L, coroutine_functions, ts);
    else
        lua_pop(L, 1);
}
