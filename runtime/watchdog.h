/*
 * watchdog: Lua code that runs for too long without waiting is interrupted, however it
 * is written.
 *
 * Every call into Lua is between watchdog_enter and watchdog_leave; the outermost pair is
 * a run, and the limit is a run's. What is interrupted is left at once: pcall does not
 * see it (lua_coroutine.h), <close> variables are closed, and have a fifth of the limit
 * for all that they do. A C function is not interrupted, only the Lua code that it calls
 * or returns to; nor is a finalizer (__gc).
 *
 * Of a process there is one, because its signals are the process's: SIGRTMIN + 1, ten
 * times in the limit while anything runs. System calls go on after it (SA_RESTART), but
 * for those that never do (signal(7)).
 */
#ifndef MOONPOOL_WATCHDOG_H
#define MOONPOOL_WATCHDOG_H

#include <lua.h>
#include <stddef.h>

/* The limit in seconds from now on; 0: none, as at first. 0, or -1 and errno. */
int watchdog_set(double limit);

/*
 * Where it is noted, once, which line is stuck in a C function when the limit is over; and
 * which line it was that runs when the process dies of SIGSEGV or the like.
 */
void watchdog_note_stuck(char *text, size_t size);

/* L runs now; leave is to have what this returns: who ran before, NULL for nobody. */
lua_State *watchdog_enter(lua_State *L);
/* At the end of a run: why it was interrupted, and where, to be freed. Else NULL. */
char *watchdog_leave(lua_State *before);

/* Within a run, another coroutine runs from here on: which one did before. */
lua_State *watchdog_switch(lua_State *L);

int watchdog_has_interrupted(void); /* this run */
/* Whether that is why L, which was resumed or called, has come back with that status. */
int watchdog_has_ended(const lua_State *L, int status);
/* "return watchdog_go_on(L)": leaves the next function, or coroutine, likewise. */
int watchdog_go_on(lua_State *L);

#endif
