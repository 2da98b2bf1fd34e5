/*
 * lua_task: tasks as Lua values, "moonpool.task".
 *
 *     task.spawn(fn, ...) -> task    child of the current task, unless task:detach()
 *     task.sleep(seconds)
 *     task.park([seconds]) -> true | nil, "timeout", "ETIMEDOUT"
 *     task.current() -> task or nil
 *     task.now() -> seconds of the one clock
 *     task:unpark()   task:cancel()   task:detach()   task:alive() -> boolean
 *
 * unpark before park is not lost: the next park returns at once.
 */
#ifndef MOONPOOL_LUA_TASK_H
#define MOONPOOL_LUA_TASK_H

#include "task.h"

void lua_task_push(lua_State *L, struct task *t);
int luaopen_moonpool_task(lua_State *L, struct tasks *ts); /* pushes the table */

#endif
