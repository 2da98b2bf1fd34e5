#include "lua_json_write.h"

#include "json_text.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH_MOST (1 << 26) /* bytes: a table may be in many places of a value */

struct writer {
    lua_State *L;
    struct buf *out;
    int array;
};

struct place { /* of a value in those around it */
    const struct place *in;
    const char *name;  /* or NULL: */
    lua_Integer index; /* of an array */
    int depth;
};

static void push_place(lua_State *L, const struct place *p)
{
    if (!p->in) {
        lua_pushliteral(L, "the value");
        return;
    }
    luaL_checkstack(L, 4, NULL);
    push_place(L, p->in);
    if (p->name)
        lua_pushfstring(L, ".%s", p->name);
    else
        lua_pushfstring(L, "[%I]", p->index);
    lua_concat(L, 2);
}

static void put_fail(struct writer *w, const struct place *p, const char *why)
{
    push_place(w->L, p);
    luaL_error(w->L, "%s has no JSON: %s", lua_tostring(w->L, -1), why);
}

static inline void put(struct writer *w, char c)
{
    *buf_reserve(w->out, 1) = c;
    buf_added(w->out, 1);
}

static void put_text(struct writer *w, const char *text)
{
    buf_append(w->out, text, strlen(text));
}

static void check_length(struct writer *w, const struct place *p, size_t more)
{
    if (buf_len(w->out) + more > LENGTH_MOST)
        put_fail(w, p, "too long");
}

static void put_escape(struct writer *w, unsigned char c)
{
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs */
    char text[8] = {'\\'};
    const char *name = names;
    while (*name && (unsigned char)*name != c)
        name += 2;
    if (*name)
        text[1] = name[1];
    else
        snprintf(text, sizeof text, "\\u%04x", c);
    put_text(w, text);
}

static void put_string(struct writer *w, const struct place *p, const char *s, size_t len)
{
    const char *end = s + len;
    check_length(w, p, len);
    put(w, '"');
    for (;;) {
        const char *stop = json_text_end(s, end);
        buf_append(w->out, s, (size_t)(stop - s));
        if (stop == end)
            break;
        if ((unsigned char)*stop >= 0x80)
            put_fail(w, p, "a string that is not UTF-8");
        put_escape(w, (unsigned char)*stop);
        s = stop + 1;
    }
    put(w, '"');
}

static void put_integer(struct writer *w, lua_Integer n)
{
    char text[sizeof "-9223372036854775808" - 1], *end = text + sizeof text, *p = end;
    lua_Unsigned left = n < 0 ? -(lua_Unsigned)n : (lua_Unsigned)n;
    do
        *--p = (char)('0' + left % 10);
    while (left /= 10);
    if (n < 0)
        *--p = '-';
    buf_append(w->out, p, (size_t)(end - p));
}

/* With 15 digits, or with 17 if it would not be read as the same number. */
static void put_float(struct writer *w, const struct place *p, double d)
{
    char text[40];
    if (!isfinite(d))
        put_fail(w, p, "a number that is infinite or none");
    snprintf(text, sizeof text, "%.15g", d);
    if (strtod(text, NULL) != d)
        snprintf(text, sizeof text, "%.17g", d);
    char *point = text + strspn(text, "-0123456789");
    if (*point && *point != 'e')
        *point = '.'; /* the locale may have another */
    put_text(w, text);
}

static void put_number(struct writer *w, const struct place *p)
{
    if (lua_isinteger(w->L, -1))
        put_integer(w, lua_tointeger(w->L, -1));
    else
        put_float(w, p, lua_tonumber(w->L, -1));
}

static void put_value(struct writer *w, const struct place *p);

static lua_Integer count_keys(lua_State *L)
{
    lua_Integer n = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        n++;
    return n;
}

/* Of n values that are not nil: a table that has as many keys has no others. */
static void put_array(struct writer *w, const struct place *p, lua_Integer n)
{
    if (count_keys(w->L) != n)
        put_fail(w, p, "an array with gaps, or with names");
    put(w, '[');
    for (lua_Integer i = 1; i <= n; i++) {
        struct place item = {.in = p, .index = i, .depth = p->depth + 1};
        if (i > 1)
            put(w, ',');
        lua_rawgeti(w->L, -1, i);
        put_value(w, &item);
        lua_pop(w->L, 1);
    }
    put(w, ']');
}

static void put_object(struct writer *w, const struct place *p)
{
    lua_State *L = w->L;
    int count = 0;
    put(w, '{');
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        size_t len;
        if (lua_type(L, -2) != LUA_TSTRING)
            put_fail(w, p, "an object whose names are not all strings");
        const char *name = lua_tolstring(L, -2, &len);
        struct place item = {.in = p, .name = name, .depth = p->depth + 1};
        if (count++)
            put(w, ',');
        put_string(w, &item, name, len);
        put(w, ':');
        put_value(w, &item);
    }
    put(w, '}');
}

int lua_json_is_array(lua_State *L, int index, int array)
{
    if (!lua_getmetatable(L, index))
        return 0;
    int is = lua_rawequal(L, -1, array);
    lua_pop(L, 1);
    return is;
}

static void put_table(struct writer *w, const struct place *p)
{
    lua_Integer n = (lua_Integer)lua_rawlen(w->L, -1);
    luaL_checkstack(w->L, 6, NULL);
    if (p->depth == JSON_DEPTH_MOST)
        put_fail(w, p, "too deep, or in itself");
    check_length(w, p, 0);
    if (n > 0 || lua_json_is_array(w->L, -1, w->array))
        put_array(w, p, n);
    else
        put_object(w, p);
}

/* The value on top of the stack. */
static void put_value(struct writer *w, const struct place *p)
{
    int type = lua_type(w->L, -1);
    size_t len;
    const char *s;
    switch (type) {
    case LUA_TSTRING:
        s = lua_tolstring(w->L, -1, &len);
        put_string(w, p, s, len);
        return;
    case LUA_TNUMBER:
        put_number(w, p);
        return;
    case LUA_TBOOLEAN:
        put_text(w, lua_toboolean(w->L, -1) ? "true" : "false");
        return;
    case LUA_TTABLE:
        put_table(w, p);
        return;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(w->L, -1)) {
            put_text(w, "null");
            return;
        }
    }
    put_fail(w, p, lua_typename(w->L, type));
}

void lua_json_write(lua_State *L, int array, struct buf *out)
{
    struct writer w = {L, out, array};
    put_value(&w, &(struct place){.in = NULL});
}
