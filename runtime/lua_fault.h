/*
 * lua_fault: what goes wrong on demand, in a spec: system calls on sockets, and memory.
 *
 *     fault.io{ on =, first =, last =, step =, error =, most = }
 *         of the calls on sockets, counted from now on, those from first to last, or each
 *         step-th of them, fail with error ("EAGAIN"), or take and give so many bytes at
 *         most; on = "read" or "write": only those are counted
 *     fault.io() -> count           no more of that; how many calls there were
 *     fault.spare(fileno)           the calls on this one are the spec's own
 *     fault.buffer(fileno, bytes)   what the kernel holds of its output, SO_SNDBUF
 *     fault.memory(n)               the n-th allocation of Lua from now on fails; 0: none
 *     fault.memory() -> count       no more of that; how many there were
 *     fault.quiet(on)               the log is not written
 *
 * Counted is what the loop does for the handler: neither the spec, nor its tasks.
 *
 * It is linked into the module for stock Lua only, whose calls of recvmsg(2) and the like
 * are led here by the linker (--wrap): the program has none of it.
 */
#ifndef MOONPOOL_LUA_FAULT_H
#define MOONPOOL_LUA_FAULT_H

#include "core.h"

int luaopen_moonpool_fault(lua_State *L); /* after moonpool.core */

#endif
