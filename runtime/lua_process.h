/*
 * lua_process: programs that a spec starts, in the module for stock Lua only.
 *
 *     process.start(argv, env [, fd_limit [, listener]])
 *         -> pid, moonpool.fd of its standard output and error; listener, a number or a
 *         list of them, is passed on as systemd does (sd_listen_fds(3))
 *     process.raise_fd_limit(n)          for this process
 *     process.kill(pid, signal)          "TERM", "KILL" ... by name
 *     process.wait(pid [, nohang]) -> "exit" | "signal", number; nil while it runs
 *     process.pid()
 */
#ifndef MOONPOOL_LUA_PROCESS_H
#define MOONPOOL_LUA_PROCESS_H

#include <lua.h>

int luaopen_moonpool_process(lua_State *L);

/* The list of strings that is this argument, which keeps them, and NULL behind. */
char **lua_process_check_strings(lua_State *L, int arg);

#endif
