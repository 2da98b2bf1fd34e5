/*
 * lua_conn_call: the box that stands for a conn in Lua, and the calls of scripts on it,
 * which may have to wait. For lua_conn*.c alone; others know lua_conn.h.
 *
 * The box's conn is NULL once closed, whoever closed it. It has two sides, and each serves
 * one call at a time: others wait in a queue for their turn, so what one call reads or
 * writes is never mixed with another's.
 *
 * A call is a continuation, its step, begun by call_begin. Where it has to wait
 * (call_wait) it keeps where it stands in its context and its own stack, and goes on from
 * there when it is woken. It ends with side_leave. There may be tens of thousands that
 * wait, so the box has no more than all of them need.
 */
#ifndef MOONPOOL_LUA_CONN_CALL_H
#define MOONPOOL_LUA_CONN_CALL_H

#include "conn.h"
#include "task.h"

#include <lua.h>

/* Where a connection can be handed to. */
struct lua_conn_places {
    const char *pools; /* names, with ", " between */
    const char *pool;  /* this one's */
    uint32_t workers;  /* of this one */
    /* Takes over c, which has no owner. pool: the how-manieth; worker: 0 for any. */
    void (*hand)(struct conn *c, uint32_t pool, uint32_t worker, void *arg);
    void *arg;
};

/* What all conns of a Lua state share; outlives them. */
struct lua_conn_env {
    struct tasks *tasks;
    struct conns conns;
    const struct lua_conn_places *places; /* NULL: there is nobody else */
};

struct side {
    struct task *holder; /* whose call it is; NULL also for a call outside of tasks */
    struct task_queue turns;
};

struct lua_conn {
    const char *class; /* lua_conn_class, which tells it from any other userdata */
    struct lua_conn_env *env;
    struct conn *conn;
    struct side in, out;
    size_t searched;   /* so much of the input has no end of a line */
    double timeout;    /* seconds, INFINITY for none */
    const char *moved; /* why; NULL: it was not */
};

extern const char lua_conn_class[];
extern const struct conn_callbacks lua_conn_callbacks; /* of a conn in a box */

struct lua_conn *lua_conn_test(lua_State *L, int index);      /* or NULL */
struct lua_conn *lua_conn_check_any(lua_State *L, int index); /* closed or not */
struct lua_conn *lua_conn_check(lua_State *L, int index);     /* an open one */

struct call {
    int is_input;
    lua_KFunction step;
};

/*
 * "return call_begin(...)", with the box at index 1. A task that finds its own call there
 * has left it by an error (out of memory), and begins anew.
 */
int call_begin(lua_State *L, struct lua_conn *box, const struct call *call);
/* "return call_wait(...)": step, whose status this is, goes on, with at. */
int call_wait(lua_State *L, struct lua_conn *box, struct side *s, int status,
              lua_KContext at, lua_KFunction step);
/* Whether the wait of a step has come to its deadline. */
int call_timed_out(const struct lua_conn *box, int status);

/* "return side_leave(s, n)": the call is over, the next has its turn. */
int side_leave(struct side *s, int n);
/* The holder will not come to side_leave any more: a task_forget. */
void side_forget(struct task *t, void *side);
void side_wake(struct side *s);
void side_clear(struct side *s); /* nobody waits any more */

#endif
