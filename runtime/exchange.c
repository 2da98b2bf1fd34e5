/*
 * Exchanges are never freed before the Lua state, so a box whose serial is not the
 * exchange's is one of a request that is over.
 */
#include "exchange.h"

#include "alloc.h"
#include "lua_fail.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS_KEPT = 1024 }; /* bytes, for the next request's */

struct box {
    const struct exchange_class *class; /* tells it from any other userdata */
    struct exchange *exchange;
    uint64_t serial;
    int has_own; /* values that the script has set */
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
    uint64_t serial = x->serial;
    struct buf fields = x->fields.text;
    memset(x, 0, offsetof(struct exchange, values));
    x->all = all;
    x->owner = owner;
    x->session = s;
    x->serial = serial;
    x->fields.text = fields;
    x->status = 200;
    x->length = -1;
    x->upgraded = x->kept = LUA_NOREF;
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
    buf_clear(&x->fields.text, FIELDS_KEPT);
    buf_release(&x->trailers.text);
    buf_release(&x->body);
    buf_release(&x->path);
    x->next = x->all->idle;
    x->all->idle = x;
}

void exchanges_free(struct exchanges *all)
{
    for (struct exchange *x; (x = all->idle);) {
        all->idle = x->next;
        buf_release(&x->fields.text);
        free(x);
    }
}

/* -- boxes --------------------------------------------------------------------------- */

/* The functions of a class have these upvalues. */
enum { CLASS = 1, METHODS };

static const struct exchange_class *class_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(CLASS));
}

void exchange_push(lua_State *L, struct exchange *x, const struct exchange_class *class,
                   int metatable)
{
    struct box *box = lua_newuserdatauv(L, sizeof *box, class->values);
    *box = (struct box){class, x, x->serial, 0};
    lua_pushvalue(L, metatable);
    lua_setmetatable(L, -2);
}

/* Asking the box itself costs a fifth of luaL_checkudata, and happens in each call. */
static struct box *box_check(lua_State *L, const struct exchange_class *class)
{
    struct box *box = lua_touserdata(L, 1);
    if (!box || lua_rawlen(L, 1) < sizeof *box || box->class != class)
        luaL_typeerror(L, 1, class->name);
    if (box->exchange->serial != box->serial)
        luaL_error(L, "this request is over: take what you need of it before the handler "
                      "returns");
    return box;
}

struct exchange *exchange_check(lua_State *L, const struct exchange_class *class)
{
    return box_check(L, class)->exchange;
}

int exchange_get_own(lua_State *L, int index)
{
    return lua_getiuservalue(L, index, EXCHANGE_OWN) == LUA_TTABLE;
}

/* (box, key, value) */
static int box_newindex(lua_State *L)
{
    struct box *box = box_check(L, class_of(L));
    luaL_checkstring(L, 2);
    lua_settop(L, 3);
    if (!box->has_own) {
        lua_newtable(L);
        lua_setiuservalue(L, 1, EXCHANGE_OWN);
        box->has_own = 1;
    }
    exchange_get_own(L, 1);
    lua_insert(L, 2);
    lua_rawset(L, 2);
    return 0;
}

/* Pushes the script's own value of the key at 2: whether there is one. */
static int push_own(lua_State *L)
{
    exchange_get_own(L, 1);
    lua_pushvalue(L, 2);
    if (lua_rawget(L, -2) != LUA_TNIL)
        return 1;
    lua_settop(L, 2);
    return 0;
}

/* (box, key): the script's own values come first, then methods and fields, which are
 * numbers there. */
static int box_index(lua_State *L)
{
    const struct exchange_class *class = class_of(L);
    struct box *box = box_check(L, class);
    if (box->has_own && push_own(L))
        return 1;
    switch (lua_rawget(L, lua_upvalueindex(METHODS))) { /* in place of the key */
    case LUA_TNUMBER:
        return class->fields[lua_tointeger(L, 2)].push(L, box->exchange);
    default:
        return 1;
    }
}

static void set_function(lua_State *L, const char *name, lua_CFunction f)
{
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, f, METHODS);
    lua_setfield(L, -4, name);
}

void exchange_class_open(lua_State *L, const struct exchange_class *class)
{
    luaL_newmetatable(L, class->name);
    lua_pushlightuserdata(L, (void *)class);
    lua_newtable(L);
    luaL_setfuncs(L, class->methods, 0);
    for (int i = 0; class->fields[i].name; i++) {
        lua_pushinteger(L, i);
        lua_setfield(L, -2, class->fields[i].name);
    }
    set_function(L, "__index", box_index);
    set_function(L, "__newindex", box_newindex);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

void exchange_view_open(lua_State *L, const struct exchange_class *view)
{
    luaL_newmetatable(L, view->name);
    lua_pushlightuserdata(L, (void *)view);
    luaL_setfuncs(L, view->methods, CLASS);
    lua_pop(L, 1);
}

const struct exchange_class *exchange_view_class(lua_State *L)
{
    return class_of(L);
}

void exchange_push_view(lua_State *L, struct exchange *x,
                        const struct exchange_class *view)
{
    luaL_getmetatable(L, view->name);
    exchange_push(L, x, view, lua_gettop(L));
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
