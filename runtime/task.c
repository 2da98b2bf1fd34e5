/*
 * A task is IDLE (in the pool), READY (in a queue that a job of the loop goes through),
 * RUNNING, or WAITING. It leaves WAITING only through task_ready, so a task that was
 * cancelled or has timed out is never woken a second time for the same wait.
 *
 * There may be tens of thousands that wait, so a task is small.
 */
#include "task.h"

#include "alloc.h"
#include "log.h"
#include "lua_memory.h"
#include "script.h"
#include "watchdog.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    THREADS_MAX = 1024, /* kept for reuse */
    RUNS_PER_JOB = 4,   /* then other jobs have their turn */
    BLOCK = 64,         /* tasks */
    EXPLANATION = 128,
};

enum task_state { IDLE, READY, RUNNING, WAITING };

struct task {
    struct tasks *ts;
    lua_State *co;
    int ref;         /* keeps co from being collected */
    uint32_t number; /* to be shown while it runs */
    uint32_t turn;   /* where they are shuffled, the lowest is next */
    uint8_t state;   /* enum task_state */
    uint8_t begun : 1, cancelled : 1, timed_out : 1;
    uint8_t parked : 1, permit : 1;
    uint8_t is_c : 1; /* task_run_c */
    uint8_t is_spec : 1;
    uint8_t owns : 1; /* the value at the bottom of its stack, which is to be closed */
    struct task *next_ready;
    struct timer *timer; /* owned; NULL: its last wait had no deadline */
    task_forget *forget;
    void *forget_arg;
    const struct task_callbacks *callbacks; /* or NULL */
    void *callback_arg;
    struct task *parent, *children;
    struct task *next, **prev; /* of the same parent, or idle; prev: what points here */
    uint64_t serial;
    struct task *next_queued;
};

struct tasks {
    lua_State *L;
    struct loop *loop;
    struct task *current;
    struct task *idle;
    struct task **blocks; /* of all tasks */
    uint32_t count;
    _Atomic uint32_t *shown; /* tasks_show; at first */
    _Atomic uint32_t nowhere;
    int idle_threads;
    char *interrupted; /* owned: why the task that has just run was, if it was */
    void (*on_failure)(void *arg); /* or NULL */
    void *failure_arg;
    task_probe *probe;
    void *probe_arg;
    struct task *ready, **ready_end;
    struct loop_job job; /* runs those that are ready */
    uint64_t random;     /* not 0: they are shuffled */
};

static const char wait_mark; /* its address marks a yield as a task's wait */

/* -- the tree ------------------------------------------------------------------------ */

static void task_link(struct task *t, struct task *parent)
{
    t->parent = parent;
    t->number = parent ? parent->number : 0;
    if (!parent)
        return;
    t->next = parent->children;
    t->prev = &parent->children;
    if (t->next)
        t->next->prev = &t->next;
    parent->children = t;
}

void task_detach(struct task *t)
{
    if (!t->parent)
        return;
    *t->prev = t->next;
    if (t->next)
        t->next->prev = t->prev;
    t->parent = NULL;
}

static void task_end_children(struct task *t)
{
    while (t->children) {
        struct task *child = t->children;
        task_detach(child);
        task_cancel(child);
    }
}

/* -- the pool ------------------------------------------------------------------------ */

static void task_run(struct task *t);
static void task_drop_timer(struct task *t);
static uint64_t tasks_random(struct tasks *ts);

static struct task *tasks_at(const struct tasks *ts, uint32_t i)
{
    return &ts->blocks[i / BLOCK][i % BLOCK];
}

static void tasks_add_block(struct tasks *ts)
{
    uint32_t n = ts->count / BLOCK;
    ts->blocks = alloc_array(ts->blocks, n + 1, sizeof *ts->blocks);
    ts->blocks[n] = alloc_array(NULL, BLOCK, sizeof **ts->blocks);
}

static struct task *task_new(struct tasks *ts)
{
    if (ts->count % BLOCK == 0)
        tasks_add_block(ts);
    struct task *t = tasks_at(ts, ts->count++);
    *t = (struct task){.ts = ts, .ref = LUA_NOREF};
    return t;
}

static void task_release_thread(struct task *t)
{
    luaL_unref(t->ts->L, LUA_REGISTRYINDEX, t->ref);
    t->ref = LUA_NOREF;
    t->co = NULL;
}

/* Only a thread that has returned is as good as new: lua_resetthread leaves the message
 * handler of an xpcall that it has unwound (Lua 5.4.4), for the errors of the next task.
 */
static void task_put_idle(struct task *t, int has_returned)
{
    struct tasks *ts = t->ts;
    t->state = IDLE;
    t->serial++;
    task_drop_timer(t);
    if (has_returned && ts->idle_threads < THREADS_MAX)
        ts->idle_threads++;
    else
        task_release_thread(t);
    t->next = ts->idle;
    ts->idle = t;
}

static struct task *task_take_idle(struct tasks *ts)
{
    struct task *t = ts->idle;
    ts->idle = t->next;
    ts->idle_threads--;
    return t;
}

/* May raise for want of memory. */
static void task_need_thread(lua_State *L, struct task *t, int nargs)
{
    if (!t->co) {
        lua_State *co = lua_newthread(L);
        t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        t->co = co;
        t->ts->idle_threads++;
    }
    if (!lua_checkstack(t->co, nargs + 1))
        luaL_error(L, "too many arguments");
}

static void task_stop_timer(struct task *t)
{
    if (t->timer)
        timer_stop(&t->ts->loop->clock, t->timer);
}

/* It is not started. */
static void task_drop_timer(struct task *t)
{
    free(t->timer);
    t->timer = NULL;
}

/* -- from C into Lua ----------------------------------------------------------------- */

int tasks_protect(struct tasks *ts, lua_CFunction f, void *arg)
{
    lua_State *L = ts->L;
    lua_State *before = watchdog_enter(L);
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, arg);
    int status = script_call(L, 1, 0);
    char *interrupted = watchdog_leave(before), why[EXPLANATION];
    if (status == LUA_OK)
        return free(interrupted), 0;
    if (status == LUA_ERRMEM && lua_memory_explain(L, why, sizeof why))
        log_error("%s", why);
    else
        log_error("%s", interrupted ? interrupted : lua_tostring(L, -1));
    free(interrupted);
    lua_pop(L, 1);
    return -1;
}

struct ending {
    struct task *task;
    enum task_end how;
    int n;
    int told; /* done has been called */
};

static int has_failed(enum task_end how)
{
    return how >= TASK_FAILED;
}

/* A message that has a traceback already, of where it was raised first, is enough. */
static void push_error(lua_State *L, lua_State *co)
{
    char why[EXPLANATION];
    lua_xmove(co, L, 1);
    const char *message = luaL_tolstring(L, -1, NULL);
    if (lua_status(co) == LUA_ERRMEM && lua_memory_explain(L, why, sizeof why))
        message = why;
    if (!strstr(message, "\nstack traceback:\n"))
        luaL_traceback(L, co, message, 0);
}

static void task_report(lua_State *L, const struct tasks *ts)
{
    log_error("%s", lua_tostring(L, -1));
    if (ts->on_failure)
        ts->on_failure(ts->failure_arg);
}

static int task_tell(lua_State *L)
{
    struct ending *e = lua_touserdata(L, 1);
    struct task *t = e->task;
    luaL_checkstack(L, e->n + 1, "too many results");
    if (e->how == TASK_INTERRUPTED)
        lua_pushstring(L, t->ts->interrupted);
    else if (e->how == TASK_FAILED)
        push_error(L, t->co);
    else
        lua_xmove(t->co, L, e->n);
    if (e->how == TASK_RETURNED)
        lua_settop(t->co, 0); /* closes what it owns */
    e->told = 1;
    if (t->callbacks)
        t->callbacks->done(L, e->how, e->n, t->callback_arg);
    else if (has_failed(e->how))
        task_report(L, t->ts);
    return 0;
}

/* In place of the former where it has failed: Lua always has this text. */
static int task_tell_plainly(lua_State *L)
{
    struct ending *e = lua_touserdata(L, 1);
    lua_pushliteral(L, "not enough memory");
    e->task->callbacks->done(L, TASK_FAILED, 1, e->task->callback_arg);
    return 0;
}

static void task_tell_done(struct task *t, enum task_end how, int n)
{
    struct ending e = {t, how, how == TASK_FAILED ? 1 : n, 0};
    if (t->is_c && !has_failed(how)) {
        t->callbacks->done(t->ts->L, how, 0, t->callback_arg);
        return;
    }
    if (t->callbacks || t->owns || has_failed(how))
        tasks_protect(t->ts, task_tell, &e);
    if (t->callbacks && !e.told)
        tasks_protect(t->ts, task_tell_plainly, &e);
}

/* t: NULL for nobody. */
static void tasks_set_current(struct tasks *ts, struct task *t)
{
    ts->current = t;
    atomic_store_explicit(ts->shown, t ? t->number : 0, memory_order_relaxed);
}

/* What was interrupted closes its <close> variables in what is left of its time. */
static char *task_leave_run(struct task *t, lua_State *before)
{
    tasks_set_current(t->ts, NULL);
    if (watchdog_has_interrupted())
        lua_resetthread(t->co);
    return watchdog_leave(before);
}

/* Returns how many arguments its function has. */
static int task_tell_begin(struct task *t)
{
    t->begun = 1;
    if (t->callbacks && t->callbacks->begins)
        t->callbacks->begins(t->co, t->callback_arg);
    return lua_gettop(t->co) - t->owns - 1;
}

/*
 * The one resume. Returns how the task ended, with n results, or -1 when it goes on. What
 * it owns is below them.
 */
static int task_resume(struct task *t, int *n)
{
    struct tasks *ts = t->ts;
    int nargs = t->begun ? 0 : task_tell_begin(t);
    t->state = RUNNING;
    t->forget = NULL;
    tasks_set_current(ts, t);
    lua_State *before = watchdog_enter(t->co);
    int status = lua_resume(t->co, ts->L, nargs, n);
    t->ts->interrupted = task_leave_run(t, before);
    if (t->ts->interrupted)
        return TASK_INTERRUPTED;
    if (status == LUA_YIELD) {
        if (*n)
            lua_pop(t->co, *n);
        return -1;
    }
    *n -= t->owns;
    return status == LUA_OK ? TASK_RETURNED : TASK_FAILED;
}

/* A wait that came to nothing. */
static void task_leave_wait(struct task *t)
{
    task_forget *forget = t->forget;
    task_stop_timer(t);
    t->forget = NULL;
    if (forget)
        forget(t, t->forget_arg);
}

/* -- life of a task ------------------------------------------------------------------ */

/* Its <close> variables are closed, as a run of their own. */
static void task_close_thread(struct task *t, enum task_end how)
{
    lua_State *before = watchdog_enter(t->co);
    int status = lua_resetthread(t->co);
    char *interrupted = watchdog_leave(before);
    if (interrupted)
        log_error("%s", interrupted);
    else if (status != LUA_OK && how == TASK_CANCELLED)
        log_error("while a task was cancelled: %s", lua_type(t->co, -1) == LUA_TSTRING
                                                        ? lua_tostring(t->co, -1)
                                                        : "an error without a text");
    free(interrupted);
}

/* Of what has failed: it may have been for want of memory, so what it held is collected.
 */
static void task_fail(struct task *t, enum task_end how, int n)
{
    lua_State *L = t->ts->L;
    int status = lua_status(t->co);
    lua_memory_use_reserve(L, 1);
    task_tell_done(t, how, n);
    if (how != TASK_INTERRUPTED)
        task_close_thread(t, how);
    lua_settop(t->co, 0);
    if (status == LUA_ERRMEM)
        lua_gc(L, LUA_GCCOLLECT);
    lua_memory_use_reserve(L, 0);
    free(t->ts->interrupted);
    t->ts->interrupted = NULL;
}

/* For want of memory, what it owns may not have been closed yet. */
static void task_clear_stack(struct task *t)
{
    if (t->owns && lua_gettop(t->co))
        lua_resetthread(t->co);
    lua_settop(t->co, 0);
}

static void task_finish(struct task *t, enum task_end how, int n)
{
    task_leave_wait(t);
    task_end_children(t);
    task_detach(t);
    if (how == TASK_RETURNED) {
        task_tell_done(t, how, n);
        if (n || t->owns)
            task_clear_stack(t);
    } else {
        task_fail(t, how, n);
    }
    task_put_idle(t, how == TASK_RETURNED);
}

static void task_enqueue(struct task *t)
{
    struct tasks *ts = t->ts;
    t->state = READY;
    if (ts->random)
        t->turn = (uint32_t)(tasks_random(ts) >> 32);
    t->next_ready = NULL;
    *ts->ready_end = t;
    ts->ready_end = &t->next_ready;
    loop_soon(ts->loop, &ts->job);
}

/* What points to the one with the lowest turn. */
static struct task **tasks_draw(struct tasks *ts)
{
    struct task **lowest = &ts->ready;
    for (struct task **at = lowest; *at; at = &(*at)->next_ready)
        if ((*at)->turn < (*lowest)->turn)
            lowest = at;
    return lowest;
}

static struct task *tasks_take_ready(struct tasks *ts)
{
    struct task **at = ts->random ? tasks_draw(ts) : &ts->ready;
    struct task *t = *at;
    *at = t->next_ready;
    if (!*at)
        ts->ready_end = at;
    return t;
}

/* A task may turn the loop (os.exit): so the job is queued again before it runs. */
static void tasks_run(void *arg)
{
    struct tasks *ts = arg;
    for (int left = RUNS_PER_JOB; ts->ready && left > 0; left--) {
        struct task *t = tasks_take_ready(ts);
        if (ts->ready)
            loop_soon(ts->loop, &ts->job);
        task_run(t);
    }
}

static void task_run(struct task *t)
{
    int n = 0;
    if (t->cancelled) {
        task_finish(t, TASK_CANCELLED, 0);
        return;
    }
    int how = task_resume(t, &n);
    if (how >= 0)
        task_finish(t, (enum task_end)how, n);
    else if (t->state == RUNNING || t->cancelled) /* a bare yield: others have a turn */
        task_enqueue(t);
}

static void task_ready(struct task *t)
{
    task_stop_timer(t);
    task_enqueue(t);
}

static void task_time_out(void *arg)
{
    struct task *t = arg;
    t->timed_out = 1;
    t->parked = 0;
    task_ready(t);
}

/* It is kept for the next wait: where one has a deadline, others have. */
static void task_start_timer(struct task *t, double deadline)
{
    if (!t->timer) {
        t->timer = alloc(sizeof *t->timer);
        timer_init(t->timer, task_time_out, t);
    }
    timer_start(&t->ts->loop->clock, t->timer, deadline);
}

void task_wake(struct task *t)
{
    if (t->state == WAITING)
        task_ready(t);
}

void task_disown(struct task *t, void *arg)
{
    if (t->forget_arg == arg)
        t->forget = NULL;
}

void task_cancel(struct task *t)
{
    if (t->state == IDLE)
        return;
    t->cancelled = 1;
    if (t->state == WAITING)
        task_ready(t);
}

/* The one that has its function and its arguments. */
static struct task *task_begin(struct tasks *ts, const struct task_callbacks *callbacks,
                               void *arg)
{
    struct task *t = task_take_idle(ts);
    t->timed_out = t->cancelled = t->parked = t->permit = t->is_c = t->is_spec = 0;
    t->owns = t->begun = 0;
    t->callbacks = callbacks;
    t->callback_arg = arg;
    t->children = NULL;
    task_link(t, ts->current);
    return t;
}

/* May raise for want of memory: until then the list of the idle holds the task. */
static struct task *task_need_idle(struct tasks *ts, lua_State *L, int nargs)
{
    if (!ts->idle)
        ts->idle = task_new(ts);
    task_need_thread(L, ts->idle, nargs);
    return ts->idle;
}

void tasks_show(struct tasks *ts, _Atomic uint32_t *place)
{
    ts->shown = place;
}

void task_set_number(struct task *t, uint32_t number)
{
    t->number = number;
    if (t == t->ts->current)
        tasks_set_current(t->ts, t);
}

void task_cancel_root(struct task *t)
{
    while (t->parent)
        t = t->parent;
    task_cancel(t);
}

struct task *task_start(struct tasks *ts, lua_State *L, int nargs,
                        const struct task_callbacks *callbacks, void *arg)
{
    lua_xmove(L, task_need_idle(ts, L, nargs)->co, nargs + 1);
    struct task *t = task_begin(ts, callbacks, arg);
    task_enqueue(t);
    return t;
}

/* The value is below the function, out of sight of all that the task calls. */
struct task *task_start_owner(struct tasks *ts, lua_State *L, int nargs,
                              const struct task_callbacks *callbacks, void *arg)
{
    lua_State *co = task_need_idle(ts, L, nargs + 1)->co;
    lua_pushvalue(L, -nargs);
    lua_xmove(L, co, 1);
    lua_toclose(co, 1);
    struct task *t = task_start(ts, L, nargs, callbacks, arg);
    t->owns = 1;
    return t;
}

static int make_idle(lua_State *L)
{
    task_need_idle(lua_touserdata(L, 1), L, 1);
    return 0;
}

int task_run_c(struct tasks *ts, int ref, const struct task_callbacks *callbacks,
               void *arg)
{
    if (!(ts->idle && ts->idle->co) && tasks_protect(ts, make_idle, ts) < 0)
        return -1;
    lua_rawgeti(ts->idle->co, LUA_REGISTRYINDEX, ref);
    lua_pushlightuserdata(ts->idle->co, arg);
    struct task *t = task_begin(ts, callbacks, arg);
    t->is_c = 1;
    task_run(t);
    return 0;
}

int task_waits(const struct task *t)
{
    return t->state == WAITING;
}

int task_waits_with(const struct task *t, const void *arg)
{
    return t->state == WAITING && t->forget_arg == arg;
}

struct task *task_current(const struct tasks *ts)
{
    return ts->current;
}

struct loop *tasks_loop(const struct tasks *ts)
{
    return ts->loop;
}

/* -- waiting ------------------------------------------------------------------------- */

static int task_is_refused(struct tasks *ts, lua_State *L)
{
    return ts->probe && !ts->current->is_spec && ts->probe(L, ts->probe_arg);
}

int task_wait(struct tasks *ts, lua_State *L, double deadline, task_forget *forget,
              void *arg, lua_KContext ctx, lua_KFunction k)
{
    struct task *t = ts->current;
    if (!t || !lua_isyieldable(L)) {
        if (forget)
            forget(t, arg);
        return luaL_error(L, t ? "cannot wait here: a C function is in between"
                               : "cannot wait here: only a task can (moonpool.spawn)");
    }
    if (task_is_refused(ts, L)) {
        if (forget)
            forget(t, arg);
        return lua_error(L);
    }
    t->state = WAITING;
    t->timed_out = 0;
    t->forget = forget;
    t->forget_arg = arg;
    if (!isinf(deadline))
        task_start_timer(t, deadline);
    else if (t->timer)
        task_drop_timer(t);
    return task_pass_wait(ts, L, ctx, k);
}

static void forget_park(struct task *t, void *arg)
{
    (void)arg;
    if (t)
        t->parked = 0;
}

int task_park(struct tasks *ts, lua_State *L, double deadline, lua_KFunction k)
{
    struct task *t = ts->current;
    if (t && t->permit) {
        t->permit = 0;
        t->timed_out = 0;
        return k(L, LUA_OK, 0);
    }
    if (t)
        t->parked = 1;
    return task_wait(ts, L, deadline, forget_park, NULL, 0, k);
}

void task_unpark(struct task *t)
{
    if (!t->parked) {
        t->permit = 1;
        return;
    }
    t->parked = 0;
    task_wake(t);
}

/* -- queues -------------------------------------------------------------------------- */

/* What points to t; or its end, where t would. */
static struct task **task_queue_find(struct task_queue *q, const struct task *t)
{
    struct task **at = &q->first;
    while (*at && *at != t)
        at = &(*at)->next_queued;
    return at;
}

void task_queue_leave(struct task_queue *q, struct task *t)
{
    struct task **at = task_queue_find(q, t);
    if (*at)
        *at = t->next_queued;
}

void task_queue_wake(struct task_queue *q)
{
    if (q->first)
        task_wake(q->first);
}

void task_queue_clear(struct task_queue *q)
{
    for (struct task *t; (t = q->first);) {
        task_queue_leave(q, t);
        task_disown(t, q);
        task_wake(t);
    }
}

static void task_queue_join(struct task_queue *q, struct task *t)
{
    struct task **at = task_queue_find(q, t);
    if (*at)
        return;
    *at = t;
    t->next_queued = NULL;
}

/* It may have been woken already: then the turn is the next one's. */
static void forget_queue(struct task *t, void *arg)
{
    struct task_queue *q = arg;
    if (t)
        task_queue_leave(q, t);
    task_queue_wake(q);
}

int task_queue_wait(struct task_queue *q, struct tasks *ts, lua_State *L, double deadline,
                    lua_KContext ctx, lua_KFunction k)
{
    if (ts->current)
        task_queue_join(q, ts->current);
    return task_wait(ts, L, deadline, forget_queue, q, ctx, k);
}

/* -- what there is to know ----------------------------------------------------------- */

uint64_t task_serial(const struct task *t)
{
    return t->serial;
}

int task_is_alive(const struct task *t, uint64_t serial)
{
    return t->serial == serial;
}

int task_timed_out(const struct tasks *ts)
{
    return ts->current && ts->current->timed_out;
}

int task_is_wait(lua_State *co, int index)
{
    return lua_touserdata(co, index) == &wait_mark;
}

/* The wait began in a coroutine that could yield, but the one around it cannot. */
static int task_refuse_wait(struct tasks *ts, lua_State *L)
{
    if (ts->current) {
        task_leave_wait(ts->current);
        ts->current->state = RUNNING;
    }
    return luaL_error(L, "cannot wait here: a C function is in between");
}

int task_pass_wait(struct tasks *ts, lua_State *L, lua_KContext ctx, lua_KFunction k)
{
    if (!lua_isyieldable(L))
        return task_refuse_wait(ts, L);
    if (ts->current && L == ts->current->co)
        return lua_yieldk(L, 0, ctx, k); /* its state says that it is no yield */
    lua_pushlightuserdata(L, (void *)&wait_mark);
    return lua_yieldk(L, 1, ctx, k);
}

/* -- for specs ----------------------------------------------------------------------- */

/* xorshift64: all that is asked of it is that it differs, and is the same each time. */
static uint64_t tasks_random(struct tasks *ts)
{
    ts->random ^= ts->random << 13;
    ts->random ^= ts->random >> 7;
    ts->random ^= ts->random << 17;
    return ts->random;
}

void tasks_shuffle(struct tasks *ts, uint64_t seed)
{
    ts->random = seed * 0x9e3779b97f4a7c15; /* odd: 0 stays 0, and nothing else is */
}

void tasks_set_probe(struct tasks *ts, task_probe *probe, void *arg)
{
    ts->probe = probe;
    ts->probe_arg = arg;
}

void task_set_spec(struct task *t)
{
    t->is_spec = 1;
}

int task_is_spec(const struct task *t)
{
    return t->is_spec;
}

struct task *tasks_next(const struct tasks *ts, uint32_t *place)
{
    while (*place < ts->count) {
        struct task *t = tasks_at(ts, (*place)++);
        if (t->state != IDLE)
            return t;
    }
    return NULL;
}

lua_State *task_thread(const struct task *t)
{
    return t->co;
}

double task_deadline(const struct task *t)
{
    return t->timer ? t->timer->at : INFINITY;
}

/* -- all of them --------------------------------------------------------------------- */

struct tasks *tasks_new(lua_State *L, struct loop *loop)
{
    struct tasks *ts = alloc_zero(sizeof *ts);
    ts->L = L;
    ts->loop = loop;
    ts->shown = &ts->nowhere;
    ts->ready_end = &ts->ready;
    ts->job = (struct loop_job){.run = tasks_run, .arg = ts};
    return ts;
}

/* Cancelling may start tasks in <close> variables, so look again until all rest. */
static int tasks_cancel_all(struct tasks *ts)
{
    int busy = 0;
    for (uint32_t i = 0; i < ts->count; i++) {
        struct task *t = tasks_at(ts, i);
        busy |= t->state != IDLE && t != ts->current; /* os.exit(true) in a task */
        task_cancel(t);
    }
    return busy;
}

void tasks_end(struct tasks *ts)
{
    while (tasks_cancel_all(ts) || ts->job.queued)
        loop_turn(ts->loop);
}

void tasks_free(struct tasks *ts)
{
    tasks_end(ts);
    for (uint32_t i = 0; i < ts->count; i++) {
        luaL_unref(ts->L, LUA_REGISTRYINDEX, tasks_at(ts, i)->ref);
        task_drop_timer(tasks_at(ts, i));
    }
    for (uint32_t i = 0; i < ts->count; i += BLOCK)
        free(ts->blocks[i / BLOCK]);
    free(ts->blocks);
    free(ts);
}

lua_State *tasks_state(const struct tasks *ts)
{
    return ts->L;
}

void tasks_on_failure(struct tasks *ts, void (*fn)(void *arg), void *arg)
{
    ts->on_failure = fn;
    ts->failure_arg = arg;
}
