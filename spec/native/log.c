/*
 * native.log: runtime/log.c for its spec. Everything goes to this process's standard
 * error, so the spec uses it in a process of its own.
 *
 *   name(text), threshold(level), write(level, text), fatal(code, text)
 *   parse(text)    the level's number, or nil
 *   deaf(fn)       fn() without a standard error
 *   errno(n)       sets errno, logs a line, and gives errno back
 */
#include "log.h"

#include <errno.h>
#include <lauxlib.h>
#include <unistd.h>

static enum log_level check_level(lua_State *L, int arg)
{
    enum log_level level;
    luaL_argcheck(L, log_level_parse(luaL_checkstring(L, arg), &level) == 0, arg,
                  "no such level");
    return level;
}

/* name(text) */
static int native_name(lua_State *L)
{
    log_name("%s", luaL_checkstring(L, 1));
    return 0;
}

/* threshold(level) */
static int native_threshold(lua_State *L)
{
    log_threshold(check_level(L, 1));
    return 0;
}

/* write(level, text) */
static int native_write(lua_State *L)
{
    log_write(check_level(L, 1), "%s", luaL_checkstring(L, 2));
    return 0;
}

/* fatal(code, text) */
static int native_fatal(lua_State *L)
{
    log_fatal((int)luaL_checkinteger(L, 1), "%s", luaL_checkstring(L, 2));
}

/* parse(text) */
static int native_parse(lua_State *L)
{
    enum log_level level;
    if (log_level_parse(luaL_checkstring(L, 1), &level) < 0)
        luaL_pushfail(L);
    else
        lua_pushinteger(L, level);
    return 1;
}

/* deaf(fn) */
static int native_deaf(lua_State *L)
{
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    lua_settop(L, 1);
    int failed = lua_pcall(L, 0, 1, 0) != LUA_OK;
    dup2(saved, STDERR_FILENO);
    close(saved);
    return failed ? lua_error(L) : 1;
}

/* errno(n) */
static int native_errno(lua_State *L)
{
    errno = (int)luaL_checkinteger(L, 1);
    log_write(LOG_ERROR, "a line");
    lua_pushinteger(L, errno);
    return 1;
}

static const luaL_Reg functions[] = {
    {"name", native_name},   {"threshold", native_threshold},
    {"write", native_write}, {"fatal", native_fatal},
    {"parse", native_parse}, {"deaf", native_deaf},
    {"errno", native_errno}, {NULL, NULL},
};

int luaopen_native_log(lua_State *L);
int luaopen_native_log(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
