#include "lua_req.h"

#include "exchange.h"
#include "http_fields.h"
#include "lua_query.h"
#include "path.h"

#include <lauxlib.h>
#include <string.h>
#include <strings.h>

enum {                           /* user values */
       NAMES = EXCHANGE_OWN + 1, /* in the route's pattern */
       PARAMS,
       ARGS, /* what req:args() has returned: this and */
       ALL_ARGS,
       BODY,
       VALUES = BODY
};

static struct exchange *check(lua_State *L)
{
    return exchange_check(L, &lua_req);
}

void lua_req_set_names(lua_State *L, int index)
{
    lua_setiuservalue(L, index, NAMES);
}

/* -- the head ------------------------------------------------------------------------ */

static int push_span(lua_State *L, const struct exchange *x, struct http_span span)
{
    lua_pushlstring(L, http_session_text(x->session) + span.at, span.len);
    return 1;
}

static void push_decoded(lua_State *L, const char *s, size_t len)
{
    luaL_Buffer b;
    if (!memchr(s, '%', len)) {
        lua_pushlstring(L, s, len);
        return;
    }
    char *out = luaL_buffinitsize(L, &b, len);
    luaL_pushresultsize(&b, path_decode(s, len, out));
}

static int push_method(lua_State *L, struct exchange *x)
{
    return push_span(L, x, http_session_request(x->session)->method);
}

static int push_target(lua_State *L, struct exchange *x)
{
    return push_span(L, x, http_session_request(x->session)->target);
}

static int push_query(lua_State *L, struct exchange *x)
{
    return push_span(L, x, http_session_request(x->session)->query);
}

static int push_host(lua_State *L, struct exchange *x)
{
    return push_span(L, x, http_session_request(x->session)->host);
}

static int push_version(lua_State *L, struct exchange *x)
{
    lua_pushfstring(L, "1.%d", http_session_request(x->session)->minor);
    return 1;
}

static int push_path(lua_State *L, struct exchange *x)
{
    size_t len;
    const char *path = exchange_path(x, &len);
    push_decoded(L, path, len);
    return 1;
}

/* The value on the top stays there. */
static void keep_value(lua_State *L, int which)
{
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, which);
}

static void push_param(lua_State *L, const struct exchange *x, int i)
{
    size_t len;
    const char *path = exchange_path(x, &len);
    push_decoded(L, path + x->values[i].at, x->values[i].len);
}

/* What the names in the route's pattern stand for; nil where it has none. */
static int push_params(lua_State *L, struct exchange *x)
{
    if (!x->value_count)
        return 0;
    if (lua_getiuservalue(L, 1, PARAMS) == LUA_TTABLE)
        return 1;
    lua_getiuservalue(L, 1, NAMES);
    lua_createtable(L, 0, x->value_count);
    for (int i = 0; i < x->value_count; i++) {
        lua_rawgeti(L, -2, i + 1);
        push_param(L, x, i);
        lua_rawset(L, -3);
    }
    keep_value(L, PARAMS);
    return 1;
}

/* Of the query, or what the script has put in its place. */
static int push_args(lua_State *L, struct exchange *x)
{
    size_t len;
    if (!exchange_get_own(L, 1) || lua_getfield(L, -1, "query") == LUA_TNIL)
        push_query(L, x);
    const char *query = luaL_checklstring(L, -1, &len);
    return lua_query_push(L, query, len);
}

/* req:args() -> the first value of each name, all values of each | nil, message, code */
static int req_args(lua_State *L)
{
    struct exchange *x = check(L);
    lua_settop(L, 1);
    if (lua_getiuservalue(L, 1, ARGS) == LUA_TTABLE) {
        lua_getiuservalue(L, 1, ALL_ARGS);
        return 2;
    }
    int n = push_args(L, x);
    if (n == 2) {
        keep_value(L, ALL_ARGS);
        lua_pushvalue(L, -2);
        lua_setiuservalue(L, 1, ARGS);
    }
    return n;
}

static int push_peer(lua_State *L, struct exchange *x)
{
    struct address a;
    char text[ADDRESS_TEXT];
    if (conn_peer(http_session_conn(x->session), &a) < 0)
        return 0;
    address_format(&a, text);
    lua_pushstring(L, text);
    return 1;
}

/* -- fields, of the head and of the trailer section ---------------------------------- */

static const struct exchange_class trailers_view;

/* Both are walked in the same way. */
struct walk {
    const struct exchange *exchange;
    int trailers;
    uint32_t at; /* in the head's headers */
    struct http_header field;
    const char *text; /* that field's spans are of */
};

static int walk_next(struct walk *w)
{
    const struct http_session *s = w->exchange->session;
    if (w->trailers) {
        const struct buf *fields = http_session_trailers(s);
        w->text = buf_head(fields);
        return http_fields_next(fields, &w->field);
    }
    const struct http_request *rq = http_session_request(s);
    if (w->at == rq->header_count)
        return 0;
    w->text = http_session_text(s);
    w->field = rq->headers[w->at++];
    return 1;
}

static int walk_find(struct walk *w, const char *name, size_t len)
{
    while (walk_next(w))
        if (w->field.name.len == len &&
            strncasecmp(w->text + w->field.name.at, name, len) == 0)
            return 1;
    return 0;
}

static void push_value(lua_State *L, const struct walk *w)
{
    lua_pushlstring(L, w->text + w->field.value.at, w->field.value.len);
}

/* The value or, of several, the list of them (RFC 9110 5.3); Cookie is no list with
 * commas (6265 5.4). */
static int push_joined(lua_State *L, struct walk *w, const char *name, size_t len)
{
    if (!walk_find(w, name, len))
        return 0;
    push_value(L, w);
    while (walk_find(w, name, len)) {
        lua_pushstring(L, http_name_is(name, len, "cookie") ? "; " : ", ");
        push_value(L, w);
        lua_concat(L, 3);
    }
    return 1;
}

/* req:header(name) -> the value of each field of that name, in order */
static int req_header(lua_State *L)
{
    size_t len;
    struct walk w = {.exchange = check(L)};
    const char *name = luaL_checklstring(L, 2, &len);
    lua_settop(L, 2);
    while (walk_find(&w, name, len)) {
        luaL_checkstack(L, 1, "too many fields");
        push_value(L, &w);
    }
    return lua_gettop(L) - 2;
}

/* req:has(name, ...) -> whether there is a field of any of these names */
static int req_has(lua_State *L)
{
    struct exchange *x = check(L);
    int count = lua_gettop(L), found = 0;
    for (int i = 2; i <= count && !found; i++) {
        size_t len;
        struct walk w = {.exchange = x};
        const char *name = luaL_checklstring(L, i, &len);
        found = walk_find(&w, name, len);
    }
    lua_pushboolean(L, found);
    return 1;
}

static int is_reading(const struct exchange *x)
{
    struct http_span method = http_session_request(x->session)->method;
    const char *name = http_session_text(x->session) + method.at;
    return (method.len == 3 && memcmp(name, "GET", 3) == 0) ||
           (method.len == 4 && memcmp(name, "HEAD", 4) == 0);
}

/* If-Range means something beside Range only. */
static int is_selecting(const char *name, size_t len)
{
    switch (len) {
    case 5:
        return http_name_is(name, len, "range");
    case 8:
        return http_name_is(name, len, "if-match");
    case 13:
        return http_name_is(name, len, "if-none-match");
    case 17:
        return http_name_is(name, len, "if-modified-since");
    case 19:
        return http_name_is(name, len, "if-unmodified-since");
    default:
        return 0;
    }
}

static int walk_selects(struct walk *w)
{
    while (walk_next(w))
        if (is_selecting(w->text + w->field.name.at, w->field.name.len))
            return 1;
    return 0;
}

/* Pushes the value of the first field of that name, or nil. */
static void push_first(lua_State *L, const struct exchange *x, const char *name)
{
    struct walk w = {.exchange = x};
    if (walk_find(&w, name, strlen(name)))
        push_value(L, &w);
    else
        lua_pushnil(L);
}

/* A "/" that came encoded is one in req.path too. */
static int hides_slash(const struct exchange *x)
{
    struct http_span path = http_session_request(x->session)->path;
    const char *at = http_session_text(x->session) + path.at, *end = at + path.len;
    while ((at = memchr(at, '%', (size_t)(end - at))) && strncasecmp(at, "%2f", 3) != 0)
        at++;
    return at != NULL;
}

/* req:asks() -> path, codings, whether a field selects something of it; or nothing */
static int req_asks(lua_State *L)
{
    struct exchange *x = check(L);
    struct walk w = {.exchange = x};
    if (!is_reading(x) || hides_slash(x))
        return 0;
    if (!exchange_get_own(L, 1) || lua_getfield(L, -1, "path") == LUA_TNIL)
        push_path(L, x);
    push_first(L, x, "accept-encoding");
    lua_pushboolean(L, walk_selects(&w));
    return 3;
}

static struct walk view_walk(lua_State *L)
{
    const struct exchange_class *view = exchange_view_class(L);
    return (struct walk){.exchange = exchange_check(L, view),
                         .trailers = view == &trailers_view};
}

static int view_index(lua_State *L)
{
    size_t len;
    struct walk w = view_walk(L);
    const char *name = luaL_checklstring(L, 2, &len);
    return push_joined(L, &w, name, len);
}

static void push_lower(lua_State *L, const char *s, size_t len)
{
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len);
    for (size_t i = 0; i < len; i++)
        out[i] = s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 0x20 : s[i];
    luaL_pushresultsize(&b, len);
}

/* pairs(view): names in lower case, each once. */
static int view_pairs(lua_State *L)
{
    const struct walk begin = view_walk(L);
    lua_getglobal(L, "next");
    lua_newtable(L);
    for (struct walk all = begin; walk_next(&all);) {
        size_t len;
        struct walk w = begin;
        push_lower(L, all.text + all.field.name.at, all.field.name.len);
        const char *name = lua_tolstring(L, -1, &len);
        push_joined(L, &w, name, len);
        lua_rawset(L, -3);
    }
    return 2;
}

static const luaL_Reg view_functions[] = {
    {"__index", view_index}, {"__pairs", view_pairs}, {NULL, NULL}};

static const struct exchange_class headers_view = {.name = "moonpool.http.req.headers",
                                                   .methods = view_functions};
static const struct exchange_class trailers_view = {.name = "moonpool.http.req.trailers",
                                                    .methods = view_functions};

static int push_headers(lua_State *L, struct exchange *x)
{
    exchange_push_view(L, x, &headers_view);
    return 1;
}

static int push_trailers(lua_State *L, struct exchange *x)
{
    exchange_push_view(L, x, &trailers_view);
    return 1;
}

static int push_upgrade(lua_State *L, struct exchange *x)
{
    struct walk w = {.exchange = x};
    return http_session_request(x->session)->upgrade &&
           push_joined(L, &w, "upgrade", strlen("upgrade"));
}

/* -- content ------------------------------------------------------------------------- */

static int push_body(lua_State *L, const char *data, size_t len)
{
    lua_pushlstring(L, data, len);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, BODY);
    return 1;
}

static int push_collected(lua_State *L, struct exchange *x)
{
    push_body(L, x->body.data ? buf_head(&x->body) : "", buf_len(&x->body));
    buf_release(&x->body);
    return 1;
}

/* All of the content is here already: it needs no collecting. */
static int push_whole(lua_State *L, struct exchange *x, const char *data, size_t len)
{
    push_body(L, data, len);
    http_session_body_skip(x->session, len);
    return 1;
}

static int req_body_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check(L);
    const char *data;
    size_t len;
    int some;
    (void)status, (void)ctx;
    while ((some = http_session_body(x->session, &data, &len)) == 1) {
        if (!buf_len(&x->body) && http_session_body_ends(x->session, len))
            return push_whole(L, x, data, len);
        buf_append(&x->body, data, len);
        http_session_body_skip(x->session, len);
    }
    if (some == 0)
        return exchange_wait_input(L, x, req_body_k);
    return some < 0 ? exchange_fail(L, x) : push_collected(L, x);
}

/* req:body() -> string | nil, message, code: all of it that has not been read by pieces
 */
static int req_body(lua_State *L)
{
    struct exchange *x = check(L);
    lua_settop(L, 1);
    if (lua_getiuservalue(L, 1, BODY) == LUA_TSTRING)
        return 1;
    exchange_check_waits(L, x);
    return req_body_k(L, LUA_OK, 0);
}

/* The most that is wanted is at index 2. */
static int req_read_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check(L);
    size_t most = (size_t)lua_tointeger(L, 2), len;
    const char *data;
    int some = http_session_body(x->session, &data, &len);
    (void)status, (void)ctx;
    if (some == 0)
        return exchange_wait_input(L, x, req_read_k);
    if (some < 0)
        return exchange_fail(L, x);
    if (some == 2)
        return 0;
    len = len < most ? len : most;
    lua_pushlstring(L, data, len);
    http_session_body_skip(x->session, len);
    return 1;
}

/* req:read([most]) -> the next piece | nothing at its end | nil, message, code */
static int req_read(lua_State *L)
{
    struct exchange *x = check(L);
    lua_Integer most = luaL_optinteger(L, 2, LUA_MAXINTEGER);
    luaL_argcheck(L, most > 0, 2, "positive count expected");
    lua_settop(L, 1);
    lua_pushinteger(L, most);
    exchange_check_waits(L, x);
    return req_read_k(L, LUA_OK, 0);
}

/* req:limit(bytes) -> req */
static int req_limit(lua_State *L)
{
    struct exchange *x = check(L);
    lua_Integer bytes = luaL_checkinteger(L, 2);
    luaL_argcheck(L, bytes >= 0, 2, "negative");
    http_session_limit_body(x->session, (uint64_t)bytes);
    lua_settop(L, 1);
    return 1;
}

/* -- the value ----------------------------------------------------------------------- */

static const luaL_Reg methods[] = {
    {"args", req_args}, {"header", req_header}, {"has", req_has},     {"asks", req_asks},
    {"body", req_body}, {"read", req_read},     {"limit", req_limit}, {NULL, NULL},
};

static const struct exchange_field fields[] = {
    {"method", push_method},   {"params", push_params},     {"path", push_path},
    {"target", push_target},   {"query", push_query},       {"headers", push_headers},
    {"version", push_version}, {"host", push_host},         {"peer", push_peer},
    {"upgrade", push_upgrade}, {"trailers", push_trailers}, {NULL, NULL},
};

const struct exchange_class lua_req = {"moonpool.http.req", methods, fields, VALUES};

void lua_req_open(lua_State *L)
{
    exchange_view_open(L, &headers_view);
    exchange_view_open(L, &trailers_view);
    exchange_class_open(L, &lua_req);
}
