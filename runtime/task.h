/*
 * task: Lua coroutines that wait for the loop.
 *
 * A task is one coroutine with whatever it waits for: it runs as a job of the loop, and a
 * C function that has to wait suspends it with task_wait. Tasks form a tree: a task that
 * another has started ends with it, unless it is detached. Threads are pooled.
 *
 * Every call from C into Lua goes through tasks_protect or the one resume in task.c, so
 * no Lua error ever passes through the loop.
 */
#ifndef MOONPOOL_TASK_H
#define MOONPOOL_TASK_H

#include "loop.h"

#include <lua.h>
#include <stdint.h>

struct task;
struct tasks;

/* Interrupted: it has failed too, for it ran too long without waiting (watchdog.h). */
enum task_end { TASK_RETURNED, TASK_CANCELLED, TASK_FAILED, TASK_INTERRUPTED };

struct task_callbacks {
    /*
     * NULL, or called once, before the task first runs; what it owns (task_start_owner)
     * is at index 1 of co. It must not raise.
     */
    void (*begins)(lua_State *co, void *arg);
    /*
     * Called once, protected, when the task is over: n values are on the top of L, its
     * results, or if it failed one string: the message with its traceback. It may raise.
     */
    void (*done)(lua_State *L, enum task_end how, int n, void *arg);
};

struct tasks *tasks_new(lua_State *L, struct loop *loop); /* L: the main thread */
void tasks_end(struct tasks *ts);  /* cancels all, turning the loop */
void tasks_free(struct tasks *ts); /* before L is closed */
struct loop *tasks_loop(const struct tasks *ts);
lua_State *tasks_state(const struct tasks *ts);
/* Called for each that has failed, and that nobody is told of (no callbacks). */
void tasks_on_failure(struct tasks *ts, void (*fn)(void *arg), void *arg);

/* Calls f with arg as its one argument. 0, or -1 and the error is in the log. */
int tasks_protect(struct tasks *ts, lua_CFunction f, void *arg);

/*
 * Makes a task of the function and its nargs arguments on the top of L, which are popped;
 * it begins with the loop's next jobs. Raises for want of memory. callbacks may be NULL:
 * then a failure goes to the log.
 */
struct task *task_start(struct tasks *ts, lua_State *L, int nargs,
                        const struct task_callbacks *callbacks, void *arg);
/* Likewise; the task owns the first argument: it is closed, as by <close>, at its end. */
struct task *task_start_owner(struct tasks *ts, lua_State *L, int nargs,
                              const struct task_callbacks *callbacks, void *arg);
/*
 * Makes a task of the C function that is kept in the registry under ref, with arg as its
 * argument, and runs it at once: for callbacks of the loop, not for what a task calls.
 * done is called without values, and not protected unless the task has failed: it must
 * not raise. 0; or -1 for want of memory, and the log says so.
 */
int task_run_c(struct tasks *ts, int ref, const struct task_callbacks *callbacks,
               void *arg);
void task_detach(struct task *t); /* it outlives the one that has started it */
void task_cancel(struct task *t); /* its <close> variables are closed, soon */
void task_cancel_root(
    struct task *t); /* the one that has started it, or that one's ... */

int task_waits(const struct task *t); /* nothing has ended its wait yet */
int task_waits_with(const struct task *t, const void *arg); /* that of task_wait */

/*
 * For who looks at this process from outside: while t, or a task that it has started since,
 * runs, the number is at *place; else 0 is.
 */
void tasks_show(struct tasks *ts, _Atomic uint32_t *place);
void task_set_number(struct task *t, uint32_t number);

struct task *task_current(const struct tasks *ts); /* NULL outside of tasks */

/*
 * Suspends the current task until task_wake, or until the clock reads deadline (INFINITY:
 * never), when task_timed_out is true in k. Use it as "return task_wait(...)" in a C
 * function called from Lua; k goes on, and undoes what was arranged if it has timed out.
 * forget is called in place of k when k will never be: the task was cancelled, or nothing
 * can wait here, outside of a task (t is NULL) or below a C function that cannot yield;
 * then an error is raised.
 */
typedef void task_forget(struct task *t, void *arg);

int task_wait(struct tasks *ts, lua_State *L, double deadline, task_forget *forget,
              void *arg, lua_KContext ctx, lua_KFunction k);
double task_deadline(const struct task *t); /* of its last wait; INFINITY: none */
void task_wake(struct task *t);
void task_disown(struct task *t, void *arg); /* arg is gone: it is not to be forgotten */
int task_timed_out(const struct tasks *ts);

/*
 * Waiting for another task: unpark ends the park of t, or, if t is not parked, lets its
 * next one return at once. park as task_wait.
 */
int task_park(struct tasks *ts, lua_State *L, double deadline, lua_KFunction k);
void task_unpark(struct task *t);

/*
 * A queue of tasks, first come, first served. A task stays in it while it waits, also
 * when it has been woken, until it leaves; waiting again keeps its place. One that is
 * cancelled leaves by itself and the next is woken in its place. Zeroed memory is an
 * empty queue.
 */
struct task_queue {
    struct task *first;
};

int task_queue_wait(struct task_queue *q, struct tasks *ts, lua_State *L, double deadline,
                    lua_KContext ctx, lua_KFunction k);
void task_queue_wake(struct task_queue *q); /* the first, if there is one */
void task_queue_leave(struct task_queue *q, struct task *t); /* in it or not */
void task_queue_clear(struct task_queue *q); /* it is going away: all are woken */

/*
 * A task's memory lives as long as tasks, but serves many tasks one after the other:
 * whoever keeps a pointer keeps the serial too and asks whether it is still that task.
 */
uint64_t task_serial(const struct task *t);
int task_is_alive(const struct task *t, uint64_t serial);

/* Whether the value at that index of co marks a task's wait, not a yield of the user's.
 */
int task_is_wait(lua_State *co, int index);
/* Hands such a wait on from a coroutine inside the task to the one that resumed it. */
int task_pass_wait(struct tasks *ts, lua_State *L, lua_KContext ctx, lua_KFunction k);

/* -- for specs (lua_loop.h) -- */

/*
 * In which order ready tasks run follows from the seed; 0: first come, first served. To
 * be called while none is ready.
 */
void tasks_shuffle(struct tasks *ts, uint64_t seed);

/*
 * Called when a task is about to wait, but for those of the spec itself. If it returns
 * 1, the wait raises what it has left at the top of L. NULL: nothing is called.
 */
typedef int task_probe(lua_State *L, void *arg);
void tasks_set_probe(struct tasks *ts, task_probe *probe, void *arg);

void task_set_spec(struct task *t); /* it is the spec's, and no part of what is tested */
int task_is_spec(const struct task *t);

/* The next of those that have not ended, or NULL; *place is 0 at first. */
struct task *tasks_next(const struct tasks *ts, uint32_t *place);
lua_State *task_thread(const struct task *t);

#endif
