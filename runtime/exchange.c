/*
 * Exchanges are never freed before the Lua state, so a box whose serial is not the
 * exchange's is one of a request that is over.
 */
#include "exchange.h"

#include "alloc.h"
#include "lua_fail.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct box {
    struct exchange *exchange;
    uint64_t serial;
};

/* -- life ---------------------------------------------------------------------------- */

struct exchange *exchange_begin(struct exchanges *all, struct http_session *s,
                                void *owner)
{
    struct exchange *x = all->idle;
    if (x)
        all->idle = x->next;
    else
        x = alloc_zero(sizeof *x);
    *x = (struct exchange){.all = all,
                           .owner = owner,
                           .session = s,
                           .serial = x->serial,
                           .status = 200,
                           .length = -1,
                           .upgraded = LUA_NOREF};
    return x;
}

const char *exchange_path(const struct exchange *x, size_t *len)
{
    struct http_span path = http_session_request(x->session)->path;
    *len = x->path.data ? buf_len(&x->path) : path.len;
    return x->path.data ? buf_head(&x->path) : http_session_text(x->session) + path.at;
}

void exchange_wake(struct exchange *x)
{
    struct task *t = x->waiting;
    x->waiting = NULL;
    if (t)
        task_wake(t);
}

void exchange_retire(struct exchange *x)
{
    x->serial++;
    exchange_wake(x);
}

void exchange_end(struct exchange *x)
{
    exchange_retire(x);
    buf_release(&x->fields);
    buf_release(&x->trailers);
    buf_release(&x->body);
    buf_release(&x->path);
    x->next = x->all->idle;
    x->all->idle = x;
}

void exchanges_free(struct exchanges *all)
{
    for (struct exchange *x; (x = all->idle);) {
        all->idle = x->next;
        free(x);
    }
}

/* -- boxes --------------------------------------------------------------------------- */

void exchange_push(lua_State *L, struct exchange *x, const char *name)
{
    struct box *box = lua_newuserdatauv(L, sizeof *box, EXCHANGE_VALUES);
    *box = (struct box){x, x->serial};
    luaL_setmetatable(L, name);
}

struct exchange *exchange_check(lua_State *L, const char *name)
{
    struct box *box = luaL_checkudata(L, 1, name);
    if (box->exchange->serial != box->serial)
        luaL_error(L, "this request is over: take what you need of it before the handler "
                      "returns");
    return box->exchange;
}

int exchange_get_table(lua_State *L, int index)
{
    return lua_getiuservalue(L, index, EXCHANGE_OWN) == LUA_TTABLE;
}

int exchange_get(lua_State *L)
{
    if (exchange_get_table(L, 1)) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, -2) != LUA_TNIL)
            return 1;
    }
    lua_pushvalue(L, 2);
    return lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL;
}

void exchange_set(lua_State *L, int index)
{
    if (!exchange_get_table(L, index)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, index, EXCHANGE_OWN);
    }
    lua_pushvalue(L, 2);
    lua_rotate(L, -3, 2); /* the table, the key, the value */
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* The kind of box is the upvalue. */
static int box_newindex(lua_State *L)
{
    exchange_check(L, lua_tostring(L, lua_upvalueindex(1)));
    luaL_checkstring(L, 2);
    lua_settop(L, 3);
    exchange_set(L, 1);
    return 0;
}

void exchange_class(lua_State *L, const char *name, const luaL_Reg *methods,
                    lua_CFunction index)
{
    luaL_newmetatable(L, name);
    lua_pushstring(L, name);
    lua_pushcclosure(L, box_newindex, 1);
    lua_setfield(L, -2, "__newindex");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, index, 1);
    lua_setfield(L, -3, "__index");
    lua_remove(L, -2);
}

/* -- waiting ------------------------------------------------------------------------- */

/* By the time that a cancelled task comes here, another may wait. */
static void forget_wait(struct task *t, void *arg)
{
    struct exchange *x = arg;
    if (x->waiting != t)
        return;
    x->waiting = NULL;
    http_session_want_input(x->session, 0);
    http_session_want_room(x->session, 0);
}

void exchange_check_waits(lua_State *L, const struct exchange *x)
{
    if (x->waiting)
        luaL_error(L, "another task is waiting for this request");
}

static int exchange_wait(lua_State *L, struct exchange *x, lua_KFunction k)
{
    struct tasks *ts = x->all->env->tasks;
    x->waiting = task_current(ts);
    return task_wait(ts, L, INFINITY, forget_wait, x, 0, k);
}

int exchange_wait_input(lua_State *L, struct exchange *x, lua_KFunction k)
{
    http_session_want_input(x->session, 1);
    return exchange_wait(L, x, k);
}

int exchange_wait_room(lua_State *L, struct exchange *x, lua_KFunction k)
{
    http_session_want_room(x->session, 1);
    return exchange_wait(L, x, k);
}

int exchange_wait_drained(lua_State *L, struct exchange *x, lua_KFunction k)
{
    http_session_want_drained(x->session, 1);
    return exchange_wait(L, x, k);
}

int exchange_fail(lua_State *L, const struct exchange *x)
{
    int error = http_session_error(x->session);
    if (error == EMSGSIZE)
        return lua_fail_text(L, "the body is too long", "EMSGSIZE");
    if (error == EBADMSG)
        return lua_fail_text(L, "the body's chunks are malformed", "EBADMSG");
    return lua_fail(L, error);
}
