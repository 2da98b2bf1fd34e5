/*
 * lua_loop: turning the loop from Lua, where no server does: in a spec.
 *
 *     loop.turn() -> boolean          one turn without waiting: did anything happen?
 *     loop.wait(seconds)              one turn that waits (a real loop only)
 *     loop.next() -> seconds          until the next timer; math.huge for none
 *     loop.advance(seconds)           a virtual clock
 *     loop.virtual([on]) -> boolean   whose clock stands still but for advance
 *     loop.handler_timeout(seconds)   the watchdog's limit, by the system's clock; 0: none
 */
#ifndef MOONPOOL_LUA_LOOP_H
#define MOONPOOL_LUA_LOOP_H

#include "task.h"

int luaopen_moonpool_loop(lua_State *L, struct tasks *ts); /* pushes the table */

#endif
