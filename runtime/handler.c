#include "handler.h"

#include "alloc.h"
#include "fd.h"
#include "log.h"
#include "lua_pack.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct handler {
    struct lua_conn_env *env;
    const struct handler_callbacks *callbacks;
    void *arg;
    int serve; /* reference in the registry: the function, or what the taker knows */
    const struct handler_taker *taker; /* NULL: each connection is a task's */
    int resume;                        /* likewise, a function; LUA_REFNIL: none */
    int taker_can_resume;
    struct conn_end conn_end;
    int users; /* connections and tasks that have not ended */
    int freed;
};

struct taking {
    struct handler *handler;
    struct arrival is; /* its fd is owned until a conn has it */
    struct conn *conn; /* owned until a taker has it */
};

static int is_callable(lua_State *L, int index)
{
    if (lua_isfunction(L, index))
        return 1;
    if (luaL_getmetafield(L, index, "__call") == LUA_TNIL)
        return 0;
    lua_pop(L, 1);
    return 1;
}

/* That of the value at the top, or NULL. */
static const struct handler_taker *taker_of(lua_State *L)
{
    if (luaL_getmetafield(L, -1, "__take") == LUA_TNIL)
        return NULL;
    int is_one = lua_islightuserdata(L, -1);
    const struct handler_taker *taker = is_one ? lua_touserdata(L, -1) : NULL;
    lua_pop(L, 1);
    return taker;
}

static void raise_expected(lua_State *L, const char *expected)
{
    luaL_error(L, "%s%s", expected, lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1));
}

static void take_serve(lua_State *L, struct handler *h, const char *expected)
{
    if (luaL_callmeta(L, -1, "__handler"))
        lua_remove(L, -2);
    h->taker = taker_of(L);
    if (!h->taker && !is_callable(L, -1))
        raise_expected(L, expected);
    h->taker_can_resume = h->taker && h->taker->can_resume(L);
    h->serve = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void take_resume(lua_State *L, struct handler *h)
{
    if (!lua_isnil(L, -1) && !is_callable(L, -1))
        raise_expected(L, "the script's resume must be a function, but is ");
    h->resume = luaL_ref(L, LUA_REGISTRYINDEX);
}

static int has_field(lua_State *L, const char *name)
{
    int has = lua_getfield(L, -1, name) != LUA_TNIL;
    lua_pop(L, 1);
    return has;
}

/* A table with one function for new connections and one for others. */
static int is_pair(lua_State *L)
{
    return lua_istable(L, -1) && !is_callable(L, -1) &&
           (has_field(L, "serve") || has_field(L, "resume"));
}

static void take_pair(lua_State *L, struct handler *h)
{
    lua_getfield(L, -1, "serve");
    take_serve(L, h, "the script's serve must be its handler, but is ");
    lua_getfield(L, -1, "resume");
    take_resume(L, h);
    lua_pop(L, 1);
}

static void handler_release(struct handler *h)
{
    if (h->freed && !h->users)
        free(h);
}

static void handler_leave(struct handler *h)
{
    h->users--;
    handler_release(h);
}

static void handler_ended(void *arg)
{
    struct handler *h = arg;
    if (h->callbacks->on_end)
        h->callbacks->on_end(h->arg);
    handler_leave(h);
}

struct handler *handler_new(lua_State *L, struct lua_conn_env *env,
                            const struct handler_callbacks *callbacks, void *arg)
{
    struct handler new = {
        .env = env, .callbacks = callbacks, .arg = arg, .resume = LUA_REFNIL};
    if (is_pair(L))
        take_pair(L, &new);
    else
        take_serve(L, &new,
                   "the script must return its handler, a function of one connection "
                   "or an application, but returns ");
    struct handler *h = alloc(sizeof *h);
    *h = new;
    h->conn_end = (struct conn_end){handler_ended, h};
    return h;
}

int handler_can_resume(const struct handler *h)
{
    return h->resume != LUA_REFNIL || h->taker_can_resume;
}

void handler_free(struct handler *h)
{
    luaL_unref(tasks_state(h->env->tasks), LUA_REGISTRYINDEX, h->serve);
    luaL_unref(tasks_state(h->env->tasks), LUA_REGISTRYINDEX, h->resume);
    h->freed = 1;
    handler_release(h);
}

static void handler_done(lua_State *L, enum task_end how, int n, void *arg)
{
    struct handler *h = arg;
    (void)n;
    if (how >= TASK_FAILED) {
        log_error("%s", lua_tostring(L, -1));
        if (h->callbacks->on_error)
            h->callbacks->on_error(h->arg);
    }
    handler_leave(h);
}

/* Its task owns the conn: however that ends, it is closed then. */
static const struct task_callbacks resumed = {.done = handler_done};

static void handler_begins(lua_State *co, void *arg)
{
    struct lua_conn *box = lua_touserdata(co, 1);
    (void)arg;
    conn_busy(lua_conn_get(box));
}

static const struct task_callbacks fresh = {handler_begins, handler_done};

/* What resume gets behind the conn: how many values. */
static int push_state(lua_State *L, const struct parcel *p)
{
    if (lua_unpack(L, p->state, p->state_len) < 0)
        luaL_error(L, "a connection has come with a state that is broken");
    lua_pushstring(L, parcel_whys[p->why]);
    return 2;
}

static void opened(struct conn *c, struct taking *t)
{
    fd_take(&t->is.fd);
    conn_on_end(c, &t->handler->conn_end);
    if (t->is.record)
        conn_survive(c, t->is.record);
    if (t->is.parcel)
        conn_arrived(c, t->is.parcel);
}

/*
 * function: reference of what is called with the conn, and a state if resumes. The task
 * comes first: it may want memory that is not there.
 */
static int start_task(lua_State *L, struct taking *t, int function, int resumes)
{
    struct handler *h = t->handler;
    int nargs = 1;
    lua_rawgeti(L, LUA_REGISTRYINDEX, function);
    struct lua_conn *box = lua_conn_push(L, h->env);
    if (resumes)
        nargs += push_state(L, t->is.parcel);
    struct task *task =
        task_start_owner(h->env->tasks, L, nargs, resumes ? &resumed : &fresh, h);
    h->users++;
    if (lua_conn_open(box, t->is.fd) < 0) {
        task_cancel(task);
        return -1;
    }
    opened(lua_conn_get(box), t);
    task_set_number(task, conn_record(lua_conn_get(box)));
    return 0;
}

/* What a taker does with a connection. */
typedef void give_function(lua_State *L, struct taking *t);

static int give(lua_State *L, struct taking *t, give_function *how)
{
    struct handler *h = t->handler;
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->serve);
    t->conn = conn_open(&h->env->conns, t->is.fd);
    if (!t->conn)
        return -1;
    opened(t->conn, t);
    how(L, t);
    t->conn = NULL;
    return 0;
}

static void give_new(lua_State *L, struct taking *t)
{
    t->handler->taker->take(L, t->conn);
}

static void give_cut(lua_State *L, struct taking *t)
{
    t->handler->taker->cut(L, t->conn);
}

static void give_resumed(lua_State *L, struct taking *t)
{
    t->handler->taker->resume(L, t->conn, t->is.parcel);
}

static int serve(lua_State *L, struct taking *t)
{
    struct handler *h = t->handler;
    return h->taker ? give(L, t, give_new) : start_task(L, t, h->serve, 0);
}

static int is_of_taker(const struct parcel *p)
{
    return p->state_len && (uint8_t)p->state[0] & PARCEL_TAKERS;
}

static int resume(lua_State *L, struct taking *t)
{
    struct handler *h = t->handler;
    int is_takers = is_of_taker(t->is.parcel);
    if (is_takers ? !h->taker_can_resume : h->resume == LUA_REFNIL)
        luaL_error(L, "a connection has come with a state, but the script has no resume");
    if (is_takers)
        return give(L, t, give_resumed);
    return start_task(L, t, h->resume, 1);
}

/* Where nobody knows what to say it is closed. */
static int end_cut(lua_State *L, struct taking *t)
{
    const struct handler_taker *taker = t->handler->taker;
    return taker ? give(L, t, give_cut) : 0;
}

static int take_protected(lua_State *L)
{
    struct taking *t = lua_touserdata(L, 1);
    const struct parcel *p = t->is.parcel;
    int failed = p && p->is_cut      ? end_cut(L, t)
                 : p && p->has_state ? resume(L, t)
                                     : serve(L, t);
    return failed ? luaL_error(L, "cannot serve a connection: %s", strerror(errno)) : 0;
}

void handler_take(struct handler *h, const struct arrival *a)
{
    struct taking t = {h, *a, NULL};
    h->users++;
    tasks_protect(h->env->tasks, take_protected, &t);
    if (t.conn)
        conn_close(t.conn);
    if (t.is.fd < 0)
        return;
    shutdown(t.is.fd, SHUT_RDWR); /* the supervisor may hold it too */
    fd_close(&t.is.fd);
    if (t.is.record)
        journal_end(h->env->conns.journal, t.is.record);
    handler_ended(h);
}
