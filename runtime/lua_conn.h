/*
 * lua_conn: a conn as a Lua value, "moonpool.conn", that reads and writes like a Lua file
 * and waits like a task.
 *
 *     conn:read(...)       "l" "L" "a" or a number, as file:read; "l" also takes off a CR
 *     conn:readsome([n])   what there is, at least one byte, at most n
 *     conn:lines(...)      iterator, conn: for a loop over conn:read(...); ends quietly
 *     conn:write(...)      strings and numbers -> conn; waits while the client is slow
 *     conn:flush()         waits until the kernel has all of it -> conn
 *     conn:sendfile(file [, offset [, length]]) -> bytes sent
 *     conn:sendfd(what, data)   a descriptor along with data (unix sockets) -> conn
 *     conn:recvfd()        the next descriptor that comes -> moonpool.fd
 *     conn:unread()        takes what was read ahead -> string
 *     conn:settimeout(s)   for each later call that waits; nil: none
 *     conn:shutdown()      no more output; reading goes on
 *     conn:close()         sends what is left, then closes
 *     conn:checkpoint([state [, how]])  until the next read returns, whoever has state can
 *                          go on; how: "end", "again" or "on"
 *     conn:pin([on = true])     it is not to be moved to another worker
 *     conn:handoff(to [, state])  to a pool, by name, or a worker of this one, by number
 *     conn:moved()              why it was (handler.h), or nil
 *     conn:peer() conn:sock()   addresses as text
 *     conn:fileno()
 *
 * A connection can go on in another worker while a task waits in its first read after a
 * checkpoint: there the script's resume(conn, state, why) takes it up, and the tasks that
 * have it here are cancelled. state is plain (lua_pack.h) and kept as it is at the call.
 * In a pool that survives, if this process is killed later, the connection goes on from
 * its last checkpoint; what was read since is read "again", or whoever has it reads "on"
 * behind that; or, as without how, the connection has come to its "end" then.
 *
 * conn:handoff moves it at once, with what is unread and unsent: the script there goes on
 * in resume(conn, state, "handoff") or, without a state, begins anew. Here it is closed,
 * and the task goes on. It returns true once nothing can go wrong here any more; who is to
 * have it may wait for a free slot there, and a worker that has none or has gone leaves it
 * to the others of its pool. If that cannot resume, its log says so and it is closed.
 *
 * Several tasks may read and write: what one call reads or writes stays together, the
 * next waits for its turn. The world's failures are nil, message, code (lua_fail.h).
 */
#ifndef MOONPOOL_LUA_CONN_H
#define MOONPOOL_LUA_CONN_H

#include "lua_conn_call.h"

#include <lua.h>

void luaopen_moonpool_conn(lua_State *L); /* makes the metatable, pushes nothing */

/* Pushes a closed one; lua_conn_open then takes over fd. First memory, then descriptor.
 */
struct lua_conn *lua_conn_push(lua_State *L, struct lua_conn_env *env);
int lua_conn_open(struct lua_conn *box,
                  int fd); /* 0, or -1 and errno: fd is the caller's */

void lua_conn_adopt(struct lua_conn *box, struct conn *c); /* an open one */

struct conn *lua_conn_get(struct lua_conn *box); /* NULL: closed */

void lua_conn_close(struct lua_conn *box); /* once or again */

/* As conn:checkpoint, of bytes that what takes the script's connections understands. */
void lua_conn_checkpoint(struct lua_conn *box, const char *data, size_t len);

/* Takes the conn out of the box, which is closed from now on. Raises while a task waits,
 * as lua_conn_check_idle does.
 */
struct conn *lua_conn_take(lua_State *L, int index);
struct lua_conn *lua_conn_check_idle(lua_State *L, int index);

/* "return lua_conn_connected(...)": waits for a connecting socket -> conn at index. */
int lua_conn_connected(lua_State *L, int index, double timeout);

#endif
