#include "lua_query.h"

#include "lua_fail.h"
#include "path.h"

#include <lauxlib.h>
#include <string.h>

#define FIELDS_MOST 1000 /* each costs some hundred bytes */

static const char *find(const char *s, const char *end, char c)
{
    const char *found = memchr(s, c, (size_t)(end - s));
    return found ? found : end;
}

/* Moves *at to the next field that is not empty, and *stop to its end; 0: no more. */
static int next_field(const char **at, const char **stop, const char *end)
{
    while (*at < end && **at == '&')
        ++*at;
    *stop = find(*at, end, '&');
    return *at < end;
}

static int count_fields(const char *at, const char *end)
{
    int n = 0;
    for (const char *stop; n <= FIELDS_MOST && next_field(&at, &stop, end); at = stop)
        n++;
    return n;
}

static int is_plain(const char *s, const char *end)
{
    while (s < end && *s != '%' && *s != '+')
        s++;
    return s == end;
}

static void push_decoded(lua_State *L, const char *s, const char *end)
{
    luaL_Buffer b;
    size_t n = 0;
    if (is_plain(s, end)) {
        lua_pushlstring(L, s, (size_t)(end - s));
        return;
    }
    char *out = luaL_buffinitsize(L, &b, (size_t)(end - s));
    for (; s < end; n++) {
        int is_plus = *s == '+';
        char c = (char)path_byte(&s, end);
        out[n] = is_plus ? ' ' : c;
    }
    luaL_pushresultsize(&b, n);
}

/* Pops a name and its first value. */
static void add_name(lua_State *L, int first, int all)
{
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -2);
    lua_rawset(L, first);
    lua_createtable(L, 1, 0);
    lua_insert(L, -2);
    lua_rawseti(L, -2, 1);
    lua_rawset(L, all);
}

/* Pops one more value and the list that it belongs to. */
static void add_value(lua_State *L)
{
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* Pops a name and a value, which go into the tables at first and behind it. */
static void add_field(lua_State *L, int first)
{
    int all = first + 1;
    lua_pushvalue(L, -2);
    if (lua_rawget(L, all) == LUA_TNIL) {
        lua_pop(L, 1);
        add_name(L, first, all);
    } else {
        add_value(L);
        lua_pop(L, 1);
    }
}

int lua_query_push(lua_State *L, const char *text, size_t len)
{
    const char *at = text, *end = text + len;
    int first = lua_gettop(L) + 1, count = count_fields(text, end);
    if (count > FIELDS_MOST)
        return lua_fail_text(L, "too many fields", "EINVAL");
    lua_createtable(L, 0, count);
    lua_createtable(L, 0, count);
    for (const char *stop; next_field(&at, &stop, end); at = stop) {
        const char *name_end = find(at, stop, '=');
        push_decoded(L, at, name_end);
        push_decoded(L, name_end < stop ? name_end + 1 : stop, stop);
        add_field(L, first);
    }
    return 2;
}

int lua_query_parse(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    return lua_query_push(L, text, len);
}
