/*
 * lua_pace: when a state's garbage is collected.
 *
 * A cycle of Lua's collector marks all that is alive, whatever it finds; by default the
 * next begins when memory in use has doubled. Where little is alive that is soon, and
 * most of the work is to mark the same few objects again. So the collector waits here
 * until there is as much garbage as there is alive, but no less than LUA_PACE_GARBAGE; or
 * nine times what is alive, as Lua waits no longer.
 *
 * For requests of 16 KiB that is a fifth less user time than with an eighth of it. The
 * generational mode saves as much, but stops for a quarter of a second at 30 MB; this mode
 * for 10 ms, if it is for Lua to say.
 *
 * Small blocks (lua_memory.h) are better used again while a cache has them: of those no
 * more than LUA_PACE_SMALL become garbage, or as much as is alive. That takes as much user
 * time as it gives, but where neighbours are busy in the cache beyond: there, beside three
 * times as much, it is a third less for small files.
 *
 * A step of Lua's looks at 51,200 objects, for which all clients wait a millisecond or
 * two; here at some 100, and there is one for each LUA_PACE_STEP bytes that are taken
 * while a cycle lasts: as much work in all, of which no request has to do much. Meanwhile
 * the heap grows by a tenth more. And steps are made when the loop comes to rest, after
 * all that it had to say: only who takes more than LUA_PACE_AHEAD bytes before that makes
 * his own. Some are made at a time, as whoever comes next finds the caches cold. The 99th
 * percentile of hello at 10,000 requests a second is half of that with steps in between.
 *
 * A script that sets a pace of its own (collectgarbage) keeps it.
 */
#ifndef MOONPOOL_LUA_PACE_H
#define MOONPOOL_LUA_PACE_H

#include "task.h"

enum lua_pace_bytes {
    LUA_PACE_GARBAGE = 4 << 20,
    LUA_PACE_SMALL = 256 << 10,
    LUA_PACE_AHEAD = 6 << 10,
    LUA_PACE_STEP = 320,
};

struct lua_pace { /* zeroed; it must live as long as the state and the loop */
    struct tasks *tasks;
    lua_State *L;
    struct loop_job reset, rest;
    int pause;    /* as it was set last */
    int collects; /* a cycle has begun */
    /* in bytes */
    size_t alive, small_alive; /* after the last cycle */
    size_t due, small_due;     /* in use when the next is to begin; SIZE_MAX: never */
    size_t paid;               /* in use: for so much the steps have been made */
};

void lua_pace_set_step(lua_State *L); /* before the script, which may know better */
void lua_pace_start(struct lua_pace *p, struct tasks *ts);
void lua_pace_stop(struct lua_pace *p); /* before the tasks go */

#endif
