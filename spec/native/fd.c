/*
 * native.fd: descriptors by number, for specs that have one from elsewhere.
 *
 *     fd.adopt(number) -> moonpool.fd that owns it
 *     fd.copy(number) -> moonpool.fd of the same
 *     fd.flags(number) -> whether it is close-on-exec, whether it is non-blocking
 */
#include "lua_fd.h"

#include <fcntl.h>
#include <lauxlib.h>

int luaopen_native_fd(lua_State *L);

static int native_adopt(lua_State *L)
{
    int number = (int)luaL_checkinteger(L, 1);
    *lua_fd_push(L) = number;
    return 1;
}

static int native_copy(lua_State *L)
{
    int number = (int)luaL_checkinteger(L, 1);
    *lua_fd_push(L) = fcntl(number, F_DUPFD_CLOEXEC, 0);
    return 1;
}

static int native_flags(lua_State *L)
{
    int number = (int)luaL_checkinteger(L, 1);
    lua_pushboolean(L, fcntl(number, F_GETFD) & FD_CLOEXEC);
    lua_pushboolean(L, fcntl(number, F_GETFL) & O_NONBLOCK);
    return 2;
}

int luaopen_native_fd(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"adopt", native_adopt},
        {"copy", native_copy},
        {"flags", native_flags},
        {NULL, NULL},
    };
    luaL_newlib(L, functions);
    return 1;
}
