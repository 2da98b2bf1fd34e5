/*
 * lua_fd: a descriptor of any kind as a Lua value, "moonpool.fd".
 *
 *     fd.pipe() -> reading end, writing end
 *     fd.open(directory, name) -> fd    for reading. Whatever name is, and whatever its
 *                                       symlinks say, it cannot leave the directory:
 *                                       openat2(2), RESOLVE_BENEATH; "EXDEV" if it tries
 *     fd.open_path(path) -> fd          for reading
 *     fd.read(file [, offset = 0 [, length]]) -> string    as conn:sendfile
 *     fd.append(path) -> fd             for appending; the file is made if there is none
 *     fd.stderr() -> fd                 a duplicate of standard error
 *     fd:kind()   fd:stat()   fd:identity()   fd:file(mode = "r")   fd:fileno()
 *     fd:close()
 *     fd.stamp(path)   fd:stamp() -> string   the same for as long as nothing is changed
 *     fd:write(text) -> count           one write(2) of what can be taken without
 * waiting; "EAGAIN" for nothing. A file takes everything, anything else 4096 bytes at
 * most
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
 * What is to be sent of a file: the arguments from index on are the file, a path, a
 * moonpool.fd or a Lua file, then [offset = 0 [, length = all the rest]]. A path is
 * opened in its place, until the calling C function returns; what follows it is taken off
 * the stack. Returns 0, or the errno; raises for values of another kind.
 */
struct lua_fd_part {
    off_t offset;
    size_t left;
};

int lua_fd_check_part(lua_State *L, int index, struct lua_fd_part *part);

/* The descriptor of a moonpool.fd or an open Lua file, borrowed; -1 for anything else. */
int lua_fd_of(lua_State *L, int index);

#endif
