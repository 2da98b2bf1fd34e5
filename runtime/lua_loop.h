/*
 * lua_loop: turning the loop from Lua, where no server does: in a spec.
 *
 *     loop.turn() -> boolean          one turn without waiting: did anything happen?
 *     loop.wait(seconds)              one turn that waits (a real loop only)
 *     loop.next() -> seconds          until the next timer; math.huge for none
 *     loop.advance(seconds)           a virtual clock
 *     loop.jump(seconds)              likewise, at once: all that is due fires then
 *     loop.virtual([on]) -> boolean   whose clock stands still but for advance
 *     loop.handler_timeout(seconds)   the watchdog's limit, by the system's clock; 0: none
 *
 * and, of the tasks:
 *
 *     loop.tasks() -> { { id, task, thread, is_spec, left = seconds or nil } ... }
 *     loop.spawn(fn, ...) -> task     of the spec itself, which faults are not meant for
 *     loop.shuffle(seed)              the order of those that are ready; 0: as they come
 *     loop.probe([fn])                fn() is called before each wait of a task that is
 *                                     not the spec's; what it raises, the wait does
 */
#ifndef MOONPOOL_LUA_LOOP_H
#define MOONPOOL_LUA_LOOP_H

#include "task.h"

int luaopen_moonpool_loop(lua_State *L, struct tasks *ts); /* pushes the table */

#endif
