/*
 * native.baton: runtime/baton.c for its spec.
 *
 *   new() -> baton with the methods
 *     put(name, text) number(name, n) seconds(name, s) fd(name, fd) begin(name) finish()
 *     store()                          a descriptor
 *     exec(program, argument ...)      does not return; nil and errno's name
 *   open(fd) -> baton, or nil; and inherit(), with the methods
 *     get(name) -> text or nil, number(name), seconds(name), fd(name)
 *     enter(name) -> boolean, leave()
 *   both: free()
 */
#include "baton.h"

#include "class.h"

#include <errno.h>
#include <lauxlib.h>
#include <string.h>

int luaopen_native_baton(lua_State *L);

static const char writer[] = "native.baton.writer", reader[] = "native.baton.reader";

static int push(lua_State *L, struct baton *b, const char *type)
{
    if (!b)
        return 0;
    struct baton **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = b;
    luaL_setmetatable(L, type);
    return 1;
}

static int native_new(lua_State *L)
{
    return push(L, baton_new(), writer);
}

static int native_open(lua_State *L)
{
    return push(L, baton_open((int)luaL_checkinteger(L, 1)), reader);
}

static int native_inherit(lua_State *L)
{
    return push(L, baton_inherit(), reader);
}

static int native_free(lua_State *L)
{
    struct baton **box = lua_touserdata(L, 1);
    baton_free(*box);
    *box = NULL;
    return 0;
}

static struct baton *check(lua_State *L, const char *type)
{
    return *(struct baton **)luaL_checkudata(L, 1, type);
}

/* -- writing ------------------------------------------------------------------------- */

static int writer_put(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 3, &len);
    baton_put(check(L, writer), luaL_checkstring(L, 2), data, len);
    return 0;
}

static int writer_number(lua_State *L)
{
    baton_put_number(check(L, writer), luaL_checkstring(L, 2),
                     (uint64_t)luaL_checkinteger(L, 3));
    return 0;
}

static int writer_seconds(lua_State *L)
{
    baton_put_seconds(check(L, writer), luaL_checkstring(L, 2), luaL_checknumber(L, 3));
    return 0;
}

static int writer_fd(lua_State *L)
{
    baton_put_fd(check(L, writer), luaL_checkstring(L, 2), (int)luaL_checkinteger(L, 3));
    return 0;
}

static int writer_begin(lua_State *L)
{
    baton_begin(check(L, writer), luaL_checkstring(L, 2));
    return 0;
}

static int writer_finish(lua_State *L)
{
    baton_end(check(L, writer));
    return 0;
}

static int writer_store(lua_State *L)
{
    lua_pushinteger(L, baton_store(check(L, writer)));
    return 1;
}

static int writer_exec(lua_State *L)
{
    int n = lua_gettop(L) - 1;
    const char **argv = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *argv, 0);
    for (int i = 0; i < n; i++)
        argv[i] = luaL_checkstring(L, i + 2);
    argv[n] = NULL;
    baton_exec(check(L, writer), argv[0], (char *const *)argv);
    luaL_pushfail(L);
    lua_pushstring(L, strerrorname_np(errno));
    return 2;
}

/* -- reading ------------------------------------------------------------------------- */

static int reader_get(lua_State *L)
{
    size_t len;
    const char *data = baton_get(check(L, reader), luaL_checkstring(L, 2), &len);
    lua_pushlstring(L, data ? data : "", len);
    if (!data)
        lua_pushnil(L);
    return 1;
}

static int reader_number(lua_State *L)
{
    uint64_t n = baton_number(check(L, reader), luaL_checkstring(L, 2));
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

static int reader_seconds(lua_State *L)
{
    lua_pushnumber(L, baton_seconds(check(L, reader), luaL_checkstring(L, 2)));
    return 1;
}

static int reader_fd(lua_State *L)
{
    lua_pushinteger(L, baton_fd(check(L, reader), luaL_checkstring(L, 2)));
    return 1;
}

static int reader_enter(lua_State *L)
{
    lua_pushboolean(L, baton_enter(check(L, reader), luaL_checkstring(L, 2)));
    return 1;
}

static int reader_leave(lua_State *L)
{
    baton_leave(check(L, reader));
    return 0;
}

int luaopen_native_baton(lua_State *L)
{
    static const luaL_Reg functions[] = {{"new", native_new},
                                         {"open", native_open},
                                         {"inherit", native_inherit},
                                         {NULL, NULL}};
    static const luaL_Reg writing[] = {
        {"put", writer_put},         {"number", writer_number},
        {"seconds", writer_seconds}, {"fd", writer_fd},
        {"begin", writer_begin},     {"finish", writer_finish},
        {"store", writer_store},     {"exec", writer_exec},
        {"free", native_free},       {NULL, NULL}};
    static const luaL_Reg reading[] = {
        {"get", reader_get},         {"number", reader_number},
        {"seconds", reader_seconds}, {"fd", reader_fd},
        {"enter", reader_enter},     {"leave", reader_leave},
        {"free", native_free},       {NULL, NULL}};
    class_new(L, writer, writing, native_free);
    class_new(L, reader, reading, native_free);
    luaL_newlib(L, functions);
    return 1;
}
