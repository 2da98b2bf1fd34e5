/*
 * lua_fd: a descriptor of any kind as a Lua value, "moonpool.fd".
 *
 *     fd.pipe() -> reading end, writing end
 *     fd.open(directory, name) -> fd    for reading. Whatever name is, and whatever its
 *                                       symlinks say, it cannot leave the directory:
 *                                       openat2(2), RESOLVE_BENEATH; "EXDEV" if it tries
 *     fd:kind()   fd:identity()   fd:file(mode = "r")   fd:fileno()   fd:close()
 */
#ifndef MOONPOOL_LUA_FD_H
#define MOONPOOL_LUA_FD_H

#include <lua.h>
#include <sys/types.h>

int luaopen_moonpool_fd(lua_State *L); /* the table of functions */

/* Pushes an empty one and returns where to put the descriptor: first memory, then it. */
int *lua_fd_push(lua_State *L);

/* Where the open descriptor of a moonpool.fd is: it may be taken. Raises otherwise. */
int *lua_fd_check(lua_State *L, int index);

/*
 * The file to be sent at index, a path, a moonpool.fd or a Lua file, of which *fd is then
 * the descriptor and *size the length. A path is opened in its place, until the calling C
 * function returns. Returns 0, or the errno; raises for a value of another kind.
 */
int lua_fd_check_file(lua_State *L, int index, int *fd, off_t *size);

/* The descriptor of a moonpool.fd or an open Lua file, borrowed; -1 for anything else. */
int lua_fd_of(lua_State *L, int index);

#endif
