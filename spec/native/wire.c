/*
 * native.wire: runtime/wire.c for its spec.
 *
 *   parse(bytes)           type, number, total, text; nil if it is no message
 *   topic_bit(topic)
 *   write(settings, argv0) the arguments
 *   read(arguments)        the settings, or nil for those of another version
 */
#include "wire.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS = 64 };

/* parse(bytes) */
static int native_parse(lua_State *L)
{
    struct wire_header h;
    const char *text;
    size_t len, text_len;
    const char *data = luaL_checklstring(L, 1, &len);
    char *copy = malloc(len ? len : 1); /* of exactly its size, for the sanitizer */
    memcpy(copy, data, len);
    int bad = wire_parse(copy, len, &h, &text, &text_len) < 0;
    lua_settop(L, 0);
    if (bad)
        luaL_pushfail(L);
    else {
        lua_pushinteger(L, h.type);
        lua_pushinteger(L, h.number);
        lua_pushinteger(L, (lua_Integer)h.total);
        lua_pushlstring(L, text, text_len);
    }
    free(copy);
    return lua_gettop(L);
}

/* topic_bit(topic) */
static int native_topic_bit(lua_State *L)
{
    size_t len;
    const char *topic = luaL_checklstring(L, 1, &len);
    lua_pushinteger(L, (lua_Integer)wire_topic_bit(topic, len));
    return 1;
}

static const char *string_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return luaL_checkstring(L, -1); /* the table keeps it */
}

static lua_Integer integer_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return luaL_checkinteger(L, -1);
}

static double number_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return luaL_checknumber(L, -1);
}

/* write(settings, argv0) */
static int native_write(lua_State *L)
{
    const char *argv0 = luaL_checkstring(L, 2);
    struct wire_settings s = {
        .pool = (char *)string_field(L, "pool"),
        .pools = (char *)string_field(L, "pools"),
        .workers = (uint32_t)integer_field(L, "workers"),
        .app = (char *)string_field(L, "app"),
        .lua = (char *)string_field(L, "lua"),
        .number = (uint32_t)integer_field(L, "number"),
        .cell = (uint32_t)integer_field(L, "cell"),
        .generation = (uint64_t)integer_field(L, "generation"),
        .log_level = (uint32_t)integer_field(L, "log_level"),
        .read_limit = (uint32_t)integer_field(L, "read_limit"),
        .write_limit = (uint32_t)integer_field(L, "write_limit"),
        .memory_limit = (uint64_t)integer_field(L, "memory_limit"),
        .memory_soft_limit = (uint64_t)integer_field(L, "memory_soft_limit"),
        .state_limit = (uint32_t)integer_field(L, "state_limit"),
        .max_requests = (uint32_t)integer_field(L, "max_requests"),
        .idle_timeout = number_field(L, "idle_timeout"),
        .handler_timeout = number_field(L, "handler_timeout"),
        .drain = number_field(L, "drain"),
        .dev = (uint32_t)integer_field(L, "dev"),
        .survive = (uint32_t)integer_field(L, "survive"),
    };
    char **argv = wire_settings_write(&s, argv0);
    lua_newtable(L);
    for (int i = 0; argv[i]; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    wire_settings_free_args(argv);
    return 1;
}

static void set_settings(lua_State *L, const struct wire_settings *s)
{
    lua_newtable(L);
#define SET(push, name, type) \
    push(L, (type)s->name);   \
    lua_setfield(L, -2, #name)
    SET(lua_pushstring, pool, const char *);
    SET(lua_pushstring, pools, const char *);
    SET(lua_pushinteger, workers, lua_Integer);
    SET(lua_pushstring, app, const char *);
    SET(lua_pushstring, lua, const char *);
    SET(lua_pushinteger, number, lua_Integer);
    SET(lua_pushinteger, cell, lua_Integer);
    SET(lua_pushinteger, generation, lua_Integer);
    SET(lua_pushinteger, log_level, lua_Integer);
    SET(lua_pushinteger, read_limit, lua_Integer);
    SET(lua_pushinteger, write_limit, lua_Integer);
    SET(lua_pushinteger, memory_limit, lua_Integer);
    SET(lua_pushinteger, memory_soft_limit, lua_Integer);
    SET(lua_pushinteger, state_limit, lua_Integer);
    SET(lua_pushinteger, max_requests, lua_Integer);
    SET(lua_pushnumber, idle_timeout, lua_Number);
    SET(lua_pushnumber, handler_timeout, lua_Number);
    SET(lua_pushnumber, drain, lua_Number);
    SET(lua_pushinteger, dev, lua_Integer);
    SET(lua_pushinteger, survive, lua_Integer);
#undef SET
}

/* read(arguments) */
static int native_read(lua_State *L)
{
    char *argv[ARGUMENTS];
    int n = (int)luaL_len(L, 1);
    luaL_argcheck(L, n <= ARGUMENTS, 1, "too many");
    for (int i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        argv[i] = (char *)luaL_checkstring(L, -1); /* the table keeps it */
        lua_pop(L, 1);
    }
    struct wire_settings s;
    if (wire_settings_read(&s, n, argv) < 0) {
        luaL_pushfail(L);
        return 1;
    }
    set_settings(L, &s);
    wire_settings_clear(&s);
    return 1;
}

static const luaL_Reg functions[] = {
    {"parse", native_parse},
    {"topic_bit", native_topic_bit},
    {"write", native_write},
    {"read", native_read},
    {NULL, NULL},
};

int luaopen_native_wire(lua_State *L);
int luaopen_native_wire(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
