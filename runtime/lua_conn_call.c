#include "lua_conn_call.h"

#include "lua_fail.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>

const char lua_conn_class[] = "moonpool.conn";

/* -- the box ------------------------------------------------------------------------- */

/* Asking the box itself costs a fifth of luaL_testudata, and happens in each call. */
struct lua_conn *lua_conn_test(lua_State *L, int index)
{
    struct lua_conn *box = lua_touserdata(L, index);
    int is_one =
        box && lua_rawlen(L, index) == sizeof *box && box->class == lua_conn_class;
    return is_one ? box : NULL;
}

struct lua_conn *lua_conn_check_any(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_test(L, index);
    if (!box)
        luaL_typeerror(L, index, lua_conn_class);
    return box;
}

struct lua_conn *lua_conn_check(lua_State *L, int index)
{
    struct lua_conn *box = lua_conn_check_any(L, index);
    luaL_argcheck(L, box->conn, index, "connection is closed");
    return box;
}

/* -- news from the conn -------------------------------------------------------------- */

/* Its holder does, for the conn. */
static int side_waits(const struct side *s)
{
    return s->holder && task_waits_with(s->holder, s);
}

void side_wake(struct side *s)
{
    if (side_waits(s))
        task_wake(s->holder);
}

static void on_input(struct conn *c, void *arg)
{
    struct lua_conn *box = arg;
    (void)c;
    side_wake(&box->in);
}

static void on_room(struct conn *c, void *arg)
{
    struct lua_conn *box = arg;
    (void)c;
    side_wake(&box->out);
}

/* A task waits for input, and has said with what somebody else could. */
static int may_move(struct conn *c, void *arg)
{
    struct lua_conn *box = arg;
    return conn_has_checkpoint(c) && side_waits(&box->in) && !box->in.turns.first &&
           !box->out.holder && !box->out.turns.first;
}

static void on_moved(struct conn *c, enum parcel_why why, void *arg)
{
    struct lua_conn *box = arg;
    (void)c;
    box->conn = NULL;
    box->moved = parcel_whys[why];
    task_cancel_root(box->in.holder);
}

const struct conn_callbacks lua_conn_callbacks = {on_input, on_room, may_move, on_moved};

/* -- sides --------------------------------------------------------------------------- */

int side_leave(struct side *s, int n)
{
    s->holder = NULL;
    task_queue_wake(&s->turns);
    return n;
}

void side_forget(struct task *t, void *arg)
{
    struct side *s = arg;
    if (s->holder == t)
        side_leave(s, 0);
}

/* status: of the step that is to wait. Who has waited does so until the same time. */
static double box_deadline(const struct lua_conn *box, int status)
{
    struct tasks *ts = box->env->tasks;
    if (status == LUA_YIELD)
        return task_deadline(task_current(ts));
    return isinf(box->timeout) ? INFINITY : loop_now(tasks_loop(ts)) + box->timeout;
}

static struct side *side_of(struct lua_conn *box, const struct call *call)
{
    return call->is_input ? &box->in : &box->out;
}

static int call_now(lua_State *L, struct lua_conn *box, const struct call *call)
{
    side_of(box, call)->holder = task_current(box->env->tasks);
    return call->step(L, LUA_OK, 0);
}

static int call_later(lua_State *L, struct lua_conn *box, const struct call *call,
                      int status);

/* The context is the call. */
static int turn_k(lua_State *L, int status, lua_KContext ctx)
{
    const struct call *call = (const struct call *)ctx;
    struct lua_conn *box = lua_touserdata(L, 1);
    struct side *s = side_of(box, call);
    int timed_out = task_timed_out(box->env->tasks);
    if (s->holder && !timed_out)
        return call_later(L, box, call, status);
    task_queue_leave(&s->turns, task_current(box->env->tasks));
    if (!timed_out)
        return call_now(L, box, call);
    if (!s->holder)
        task_queue_wake(&s->turns); /* it may have been this one's turn */
    return lua_fail(L, ETIMEDOUT);
}

static int call_later(lua_State *L, struct lua_conn *box, const struct call *call,
                      int status)
{
    return task_queue_wait(&side_of(box, call)->turns, box->env->tasks, L,
                           box_deadline(box, status), (lua_KContext)call, turn_k);
}

int call_begin(lua_State *L, struct lua_conn *box, const struct call *call)
{
    struct side *s = side_of(box, call);
    int is_free =
        s->holder ? s->holder == task_current(box->env->tasks) : !s->turns.first;
    return is_free ? call_now(L, box, call) : call_later(L, box, call, LUA_OK);
}

int call_wait(lua_State *L, struct lua_conn *box, struct side *s, int status,
              lua_KContext at, lua_KFunction step)
{
    return task_wait(box->env->tasks, L, box_deadline(box, status), side_forget, s, at,
                     step);
}

int call_timed_out(const struct lua_conn *box, int status)
{
    return status == LUA_YIELD && task_timed_out(box->env->tasks);
}

void side_clear(struct side *s)
{
    if (s->holder)
        task_disown(s->holder, s);
    task_queue_clear(&s->turns);
}
