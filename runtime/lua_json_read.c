#include "lua_json_read.h"

#include "json_text.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

#define NUMBER_MOST 128 /* characters */
#define USUAL 4 /* values in an array or object, for which there is room at once */
#define INTEGER_SURE 18 /* characters of which any integer fits into 64 bits */

struct reader {
    lua_State *L;
    int array;
    const char *at, *end;
    const char *why;
};

static int read_fail(struct reader *r, const char *why)
{
    r->why = why;
    return -1;
}

static void skip_blanks(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\n' || *r->at == '\r' || *r->at == '\t')
        r->at++;
}

/* Takes c if it comes next, after blanks. */
static int take(struct reader *r, char c)
{
    skip_blanks(r);
    if (*r->at != c)
        return 0;
    r->at++;
    return 1;
}

static int read_hex(struct reader *r, unsigned *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        char c = *r->at;
        int is_digit = c >= '0' && c <= '9',
            is_letter = (c | 32) >= 'a' && (c | 32) <= 'f';
        if (!is_digit && !is_letter)
            return read_fail(r, "four hex digits expected");
        *code = *code << 4 | (unsigned)(is_digit ? c - '0' : (c | 32) - 'a' + 10);
    }
    return 0;
}

/* RFC 8259 7: what is beyond 16 bits is two escapes, and each of the two needs the other.
 */
static int read_unicode(struct reader *r, unsigned *code)
{
    unsigned low;
    if (read_hex(r, code) < 0)
        return -1;
    if (*code < 0xd800 || *code > 0xdfff)
        return 0;
    if (*code > 0xdbff || r->at[0] != '\\' || r->at[1] != 'u')
        return read_fail(r, "half of a surrogate pair");
    r->at += 2;
    if (read_hex(r, &low) < 0)
        return -1;
    if (low < 0xdc00 || low > 0xdfff)
        return read_fail(r, "half of a surrogate pair");
    *code = 0x10000 + ((*code - 0xd800) << 10) + (low - 0xdc00);
    return 0;
}

static void add_utf8(luaL_Buffer *b, unsigned code)
{
    int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned first[] = {0, 0xc0, 0xe0, 0xf0};
    luaL_addchar(b, (char)(first[more] | code >> 6 * more));
    while (more-- > 0)
        luaL_addchar(b, (char)(0x80 | (code >> 6 * more & 0x3f)));
}

static int read_escape(struct reader *r, luaL_Buffer *b)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    unsigned code;
    const char *name = *r->at ? strchr(names, *r->at) : NULL;
    if (name) {
        luaL_addchar(b, bytes[name - names]);
        r->at++;
        return 0;
    }
    if (*r->at != 'u')
        return read_fail(r, "no such escape");
    r->at++;
    if (read_unicode(r, &code) < 0)
        return -1;
    add_utf8(b, code);
    return 0;
}

static int string_fail(struct reader *r)
{
    return read_fail(r, r->at == r->end                 ? "a string without its end"
                        : (unsigned char)*r->at >= 0x80 ? "not UTF-8"
                                                        : "a control character");
}

/* One with escapes, of which begin is the first byte and r->at the first escape. */
static int read_escaped(struct reader *r, const char *begin)
{
    luaL_Buffer b;
    luaL_buffinit(r->L, &b);
    while (luaL_addlstring(&b, begin, (size_t)(r->at - begin)), *r->at == '\\') {
        r->at++;
        if (read_escape(r, &b) < 0)
            return -1;
        begin = r->at;
        r->at = json_text_end(r->at, r->end);
    }
    if (*r->at != '"')
        return string_fail(r);
    r->at++;
    luaL_pushresult(&b);
    return 0;
}

/* What follows the quote. */
static int read_string(struct reader *r)
{
    const char *begin = r->at;
    r->at = json_text_end(begin, r->end);
    if (*r->at == '\\')
        return read_escaped(r, begin);
    if (*r->at != '"')
        return string_fail(r);
    lua_pushlstring(r->L, begin, (size_t)(r->at++ - begin));
    return 0;
}

static const char *digits_end(const char *s)
{
    while (*s >= '0' && *s <= '9')
        s++;
    return s;
}

/* The end of a number in the grammar of RFC 8259 6, NULL if it is none; and whether it has
 * neither fraction nor exponent. */
static const char *number_end(const char *s, int *is_whole)
{
    s += *s == '-';
    const char *whole = s;
    s = digits_end(s);
    if (s == whole || (*whole == '0' && s > whole + 1))
        return NULL;
    *is_whole = *s != '.' && (*s | 32) != 'e';
    if (*s == '.') {
        const char *fraction = ++s;
        s = digits_end(s);
        if (s == fraction)
            return NULL;
    }
    if (*s == 'e' || *s == 'E') {
        s += s[1] == '+' || s[1] == '-' ? 2 : 1;
        const char *exponent = s;
        s = digits_end(s);
        if (s == exponent)
            return NULL;
    }
    return s;
}

static lua_Integer whole_number(const char *s, const char *end)
{
    lua_Integer n = 0;
    int is_negative = *s == '-';
    for (s += is_negative; s < end; s++)
        n = n * 10 + (*s - '0');
    return is_negative ? -n : n;
}

/* What may not fit is read by Lua: as an integer if it is whole and 64 bits do. */
static int read_number(struct reader *r)
{
    char text[NUMBER_MOST + 1];
    int is_whole;
    const char *end = number_end(r->at, &is_whole);
    if (!end)
        return read_fail(r, "not a number");
    if (is_whole && end - r->at <= INTEGER_SURE) {
        lua_pushinteger(r->L, whole_number(r->at, end));
        r->at = end;
        return 0;
    }
    if (end - r->at > NUMBER_MOST)
        return read_fail(r, "a number of too many digits");
    *(char *)mempcpy(text, r->at, (size_t)(end - r->at)) = '\0';
    if (!lua_stringtonumber(r->L, text) || !isfinite(lua_tonumber(r->L, -1)))
        return read_fail(r, "a number too large");
    r->at = end;
    return 0;
}

static int read_value(struct reader *r, int depth);

static int read_array(struct reader *r, int depth)
{
    int is_empty = take(r, ']');
    lua_createtable(r->L, is_empty ? 0 : USUAL, 0);
    lua_pushvalue(r->L, r->array);
    lua_setmetatable(r->L, -2);
    if (is_empty)
        return 0;
    for (lua_Integer i = 1;; i++) {
        if (read_value(r, depth) < 0)
            return -1;
        lua_rawseti(r->L, -2, i);
        if (take(r, ']'))
            return 0;
        if (!take(r, ','))
            return read_fail(r, "\",\" or \"]\" expected");
    }
}

/* RFC 8259 4 leaves open which of two values with one name counts. */
static int read_name(struct reader *r)
{
    if (!take(r, '"'))
        return read_fail(r, "a name in quotes expected");
    if (read_string(r) < 0)
        return -1;
    lua_pushvalue(r->L, -1);
    if (lua_rawget(r->L, -3) != LUA_TNIL)
        return read_fail(r, "a name that has been there before");
    lua_pop(r->L, 1);
    return take(r, ':') ? 0 : read_fail(r, "\":\" expected");
}

static int read_object(struct reader *r, int depth)
{
    int is_empty = take(r, '}');
    lua_createtable(r->L, 0, is_empty ? 0 : USUAL);
    if (is_empty)
        return 0;
    for (;;) {
        if (read_name(r) < 0 || read_value(r, depth) < 0)
            return -1;
        lua_rawset(r->L, -3);
        if (take(r, '}'))
            return 0;
        if (!take(r, ','))
            return read_fail(r, "\",\" or \"}\" expected");
    }
}

static int read_word(struct reader *r)
{
    if (strncmp(r->at, "true", 4) == 0)
        lua_pushboolean(r->L, 1);
    else if (strncmp(r->at, "false", 5) == 0)
        lua_pushboolean(r->L, 0);
    else if (strncmp(r->at, "null", 4) == 0)
        lua_pushlightuserdata(r->L, NULL);
    else
        return read_fail(r, "a value expected");
    r->at += *r->at == 'f' ? 5 : 4;
    return 0;
}

/* Pushes a value, which depth others are around. */
static int read_value(struct reader *r, int depth)
{
    int is_array = take(r, '['), is_object = !is_array && take(r, '{');
    luaL_checkstack(r->L, 6, NULL);
    if ((is_array || is_object) && depth == JSON_DEPTH_MOST)
        return read_fail(r, "too deep");
    if (is_array)
        return read_array(r, depth + 1);
    if (is_object)
        return read_object(r, depth + 1);
    if (take(r, '"'))
        return read_string(r);
    if (*r->at == '-' || (*r->at >= '0' && *r->at <= '9'))
        return read_number(r);
    return read_word(r);
}

const char *lua_json_read(lua_State *L, int array, const char **at, const char *end)
{
    struct reader r = {.L = L, .array = array, .at = *at, .end = end};
    if (read_value(&r, 0) == 0) {
        skip_blanks(&r);
        if (r.at != r.end)
            r.why = "something after the value";
    }
    *at = r.at;
    return r.why;
}
