#include "lua_fail.h"

#include <errno.h>
#include <string.h>

static const char *fail_message(int error)
{
    switch (error) {
    case 0:
    case EPIPE:
    case ECONNRESET:
        return "closed";
    case ETIMEDOUT:
        return "timeout";
    case ECONNREFUSED:
        return "connection refused";
    default:
        return strerror(error);
    }
}

int lua_fail_text(lua_State *L, const char *message, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, code);
    return 3;
}

int lua_fail(lua_State *L, int error)
{
    return lua_fail_text(L, fail_message(error), error ? strerrorname_np(error) : "EOF");
}
