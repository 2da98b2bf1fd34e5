/*
 * native.address: runtime/address.c for its spec.
 *
 *   parse(text [, max])  a list of the addresses as text, or nil and why
 *   bytes(text)          the first of them as struct sockaddr, a string of its length
 *   format(bytes)        its text
 *   holder(text)         who has the first of them, a number
 */
#include "address.h"

#include <lauxlib.h>
#include <string.h>

/* parse(text [, max]) */
static int native_parse(lua_State *L)
{
    const char *text = luaL_checkstring(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, ADDRESS_MAX);
    luaL_argcheck(L, max >= 1 && max <= ADDRESS_MAX, 2, "out of range");
    struct address all[ADDRESS_MAX];
    char why[256], shown[ADDRESS_TEXT];
    int n = address_parse(text, all, (int)max, why, sizeof why);
    if (n < 0) {
        luaL_pushfail(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_createtable(L, n, 0);
    for (int i = 0; i < n; i++) {
        address_format(&all[i], shown);
        lua_pushstring(L, shown);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* bytes(text) */
static int native_bytes(lua_State *L)
{
    struct address a;
    char why[256];
    if (address_parse(luaL_checkstring(L, 1), &a, 1, why, sizeof why) < 0)
        return luaL_error(L, "%s", why);
    lua_pushlstring(L, (const char *)&a.sa, a.len);
    return 1;
}

/* format(bytes) */
static int native_format(lua_State *L)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct address a = {.len = (socklen_t)len};
    luaL_argcheck(L, len <= sizeof a.sa, 1, "too long");
    memcpy(&a.sa, bytes, len);
    char text[ADDRESS_TEXT];
    address_format(&a, text);
    lua_pushstring(L, text);
    return 1;
}

/* holder(text) */
static int native_holder(lua_State *L)
{
    struct address a;
    char why[256];
    if (address_parse(luaL_checkstring(L, 1), &a, 1, why, sizeof why) < 0)
        return luaL_error(L, "%s", why);
    lua_pushinteger(L, (lua_Integer)address_holder(&a));
    return 1;
}

static const luaL_Reg functions[] = {
    {"parse", native_parse},
    {"bytes", native_bytes},
    {"format", native_format},
    {"holder", native_holder},
    {NULL, NULL},
};

int luaopen_native_address(lua_State *L);
int luaopen_native_address(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
