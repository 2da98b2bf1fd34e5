/*
 * What resolve has said is kept in a sequence, the function and then the names, and where
 * it is there, for each prefix, pattern and method. Methods have numbers once something is
 * kept for them; of a method beyond METHODS_MAX, nothing is.
 */
#include "lua_routes.h"

#include "alloc.h"
#include "path.h"
#include "router.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define NAME "moonpool.http.routes"

enum { RESOLVE = 1, KEPT, ROUTES_VALUES = KEPT };
enum { METHODS_MAX = 32 };

/* Of a path, a prefix and a pattern: where its functions are in what is kept, or 0. */
struct row {
    uint32_t kept[METHODS_MAX];
};

struct routes {
    struct router *patterns, *prefixes;
    int prefix_count;
    int pattern_count; /* also the number that stands for none */
    int method_count;
    struct {
        char *name;
        size_t len;
    } methods[METHODS_MAX];
    struct row *rows; /* NULL until something is kept */
    uint32_t kept;
};

/* -- a request's path ---------------------------------------------------------------- */

/* Of an absolute target it may be empty: then it is "/" (RFC 9110 4.2.3). */
static int take_path(struct exchange *x, const char **why)
{
    size_t len;
    const struct http_request *rq = http_session_request(x->session);
    const char *path = exchange_path(x, &len);
    if (len)
        return rq->is_plain ? 0 : path_clean(path, len, &x->path, why);
    if (rq->form == HTTP_ABSOLUTE)
        buf_append(&x->path, "/", 1);
    return 0;
}

static void keep_values(struct exchange *x, const char *path,
                        const struct router_match *m)
{
    x->value_count = m->count;
    for (int i = 0; i < m->count; i++)
        x->values[i] = (struct http_span){(uint32_t)(m->values[i].at - path),
                                          (uint32_t)m->values[i].len};
}

/* -- what was resolved --------------------------------------------------------------- */

struct place { /* of a request among all that there may be */
    int prefix, pattern;
    int method; /* its number, or METHODS_MAX */
    const char *name;
    size_t name_len;
};

static int method_number(const struct routes *r, const char *name, size_t len)
{
    for (int i = 0; i < r->method_count; i++)
        if (r->methods[i].len == len && memcmp(r->methods[i].name, name, len) == 0)
            return i;
    return METHODS_MAX;
}

static struct place place_of(const struct routes *r, const struct exchange *x, int prefix,
                             int pattern)
{
    struct http_span method = http_session_request(x->session)->method;
    const char *name = http_session_text(x->session) + method.at;
    return (struct place){prefix, pattern, method_number(r, name, method.len), name,
                          method.len};
}

static uint32_t *place_kept(const struct routes *r, const struct place *p)
{
    int path = (p->prefix + 1) * (r->pattern_count + 1) + p->pattern;
    return &r->rows[path].kept[p->method];
}

static void add_rows(struct routes *r)
{
    size_t paths = (size_t)(r->prefix_count + 1) * (size_t)(r->pattern_count + 1);
    r->rows = alloc_zero(paths * sizeof *r->rows);
}

/* Function and names are on the top, and stay there. */
static void keep(lua_State *L, int routes, struct routes *r, const struct place *p)
{
    if (!r->rows)
        add_rows(r);
    lua_getiuservalue(L, routes, KEPT);
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, r->kept + 1);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, r->kept + 2);
    lua_pop(L, 1);
    *place_kept(r, p) = r->kept + 1;
    r->kept += 2;
}

/* Pushes the sequence, what is kept of the names, if they are needed, and of the function:
 * whether it is there. */
static int push_kept(lua_State *L, int routes, const struct routes *r,
                     const struct place *p, int needs_names)
{
    uint32_t kept = r->rows && p->method != METHODS_MAX ? *place_kept(r, p) : 0;
    if (!kept)
        return 0;
    lua_getiuservalue(L, routes, KEPT);
    if (needs_names)
        lua_rawgeti(L, -1, kept + 1);
    else
        lua_pushnil(L);
    lua_rawgeti(L, -2, kept);
    return 1;
}

static void number_method(struct routes *r, struct place *p)
{
    if (p->method == METHODS_MAX && r->method_count < METHODS_MAX) {
        r->methods[r->method_count].name =
            alloc_format("%.*s", (int)p->name_len, p->name);
        r->methods[r->method_count].len = p->name_len;
        p->method = r->method_count++;
    }
}

static void push_number(lua_State *L, int number, int none)
{
    if (number == none)
        lua_pushnil(L);
    else
        lua_pushinteger(L, number + 1);
}

/* Pushes names and function. */
static void resolve(lua_State *L, int routes, struct routes *r, struct place *p)
{
    lua_getiuservalue(L, routes, RESOLVE);
    push_number(L, p->prefix, -1);
    push_number(L, p->pattern, r->pattern_count);
    lua_pushlstring(L, p->name, p->name_len);
    lua_call(L, 3, 3);
    int is_kept = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (is_kept)
        number_method(r, p);
    if (is_kept && p->method != METHODS_MAX)
        keep(L, routes, r, p);
    lua_insert(L, -2);
}

int lua_routes_find(lua_State *L, int routes, struct exchange *x, const char **why)
{
    struct routes *r = lua_touserdata(L, routes);
    struct router_match m;
    size_t len;
    if (take_path(x, why) < 0)
        return -1;
    const char *path = exchange_path(x, &len);
    int is_plain = http_session_request(x->session)->is_plain;
    if (router_find(r->patterns, path, len, is_plain, &m))
        keep_values(x, path, &m);
    else
        m.pattern = r->pattern_count;
    int prefix = router_find_prefix(r->prefixes, path, len, is_plain);
    struct place p = place_of(r, x, prefix, m.pattern);
    if (!push_kept(L, routes, r, &p, x->value_count))
        resolve(L, routes, r, &p);
    return 0;
}

/* -- the value ----------------------------------------------------------------------- */

static struct routes *check(lua_State *L)
{
    return luaL_checkudata(L, 1, NAME);
}

void lua_routes_check(lua_State *L, int index)
{
    luaL_checkudata(L, index, NAME);
}

/* What is kept is found by the number of paths that there were. */
static void forget_kept(struct routes *r)
{
    free(r->rows);
    r->rows = NULL;
    r->kept = 0;
}

/* routes:pattern(path) -> number */
static int routes_pattern(lua_State *L)
{
    struct routes *r = check(L);
    size_t len;
    const char *pattern = luaL_checklstring(L, 2, &len);
    int number = router_add(r->patterns, pattern, len);
    if (number < 0 || !len)
        return luaL_error(L, "not a path's pattern: %s", pattern);
    forget_kept(r);
    if (number == r->pattern_count)
        r->pattern_count++;
    lua_pushinteger(L, number + 1);
    return 1;
}

/* routes:prefix(path) -> number */
static int routes_prefix(lua_State *L)
{
    struct routes *r = check(L);
    size_t len;
    const char *prefix = luaL_checklstring(L, 2, &len);
    int number = router_add(r->prefixes, prefix, len);
    forget_kept(r);
    if (number == r->prefix_count)
        r->prefix_count++;
    lua_pushinteger(L, number + 1);
    return 1;
}

static int routes_gc(lua_State *L)
{
    struct routes *r = check(L);
    while (r->method_count)
        free(r->methods[--r->method_count].name);
    forget_kept(r);
    router_free(r->patterns);
    router_free(r->prefixes);
    return 0;
}

int lua_routes_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct routes *r = lua_newuserdatauv(L, sizeof *r, ROUTES_VALUES);
    *r = (struct routes){.patterns = router_new(), .prefixes = router_new()};
    luaL_setmetatable(L, NAME);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, RESOLVE);
    lua_newtable(L);
    lua_setiuservalue(L, -2, KEPT);
    return 1;
}

static const luaL_Reg methods[] = {
    {"pattern", routes_pattern}, {"prefix", routes_prefix}, {NULL, NULL}};

void luaopen_moonpool_routes(lua_State *L)
{
    luaL_newmetatable(L, NAME);
    lua_pushcfunction(L, routes_gc);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
