/*
 * lua_pace: when a state's garbage is collected.
 *
 * A cycle of Lua's collector marks all that is alive, whatever it finds; by default the
 * next begins when memory in use has doubled. Where little is alive that is soon, and
 * most of the work is to mark the same few objects again. So the collector waits here
 * until there is as much garbage as there is alive, but no less than LUA_PACE_GARBAGE; or
 * nine times what is alive, as Lua waits no longer.
 *
 * Measured with a heap of 500 KB: a third less user time for requests of 16 KiB, 5 % for
 * JSON, 2 % for hello. The generational mode does the same for them, but stops for a
 * quarter of a second at 30 MB; this mode for 10 ms, if it is for Lua to say.
 *
 * A step of Lua's looks at 51,200 objects, for which all clients wait a millisecond or
 * two; here at some 100, and there is one for each 320 bytes that are taken while a cycle
 * lasts: as much work in all, of which no request has to do much. Meanwhile the heap grows
 * by a tenth more.
 *
 * A script that sets a pace of its own (collectgarbage) keeps it.
 */
#ifndef MOONPOOL_LUA_PACE_H
#define MOONPOOL_LUA_PACE_H

#include "task.h"

enum { LUA_PACE_GARBAGE = 4 << 20 }; /* bytes */

struct lua_pace { /* zeroed; it must live as long as the state and the loop */
    struct tasks *tasks;
    struct loop_job job;
    size_t alive; /* bytes, after the last cycle */
    int pause;    /* as it was set last */
};

void lua_pace_set_step(lua_State *L); /* before the script, which may know better */
void lua_pace_start(struct lua_pace *p, struct tasks *ts);
void lua_pace_stop(struct lua_pace *p); /* before the tasks go */

#endif
