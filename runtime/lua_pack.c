/*
 * A value is a tag and what it needs: numbers their eight bytes, strings their length
 * before them, in one byte or eight, tables their keys and values in turn, up to a '}'.
 *
 * The way down to a bad value is only known on the way back up, so that is where the path
 * to it is made: each table puts its key in front.
 */
#include "lua_pack.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

enum tag {
    NIL = 'n',
    FALSE = 'f',
    TRUE = 't',
    INTEGER = 'i',
    FLOAT = 'd',
    SHORT = 's', /* a string of up to 255 bytes */
    LONG = 'l',
    TABLE = '{',
    END = '}',
};

enum { SHOWN = 32 }; /* characters of a key, in a path */

/* Slots for so many tables in each other, two for each, and for what may be wrong. */
enum { SOME = 4, STACK = 2 * SOME + 6 };

/* -- writing ------------------------------------------------------------------------- */

struct packing {
    lua_State *L;
    struct buf *out;
    size_t limit; /* bytes that the value may take, */
    size_t begin; /* from here on */
    char *at;     /* what is put goes there, */
    size_t room;  /* and there is room for so much */
};

/* A table, and those around it. */
struct level {
    const struct level *up; /* NULL: the outermost */
    const void *table;
    int depth;
};

/* What is wrong is at the top; leaves the path, still empty, below it. */
static int refuse(lua_State *L)
{
    lua_pushliteral(L, "");
    lua_insert(L, -2);
    return -1;
}

static int refuse_with(lua_State *L, const char *why)
{
    lua_pushstring(L, why);
    return refuse(L);
}

static void put_end(struct packing *p)
{
    p->out->end = (uint32_t)(p->at - p->out->data);
}

/* Where out has room for n bytes, which there is not now; or NULL. */
static char *put_more(struct packing *p, size_t n)
{
    put_end(p);
    size_t left = p->limit - (buf_len(p->out) - p->begin);
    if (n > left) {
        lua_pushfstring(p->L, "makes it more than %I bytes", (LUAI_UACINT)p->limit);
        refuse(p->L);
        return NULL;
    }
    p->at = buf_reserve(p->out, n);
    p->room = buf_room(p->out) < left ? buf_room(p->out) : left;
    return p->at;
}

/* The tag, and where the n bytes behind it are to be put; or NULL. */
static inline char *put(struct packing *p, enum tag tag, size_t n)
{
    if (n >= p->room && !put_more(p, n + 1))
        return NULL;
    char *at = p->at;
    p->at += n + 1;
    p->room -= n + 1;
    *at = (char)tag;
    return at + 1;
}

static int put_tag(struct packing *p, enum tag tag)
{
    return put(p, tag, 0) ? 0 : -1;
}

static int put_with(struct packing *p, enum tag tag, const void *data, size_t n)
{
    char *at = put(p, tag, n);
    if (!at)
        return -1;
    memcpy(at, data, n);
    return 0;
}

static int put_number(struct packing *p, int index)
{
    lua_Integer i = lua_tointeger(p->L, index);
    lua_Number n = lua_tonumber(p->L, index);
    return lua_isinteger(p->L, index) ? put_with(p, INTEGER, &i, sizeof i)
                                      : put_with(p, FLOAT, &n, sizeof n);
}

static int put_string(struct packing *p, int index)
{
    size_t len;
    const char *s = lua_tolstring(p->L, index, &len);
    char *at;
    if (len <= UINT8_MAX) {
        at = put(p, SHORT, 1 + len);
        if (at)
            *at++ = (char)len;
    } else {
        at = put(p, LONG, sizeof len + len);
        if (at)
            at = mempcpy(at, &len, sizeof len);
    }
    if (!at)
        return -1;
    memcpy(at, s, len);
    return 0;
}

static int is_identifier(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return 0;
    return len > 0 && !isdigit((unsigned char)s[0]);
}

/* Pushes how the key at index is written behind the name of its table. */
static void push_step(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TSTRING) {
        lua_pushfstring(L, "[%s]", luaL_tolstring(L, index, NULL));
        lua_remove(L, -2);
        return;
    }
    size_t len;
    const char *s = lua_tolstring(L, index, &len);
    if (len <= SHOWN && is_identifier(s, len))
        lua_pushfstring(L, ".%s", s);
    else {
        lua_pushlstring(L, s, len < SHOWN ? len : SHOWN);
        lua_pushfstring(L, "[\"%s%s\"]", lua_tostring(L, -1), len > SHOWN ? "..." : "");
        lua_remove(L, -2);
    }
}

/* Puts the key at index in front of the path that a refusal has left. */
static int refuse_below(lua_State *L, int index)
{
    push_step(L, index);
    lua_insert(L, -3);
    lua_insert(L, -3);
    lua_concat(L, 2);
    lua_insert(L, -2);
    return -1;
}

static int put_value(struct packing *p, int index, int type, const struct level *up);

static int put_key(struct packing *p, int key)
{
    int type = lua_type(p->L, key);
    if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN) {
        lua_pushfstring(p->L, "has a %s for a key", lua_typename(p->L, type));
        return refuse(p->L);
    }
    return put_value(p, key, type, NULL);
}

/* Of a table, as lua_next has left them: the key and, at the top, its value. */
static int put_entry(struct packing *p, int key, const struct level *level)
{
    if (put_key(p, key) < 0)
        return -1;
    if (put_value(p, key + 1, lua_type(p->L, key + 1), level) < 0)
        return refuse_below(p->L, key);
    return 0;
}

static int is_inside_itself(const struct level *level)
{
    for (const struct level *l = level->up; l; l = l->up)
        if (l->table == level->table)
            return 1;
    return 0;
}

/* At the top. */
static int put_table(struct packing *p, int index, const struct level *up)
{
    lua_State *L = p->L;
    struct level level = {up, lua_topointer(L, index), up ? up->depth + 1 : 1};
    if (is_inside_itself(&level))
        return refuse_with(L, "is a table inside itself");
    if (level.depth > LUA_PACK_DEPTH)
        return refuse_with(L, "is nested too deep");
    if (lua_getmetatable(L, index))
        return lua_pop(L, 1), refuse_with(L, "is a table with a metatable");
    if (level.depth % SOME == 0)
        luaL_checkstack(L, STACK, "state");
    if (put_tag(p, TABLE) < 0)
        return -1;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        if (put_entry(p, index + 1, &level) < 0)
            return -1;
    return put_tag(p, END);
}

/* up: the table that it is in. */
static int put_value(struct packing *p, int index, int type, const struct level *up)
{
    switch (type) {
    case LUA_TNIL:
        return put_tag(p, NIL);
    case LUA_TBOOLEAN:
        return put_tag(p, lua_toboolean(p->L, index) ? TRUE : FALSE);
    case LUA_TNUMBER:
        return put_number(p, index);
    case LUA_TSTRING:
        return put_string(p, index);
    case LUA_TTABLE:
        return put_table(p, index, up);
    default:
        lua_pushfstring(p->L, "is a %s", lua_typename(p->L, type));
        return refuse(p->L);
    }
}

int lua_pack(lua_State *L, int index, const char *name, struct buf *out, size_t limit)
{
    int top = lua_gettop(L);
    struct packing p = {L, out, limit, buf_len(out), out->data + out->end, 0};
    luaL_checkstack(L, STACK, "state");
    lua_pushvalue(L, index);
    int done = put_value(&p, top + 1, lua_type(L, top + 1), NULL);
    put_end(&p);
    if (done < 0) {
        lua_pushfstring(L, "%s%s %s", name, lua_tostring(L, -2), lua_tostring(L, -1));
        lua_replace(L, top + 1);
        lua_settop(L, top + 1);
    } else {
        lua_settop(L, top);
    }
    return done;
}

/* -- reading ------------------------------------------------------------------------- */

struct unpacking {
    lua_State *L;
    const char *at, *end;
    int depth;
};

static int take(struct unpacking *u, void *data, size_t n)
{
    if ((size_t)(u->end - u->at) < n)
        return -1;
    memcpy(data, u->at, n);
    u->at += n;
    return 0;
}

static int take_integer(struct unpacking *u)
{
    lua_Integer i;
    if (take(u, &i, sizeof i) < 0)
        return -1;
    lua_pushinteger(u->L, i);
    return 0;
}

static int take_float(struct unpacking *u)
{
    lua_Number n;
    if (take(u, &n, sizeof n) < 0)
        return -1;
    lua_pushnumber(u->L, n);
    return 0;
}

static int take_bytes(struct unpacking *u, uint64_t n)
{
    if ((size_t)(u->end - u->at) < n)
        return -1;
    lua_pushlstring(u->L, u->at, n);
    u->at += n;
    return 0;
}

static int take_short(struct unpacking *u)
{
    uint8_t n;
    return take(u, &n, sizeof n) < 0 ? -1 : take_bytes(u, n);
}

static int take_long(struct unpacking *u)
{
    uint64_t n;
    return take(u, &n, sizeof n) < 0 ? -1 : take_bytes(u, n);
}

static int take_value(struct unpacking *u);

/* What cannot be a key is refused: a table, nil, NaN. */
static int is_key(lua_State *L)
{
    lua_Number n = lua_tonumber(L, -1);
    return lua_type(L, -1) == LUA_TNUMBER ? n == n
                                          : lua_isstring(L, -1) || lua_isboolean(L, -1);
}

static int take_table(struct unpacking *u)
{
    lua_State *L = u->L;
    if (++u->depth > LUA_PACK_DEPTH)
        return -1;
    luaL_checkstack(L, 4, "state");
    lua_newtable(L);
    while (u->at < u->end && *u->at != END) {
        if (take_value(u) < 0 || !is_key(L) || take_value(u) < 0)
            return -1;
        lua_rawset(L, -3);
    }
    u->depth--;
    u->at++;
    return u->at <= u->end ? 0 : -1;
}

static int take_value(struct unpacking *u)
{
    char tag;
    if (take(u, &tag, 1) < 0)
        return -1;
    switch ((enum tag)tag) {
    case NIL:
        lua_pushnil(u->L);
        return 0;
    case FALSE:
    case TRUE:
        lua_pushboolean(u->L, tag == TRUE);
        return 0;
    case INTEGER:
        return take_integer(u);
    case FLOAT:
        return take_float(u);
    case SHORT:
        return take_short(u);
    case LONG:
        return take_long(u);
    case TABLE:
        return take_table(u);
    default:
        return -1;
    }
}

int lua_unpack(lua_State *L, const char *data, size_t len)
{
    int top = lua_gettop(L);
    struct unpacking u = {L, data, data + len, 0};
    luaL_checkstack(L, 2, "state");
    if (take_value(&u) == 0 && u.at == u.end)
        return 0;
    lua_settop(L, top);
    return -1;
}
