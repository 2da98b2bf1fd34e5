/*
 * What resolve has said is kept in two tables, functions and names, each by a number for
 * prefix and pattern and then by method.
 */
#include "lua_routes.h"

#include "path.h"
#include "router.h"

#include <lauxlib.h>
#include <string.h>

#define NAME "moonpool.http.routes"

enum { RESOLVE = 1, FUNCTIONS, NAMES, ROUTES_VALUES = NAMES };

struct routes {
    struct router *patterns, *prefixes;
    int pattern_count; /* also the number that stands for none */
};

/* -- a request's path ---------------------------------------------------------------- */

/* Of an absolute target it may be empty: then it is "/" (RFC 9110 4.2.3). */
static int take_path(struct exchange *x, const char **why)
{
    size_t len;
    const struct http_request *rq = http_session_request(x->session);
    const char *path = exchange_path(x, &len);
    if (len)
        return path_clean(path, len, &x->path, why);
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

struct place { /* in the two tables */
    int prefix, pattern;
    struct http_span method;
    const char *text; /* of the method */
    lua_Integer index;
};

/* The kept value of one of the tables, or nil. */
static int push_kept(lua_State *L, int routes, int table, const struct place *p)
{
    lua_getiuservalue(L, routes, table);
    if (lua_rawgeti(L, -1, p->index) == LUA_TTABLE) {
        lua_pushlstring(L, p->text + p->method.at, p->method.len);
        lua_rawget(L, -2);
        lua_replace(L, -2);
    }
    lua_replace(L, -2);
    return !lua_isnil(L, -1);
}

/* Keeps the value at index. */
static void keep(lua_State *L, int routes, int table, const struct place *p, int value)
{
    lua_getiuservalue(L, routes, table);
    if (lua_rawgeti(L, -1, p->index) == LUA_TNIL) {
        lua_newtable(L);
        lua_replace(L, -2);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, p->index);
    }
    lua_pushlstring(L, p->text + p->method.at, p->method.len);
    lua_pushvalue(L, value);
    lua_rawset(L, -3);
    lua_pop(L, 2);
}

static void push_number(lua_State *L, int number, int none)
{
    if (number == none)
        lua_pushnil(L);
    else
        lua_pushinteger(L, number + 1);
}

/* Pushes function and names. */
static void resolve(lua_State *L, int routes, const struct routes *r,
                    const struct place *p)
{
    int top = lua_gettop(L);
    lua_getiuservalue(L, routes, RESOLVE);
    push_number(L, p->prefix, -1);
    push_number(L, p->pattern, r->pattern_count);
    lua_pushlstring(L, p->text + p->method.at, p->method.len);
    lua_call(L, 3, 3);
    if (lua_toboolean(L, -1)) {
        keep(L, routes, FUNCTIONS, p, top + 1);
        keep(L, routes, NAMES, p, top + 2);
    }
    lua_pop(L, 1);
}

int lua_routes_find(lua_State *L, int routes, struct exchange *x, const char **why)
{
    const struct routes *r = lua_touserdata(L, routes);
    struct router_match m = {.pattern = r->pattern_count};
    size_t len;
    if (take_path(x, why) < 0)
        return -1;
    const char *path = exchange_path(x, &len);
    if (router_find(r->patterns, path, len, &m))
        keep_values(x, path, &m);
    else
        m.pattern = r->pattern_count;
    struct place p = {.prefix = router_find_prefix(r->prefixes, path, len),
                      .pattern = m.pattern,
                      .method = http_session_request(x->session)->method,
                      .text = http_session_text(x->session)};
    p.index = (lua_Integer)(p.prefix + 1) * (r->pattern_count + 1) + p.pattern;
    if (!push_kept(L, routes, FUNCTIONS, &p)) {
        lua_pop(L, 1);
        resolve(L, routes, r, &p);
    } else if (x->value_count) {
        push_kept(L, routes, NAMES, &p);
    } else {
        lua_pushnil(L);
    }
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

/* routes:pattern(path) -> number */
static int routes_pattern(lua_State *L)
{
    struct routes *r = check(L);
    size_t len;
    const char *pattern = luaL_checklstring(L, 2, &len);
    int number = router_add(r->patterns, pattern, len);
    if (number < 0 || !len)
        return luaL_error(L, "not a path's pattern: %s", pattern);
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
    lua_pushinteger(L, router_add(r->prefixes, prefix, len) + 1);
    return 1;
}

static int routes_gc(lua_State *L)
{
    struct routes *r = check(L);
    router_free(r->patterns);
    router_free(r->prefixes);
    return 0;
}

int lua_routes_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct routes *r = lua_newuserdatauv(L, sizeof *r, ROUTES_VALUES);
    *r = (struct routes){router_new(), router_new(), 0};
    luaL_setmetatable(L, NAME);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, RESOLVE);
    lua_newtable(L);
    lua_setiuservalue(L, -2, FUNCTIONS);
    lua_newtable(L);
    lua_setiuservalue(L, -2, NAMES);
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
