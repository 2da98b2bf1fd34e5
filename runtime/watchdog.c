/*
 * A timer ticks while anything runs, ten times in the limit, and its signal compares the
 * run with that of the tick before. So a run costs the counting of it and no look at the
 * clock, and a process that sleeps is not woken. When a run has come to its limit, the
 * signal's handler sets a hook on the coroutine that runs, as lua.c does for SIGINT, and
 * the hook is called before the next instruction.
 *
 * The hook yields where it can. A yield goes past every pcall, and whoever has resumed
 * the coroutine closes it. Where it cannot, below a C function such as table.sort, it
 * raises Lua's own memory error, the one error for which no message handler is called
 * (reference manual, lua_pcall); pcall and xpcall raise it again.
 *
 * After that there is no hook, so that <close> variables are closed. If the run still
 * goes on after GRACE ticks, the next hook stays, and nothing runs any more. One hole is
 * left: a coroutine that died of an error raised in a hook calls no hook (Lua 5.4.4), so
 * what loops in a <close> variable inside a function that table.sort called is like a C
 * function that does not return.
 */
#include "watchdog.h"

#include "alloc.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum {
    TICKS = 10,
    GRACE = 2,
    CRASH_STACK = 65536, /* bytes */
};

#define LIMIT_MIN 0.01 /* seconds: the kernel's ticks are not much shorter */

static struct {
    double limit;
    timer_t timer; /* exists where there is a limit */
    lua_State *volatile running;
    volatile unsigned run, seen; /* its number; that of the last tick's */
    volatile sig_atomic_t idle;  /* the timer is to be started by the next run */
    volatile sig_atomic_t ticks; /* in which the run went on, or since the report */
    volatile sig_atomic_t armed; /* it is to be interrupted: for hooks of other runs */
    char *report;
    lua_State *left; /* by a yield */
    char *stuck;     /* borrowed: see watchdog_note_stuck */
    size_t stuck_size;
    struct sigaction before_crash[SIGSYS + 1];
} dog;

/* -- the hook ------------------------------------------------------------------------ */

static void write_report(lua_State *L)
{
    luaL_where(L, 0);
    lua_pushfstring(L, "%sruns for %f s without waiting: interrupted (handler_timeout)",
                    lua_tostring(L, -1), dog.limit);
    luaL_traceback(L, L, lua_tostring(L, -1), 0);
    dog.report = alloc_string(lua_tostring(L, -1));
    lua_pop(L, 3);
}

static void set_hook(lua_State *L);

static void on_hook(lua_State *L, lua_Debug *unused)
{
    (void)unused;
    if (!dog.armed || !dog.report)
        lua_sethook(L, NULL, 0, 0);
    if (!dog.armed)
        return;
    if (!dog.report) {
        write_report(L);
        dog.armed = 0;
        dog.ticks = 0;
    }
    watchdog_go_on(L);
}

static void set_hook(lua_State *L)
{
    lua_sethook(L, on_hook, LUA_MASKCOUNT, 1);
}

int watchdog_go_on(lua_State *L)
{
    if (dog.armed)
        set_hook(L);
    if (lua_isyieldable(L)) {
        dog.left = L;
        return lua_yield(L, 0);
    }
    lua_pushliteral(L, "not enough memory");
    return lua_error(L);
}

int watchdog_has_interrupted(void)
{
    return dog.report != NULL;
}

int watchdog_has_ended(const lua_State *L, int status)
{
    return dog.report && (status == LUA_ERRMEM || (status == LUA_YIELD && dog.left == L));
}

/* -- the timer ----------------------------------------------------------------------- */

static void tick_every(double seconds)
{
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    dog.idle = seconds == 0 && dog.limit > 0;
    timer_settime(dog.timer, 0, &(struct itimerspec){t, t}, NULL);
}

/*
 * A whole tick after the hook was set no instruction has been executed: so the stack, in
 * which this looks in the middle of whatever C does, is not being changed.
 */
static void note_stuck(lua_State *L)
{
    lua_Debug at;
    int level = 0;
    for (at.currentline = -1; at.currentline < 0 && lua_getstack(L, level, &at); level++)
        lua_getinfo(L, "Sl", &at);
    if (dog.stuck && at.currentline > 0)
        snprintf(dog.stuck, dog.stuck_size, "%s:%d", at.short_src, at.currentline);
}

static void on_tick(int unused)
{
    int saved = errno;
    (void)unused;
    if (dog.run != dog.seen) {
        dog.seen = dog.run;
        dog.ticks = 0;
    } else if (!dog.running) {
        tick_every(0);
    } else if (++dog.ticks >= (dog.report ? GRACE : TICKS)) {
        if (dog.armed && !dog.report)
            note_stuck(dog.running);
        dog.armed = 1;
        set_hook(dog.running);
    }
    errno = saved;
}

/* To this thread, in which Lua runs. */
static int make_timer(void)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = SIGRTMIN + 1};
    event.sigev_notify_thread_id = gettid();
    sigemptyset(&action.sa_mask);
    sigaction(event.sigev_signo, &action, NULL);
    return timer_create(CLOCK_MONOTONIC, &event, &dog.timer);
}

/*
 * Lua may be in the middle of anything, so this may fail likewise: then the process dies
 * of that. Whoever had the signal before, as a sanitizer, has it after.
 */
static void on_crash(int number)
{
    sigaction(number, &dog.before_crash[number], NULL);
    if (dog.running)
        note_stuck(dog.running);
    raise(number);
}

/* On a stack of its own, for there may be no other left. */
static void note_crashes(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    static char stack[CRASH_STACK];
    struct sigaction action = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, &dog.before_crash[signals[i]]);
}

void watchdog_note_stuck(char *text, size_t size)
{
    dog.stuck = text;
    dog.stuck_size = size;
    note_crashes();
}

int watchdog_set(double limit)
{
    if (dog.limit > 0)
        timer_delete(dog.timer);
    dog.limit = 0;
    dog.idle = 0;
    if (limit > 0 && make_timer() < 0)
        return -1;
    dog.limit = limit > 0 && limit < LIMIT_MIN ? LIMIT_MIN : limit;
    dog.idle = limit > 0;
    return 0;
}

/* -- runs ---------------------------------------------------------------------------- */

lua_State *watchdog_enter(lua_State *L)
{
    lua_State *before = dog.running;
    if (!before) {
        dog.run++;
        if (dog.idle)
            tick_every(dog.limit / TICKS);
    }
    dog.running = L;
    return before;
}

lua_State *watchdog_switch(lua_State *L)
{
    lua_State *before = dog.running;
    if (before)
        dog.running = L;
    return before;
}

static char *take_report(void)
{
    char *report = dog.report;
    dog.report = NULL;
    dog.left = NULL;
    dog.armed = 0;
    return report;
}

char *watchdog_leave(lua_State *before)
{
    dog.running = before;
    return before || !(dog.armed || dog.report) ? NULL : take_report();
}
