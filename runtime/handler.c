#include "handler.h"

#include "alloc.h"
#include "fd.h"
#include "log.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct handler {
    struct lua_conn_env *env;
    const struct handler_callbacks *callbacks;
    void *arg;
    int value; /* reference in the registry: the function, or what the taker knows */
    const struct handler_taker *taker; /* NULL: each connection is a task's */
    int users;                         /* connections and tasks that have not ended */
    int freed;
};

struct arrival {
    struct handler *handler;
    int fd;            /* owned until a conn has it */
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

struct handler *handler_new(lua_State *L, struct lua_conn_env *env,
                            const struct handler_callbacks *callbacks, void *arg)
{
    if (luaL_callmeta(L, -1, "__handler"))
        lua_remove(L, -2);
    const struct handler_taker *taker = taker_of(L);
    if (!taker && !is_callable(L, -1))
        luaL_error(L,
                   "the script must return its handler, a function of one connection "
                   "or an application, but returns %s",
                   lua_isnil(L, -1) ? "nothing" : luaL_typename(L, -1));
    int value = luaL_ref(L, LUA_REGISTRYINDEX);
    struct handler *h = alloc_zero(sizeof *h);
    *h = (struct handler){
        .env = env, .callbacks = callbacks, .arg = arg, .value = value, .taker = taker};
    return h;
}

static void handler_release(struct handler *h)
{
    if (h->freed && !h->users)
        free(h);
}

void handler_free(struct handler *h)
{
    luaL_unref(tasks_state(h->env->tasks), LUA_REGISTRYINDEX, h->value);
    h->freed = 1;
    handler_release(h);
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

static int run_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)status, (void)ctx;
    lua_settop(L, 1);
    return 0; /* and the connection, which is to be closed, is */
}

/* The task: (conn, function). However it ends, <close> does what is to be done. */
static int run(lua_State *L)
{
    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    lua_insert(L, 1);
    lua_toclose(L, 1);
    lua_insert(L, 2);
    lua_callk(L, 1, 0, 0, run_k);
    return run_k(L, LUA_OK, 0);
}

/* The task comes first: it may want memory that is not there. */
static int start_task(lua_State *L, struct arrival *a)
{
    struct handler *h = a->handler;
    lua_pushcfunction(L, run);
    struct lua_conn *box = lua_conn_push(L, h->env);
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->value);
    struct task *t = task_start(h->env->tasks, L, 2, handler_done, h);
    h->users++;
    if (lua_conn_open(box, a->fd) < 0) {
        task_cancel(t);
        return -1;
    }
    fd_take(&a->fd);
    conn_on_end(lua_conn_get(box), handler_ended, h);
    return 0;
}

static int give(lua_State *L, struct arrival *a)
{
    struct handler *h = a->handler;
    lua_rawgeti(L, LUA_REGISTRYINDEX, h->value);
    a->conn = conn_open(&h->env->conns, a->fd);
    if (!a->conn)
        return -1;
    fd_take(&a->fd);
    conn_on_end(a->conn, handler_ended, h);
    h->taker->take(L, a->conn);
    a->conn = NULL;
    return 0;
}

static int accept_protected(lua_State *L)
{
    struct arrival *a = lua_touserdata(L, 1);
    int failed = a->handler->taker ? give(L, a) : start_task(L, a);
    return failed ? luaL_error(L, "cannot serve a connection: %s", strerror(errno)) : 0;
}

void handler_accept(struct handler *h, int fd)
{
    struct arrival a = {h, fd, NULL};
    h->users++;
    tasks_protect(h->env->tasks, accept_protected, &a);
    if (a.conn)
        conn_close(a.conn);
    if (a.fd < 0)
        return;
    fd_close(&a.fd);
    handler_ended(h);
}
