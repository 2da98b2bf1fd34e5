/*
 * A request that has begun in a session gets an exchange, which req and res stand for,
 * and a task that calls the engine's function with the two.
 *
 * A conn may fail while a task runs: the task goes on, its reads and writes fail.
 */
#include "lua_http.h"

#include "alloc.h"
#include "http_session.h"
#include "log.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ENGINE "moonpool.http.engine"
#define REQ "moonpool.http.req"
#define RES "moonpool.http.res"

static const struct http_settings default_settings = {

    .keep_alive = 60, .head_time = 10, .idle_time = 30, .body = 1 << 20};

struct lua_http {
    struct lua_conn_env *env;
    const struct lua_http_callbacks *callbacks;
    void *arg;
    struct http_service service;
    struct exchange *idle_exchanges;
};

struct engine { /* the userdata; it is kept by a reference while a session needs it */
    struct lua_http *http;
    struct http_settings settings;
    int handler; /* reference in the registry */
};

struct client { /* of one session */
    struct lua_http *http;
    struct engine *engine;
    int engine_ref;
    struct exchange *exchange; /* NULL between requests */
};

/*
 * Exchanges are used again and never freed before lua_http, so a box whose serial is not
 * the exchange's is one of a request that is over.
 */
struct exchange {
    struct client *client;
    struct http_session *session;
    uint64_t serial;
    struct buf fields; /* of the response, "Name: value\r\n" each */
    struct buf body;   /* of the request, while req:body() collects it */
    int status;
    int has_type, close;
    int streams; /* res:write has begun the response */
    struct task *waiting;
    int current;           /* the argument that is being written, by its index */
    size_t at;             /* how far in it */
    struct exchange *next; /* while idle */
};

struct exchange_box {
    struct exchange *exchange;
    uint64_t serial;
};

enum { OWN_FIELDS = 1, WHOLE_BODY, BOX_VALUES = WHOLE_BODY }; /* user values of req */

/* -- a request's life ---------------------------------------------------------------- */

static struct exchange *exchange_begin(struct client *c, struct http_session *s)
{
    struct lua_http *http = c->http;
    struct exchange *x = http->idle_exchanges;
    if (x)
        http->idle_exchanges = x->next;
    else
        x = alloc_zero(sizeof *x);
    *x = (struct exchange){.client = c, .session = s, .serial = x->serial, .status = 200};
    return x;
}

static void exchange_wake(struct exchange *x)
{
    struct task *t = x->waiting;
    x->waiting = NULL;
    if (t)
        task_wake(t);
}

static void exchange_end(struct exchange *x)
{
    struct lua_http *http = x->client->http;
    x->client->exchange = NULL;
    buf_release(&x->fields);
    buf_release(&x->body);
    x->serial++;
    exchange_wake(x); /* a detached task: it is told that the request is over */
    x->next = http->idle_exchanges;
    http->idle_exchanges = x;
}

static void exchange_answer(struct exchange *x, int64_t length)
{
    http_session_begin(x->session, &(struct http_answer){.status = x->status,
                                                         .fields = &x->fields,
                                                         .length = length,
                                                         .has_type = x->has_type,
                                                         .close = x->close});
}

static void request_failed(struct lua_http *http, const char *error)
{
    log_error("%s", error);
    if (http->callbacks && http->callbacks->on_error)
        http->callbacks->on_error(http->arg);
}

/* A request whose content failed is answered for that, whatever the handler made of it.
 */
static void request_done(lua_State *L, enum task_end how, int n, void *arg)
{
    struct exchange *x = arg;
    struct http_session *s = x->session;
    int body_failed = http_session_body_failed(s);
    (void)n;
    if (how == TASK_FAILED)
        request_failed(x->client->http, lua_tostring(L, -1));
    if (how == TASK_RETURNED && !body_failed && !http_session_has_begun(s))
        exchange_answer(x, 0);
    exchange_end(x);
    http_session_done(s, how != TASK_RETURNED);
}

static void push_box(lua_State *L, struct exchange *x, const char *name)
{
    struct exchange_box *box = lua_newuserdatauv(L, sizeof *box, BOX_VALUES);
    *box = (struct exchange_box){x, x->serial};
    luaL_setmetatable(L, name);
}

static int start_request(lua_State *L)
{
    struct exchange *x = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, x->client->engine->handler);
    push_box(L, x, REQ);
    push_box(L, x, RES);
    task_start(x->client->http->env->tasks, L, 2, request_done, x);
    return 0;
}

static void on_request(struct http_session *s, void *arg)
{
    struct client *c = arg;
    struct lua_http *http = c->http;
    struct exchange *x = c->exchange = exchange_begin(c, s);
    if (http->callbacks && http->callbacks->on_request)
        http->callbacks->on_request(http->arg);
    if (tasks_protect(http->env->tasks, start_request, x) == 0)
        return;
    exchange_end(x);
    http_session_refuse(s, 503, "out of memory");
}

static void on_ready(struct http_session *s, void *arg)
{
    struct client *c = arg;
    (void)s;
    if (c->exchange)
        exchange_wake(c->exchange);
}

static void on_end(struct http_session *s, void *arg)
{
    struct client *c = arg;
    (void)s;
    luaL_unref(tasks_state(c->http->env->tasks), LUA_REGISTRYINDEX, c->engine_ref);
    free(c);
}

static const struct http_session_callbacks session_callbacks = {on_request, on_ready,
                                                                on_end};

/* -- waiting ------------------------------------------------------------------------- */

static struct exchange *check_exchange(lua_State *L, const char *name)
{
    struct exchange_box *box = luaL_checkudata(L, 1, name);
    if (box->exchange->serial != box->serial)
        luaL_error(L, "this request is over: take what you need of it before the handler "
                      "returns");
    return box->exchange;
}

/* By the time that a cancelled task comes here, another may wait. */
static void forget_wait(struct task *t, void *arg)
{
    struct exchange *x = arg;
    if (x->waiting != t)
        return;
    x->waiting = NULL;
    http_session_want_input(x->session, 0);
    http_session_want_room(x->session, 0);
}

static void check_nobody_waits(lua_State *L, const struct exchange *x)
{
    if (x->waiting)
        luaL_error(L, "another task is waiting for this request");
}

static int exchange_wait(lua_State *L, struct exchange *x, lua_KFunction k)
{
    struct tasks *ts = x->client->http->env->tasks;
    x->waiting = task_current(ts);
    return task_wait(ts, L, INFINITY, forget_wait, x, 0, k);
}

static int wait_input(lua_State *L, struct exchange *x, lua_KFunction k)
{
    http_session_want_input(x->session, 1);
    return exchange_wait(L, x, k);
}

static int wait_room(lua_State *L, struct exchange *x, lua_KFunction k)
{
    http_session_want_room(x->session, 1);
    return exchange_wait(L, x, k);
}

/* -- req ----------------------------------------------------------------------------- */

static void push_span(lua_State *L, const struct exchange *x, struct http_span span)
{
    lua_pushlstring(L, http_session_text(x->session) + span.at, span.len);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 2.1; a "%" without two hex digits stands for itself. */
static void push_decoded(lua_State *L, const char *s, size_t len)
{
    luaL_Buffer b;
    char *out = luaL_buffinitsize(L, &b, len);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = s[i] == '%' && i + 2 < len ? hex_value(s[i + 1]) : -1;
        int low = high >= 0 ? hex_value(s[i + 2]) : -1;
        out[n++] = low >= 0 ? (char)(high << 4 | low) : s[i];
        i += low >= 0 ? 2 : 0;
    }
    luaL_pushresultsize(&b, n);
}

static void push_path(lua_State *L, const struct exchange *x)
{
    struct http_span path = http_session_request(x->session)->path;
    const char *s = http_session_text(x->session) + path.at;
    if (memchr(s, '%', path.len))
        push_decoded(L, s, path.len);
    else
        lua_pushlstring(L, s, path.len);
}

static void push_header(lua_State *L, const struct exchange *x, const char *name)
{
    char small[64];
    size_t n = strlen(name);
    char *lower = n < sizeof small ? small : lua_newuserdatauv(L, n + 1, 0);
    for (size_t i = 0; i <= n; i++)
        lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i];
    const struct http_header *h =
        http_find(http_session_request(x->session), http_session_text(x->session), lower);
    if (h)
        push_span(L, x, h->value);
    else
        lua_pushnil(L);
}

/* req:header(name) -> value of its first field, or nil */
static int req_header(lua_State *L)
{
    push_header(L, check_exchange(L, REQ), luaL_checkstring(L, 2));
    return 1;
}

static int body_failed(lua_State *L, const struct exchange *x)
{
    int error = http_session_error(x->session);
    if (error == EMSGSIZE)
        return lua_fail_text(L, "the body is too long", "EMSGSIZE");
    if (error == EBADMSG)
        return lua_fail_text(L, "the body's chunks are malformed", "EBADMSG");
    return lua_fail(L, error);
}

static int push_collected(lua_State *L, struct exchange *x)
{
    lua_pushlstring(L, x->body.data ? buf_head(&x->body) : "", buf_len(&x->body));
    buf_release(&x->body);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, WHOLE_BODY);
    return 1;
}

static int req_body_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check_exchange(L, REQ);
    const char *data;
    size_t len;
    int some;
    (void)status, (void)ctx;
    while ((some = http_session_body(x->session, &data, &len)) == 1) {
        buf_append(&x->body, data, len);
        http_session_body_skip(x->session, len);
    }
    if (some == 0)
        return wait_input(L, x, req_body_k);
    return some < 0 ? body_failed(L, x) : push_collected(L, x);
}

/* req:body() -> string | nil, message, code: all of it that has not been read by pieces
 */
static int req_body(lua_State *L)
{
    struct exchange *x = check_exchange(L, REQ);
    lua_settop(L, 1);
    if (lua_getiuservalue(L, 1, WHOLE_BODY) == LUA_TSTRING)
        return 1;
    check_nobody_waits(L, x);
    return req_body_k(L, LUA_OK, 0);
}

/* The most that is wanted is at index 2. */
static int req_read_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check_exchange(L, REQ);
    size_t most = (size_t)lua_tointeger(L, 2), len;
    const char *data;
    int some = http_session_body(x->session, &data, &len);
    (void)status, (void)ctx;
    if (some == 0)
        return wait_input(L, x, req_read_k);
    if (some < 0)
        return body_failed(L, x);
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
    struct exchange *x = check_exchange(L, REQ);
    lua_Integer most = luaL_optinteger(L, 2, LUA_MAXINTEGER);
    luaL_argcheck(L, most > 0, 2, "positive count expected");
    lua_settop(L, 1);
    lua_pushinteger(L, most);
    check_nobody_waits(L, x);
    return req_read_k(L, LUA_OK, 0);
}

static int push_peer(lua_State *L, const struct exchange *x)
{
    struct address a;
    char text[ADDRESS_TEXT];
    if (conn_peer(http_session_conn(x->session), &a) < 0)
        return 0;
    address_format(&a, text);
    lua_pushstring(L, text);
    return 1;
}

/* The headers table is a view: each look-up reads the request. */
static int headers_index(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_replace(L, 1);
    push_header(L, check_exchange(L, REQ), luaL_checkstring(L, 2));
    return 1;
}

static void push_headers(lua_State *L)
{
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, headers_index, 1);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

static int push_own(lua_State *L)
{
    if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE)
        return 0;
    lua_pushvalue(L, 2);
    return lua_rawget(L, -2) != LUA_TNIL;
}

/* Fields are made when they are asked for; what the script sets itself comes first. */
static int req_index(lua_State *L)
{
    struct exchange *x = check_exchange(L, REQ);
    const struct http_request *rq = http_session_request(x->session);
    const char *key = luaL_checkstring(L, 2);
    if (push_own(L))
        return 1;
    if (strcmp(key, "method") == 0)
        push_span(L, x, rq->method);
    else if (strcmp(key, "path") == 0)
        push_path(L, x);
    else if (strcmp(key, "target") == 0)
        push_span(L, x, rq->target);
    else if (strcmp(key, "query") == 0)
        push_span(L, x, rq->query);
    else if (strcmp(key, "headers") == 0)
        push_headers(L);
    else if (strcmp(key, "version") == 0)
        lua_pushstring(L, rq->minor ? "1.1" : "1.0");
    else if (strcmp(key, "peer") == 0)
        return push_peer(L, x);
    else
        lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
}

static int req_newindex(lua_State *L)
{
    check_exchange(L, REQ);
    luaL_checkstring(L, 2);
    if (lua_getiuservalue(L, 1, 1) != LUA_TTABLE) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, 1, 1);
    }
    lua_insert(L, 2);
    lua_settop(L, 4);
    lua_rawset(L, 2);
    return 0;
}

/* -- res ----------------------------------------------------------------------------- */

static struct exchange *check_unsent(lua_State *L)
{
    struct exchange *x = check_exchange(L, RES);
    if (http_session_has_begun(x->session))
        luaL_error(L, "the response has been sent already");
    return x;
}

/* res:status(code) -> res */
static int res_status(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    lua_Integer status = luaL_checkinteger(L, 2);
    luaL_argcheck(L, status >= 200 && status <= 599, 2, "status must be from 200 to 599");
    x->status = (int)status;
    lua_settop(L, 1);
    return 1;
}

static int is_token_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void check_name(lua_State *L, const char *name, size_t len)
{
    luaL_argcheck(L, len > 0, 2, "a header must have a name");
    for (size_t i = 0; i < len; i++)
        luaL_argcheck(L, is_token_char(name[i]), 2, "not a header name (RFC 9110 5.6.2)");
}

static void check_value(lua_State *L, const char *value, size_t len)
{
    for (size_t i = 0; i < len; i++)
        luaL_argcheck(
            L, value[i] == '\t' || ((unsigned char)value[i] >= ' ' && value[i] != 0x7f),
            3, "control characters in a header value");
}

/* res:header(name, value) -> res; a repeated name is sent repeatedly */
static int res_header(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    size_t name_len, value_len;
    const char *name = luaL_checklstring(L, 2, &name_len);
    const char *value = luaL_checklstring(L, 3, &value_len);
    check_name(L, name, name_len);
    check_value(L, value, value_len);
    if (strcasecmp(name, "content-length") == 0 ||
        strcasecmp(name, "transfer-encoding") == 0)
        return luaL_argerror(L, 2, "the length is computed, not set");
    if (strcasecmp(name, "content-type") == 0)
        x->has_type = 1;
    if (strcasecmp(name, "connection") == 0) {
        x->close = x->close || strcasecmp(value, "close") == 0;
    } else {
        buf_append(&x->fields, name, name_len);
        buf_append(&x->fields, ": ", 2);
        buf_append(&x->fields, value, value_len);
        buf_append(&x->fields, "\r\n", 2);
    }
    lua_settop(L, 1);
    return 1;
}

/* Writes the strings from index 2 on. */
static int res_write_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check_exchange(L, RES);
    (void)status, (void)ctx;
    for (; x->current <= lua_gettop(L); x->current++, x->at = 0) {
        size_t len;
        const char *data = lua_tolstring(L, x->current, &len);
        while (x->at < len) {
            ssize_t n = http_session_write(x->session, data + x->at, len - x->at);
            if (n == 0)
                return wait_room(L, x, res_write_k);
            if (n < 0)
                return lua_fail(L, http_session_error(x->session));
            x->at += (size_t)n;
        }
    }
    lua_settop(L, 1);
    return 1;
}

static int write_begin(lua_State *L, struct exchange *x)
{
    x->current = 2;
    x->at = 0;
    return res_write_k(L, LUA_OK, 0);
}

/* res:send(body) -> res | nil, message, code */
static int res_send(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    size_t len;
    luaL_optlstring(L, 2, "", &len);
    lua_settop(L, len ? 2 : 1);
    exchange_answer(x, (int64_t)len);
    return write_begin(L, x);
}

/* res:write(...) -> res | nil, message, code: of a response whose length is not known */
static int res_write(lua_State *L)
{
    struct exchange *x = check_exchange(L, RES);
    int count = lua_gettop(L) - 1;
    for (int i = 1; i <= count; i++)
        luaL_checkstring(L, 1 + i);
    if (!x->streams)
        check_unsent(L);
    check_nobody_waits(L, x);
    if (!x->streams)
        exchange_answer(x, -1);
    x->streams = 1;
    if (count > 1)
        lua_concat(L, count); /* one chunk */
    return write_begin(L, x);
}

/* The file is at index 2, what is left of it at index 3. */
static int res_sendfile_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check_exchange(L, RES);
    struct lua_fd_part *part = lua_touserdata(L, 3);
    (void)status, (void)ctx;
    int done =
        http_session_sendfile(x->session, lua_fd_of(L, 2), &part->offset, &part->left);
    if (done == 0) {
        http_session_want_drained(x->session, 1);
        return exchange_wait(L, x, res_sendfile_k);
    }
    if (done < 0)
        return lua_fail(L, http_session_error(x->session));
    lua_pushvalue(L, 1);
    return 1;
}

/* res:sendfile(path | file | fd [, offset = 0 [, length]]) -> res | nil, message, code;
 * if the file cannot be sent, nothing has been. */
static int res_sendfile(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    struct lua_fd_part part;
    int error = lua_fd_check_part(L, 2, &part);
    if (error)
        return lua_fail(L, error);
    struct lua_fd_part *kept = lua_newuserdatauv(L, sizeof *kept, 0);
    *kept = part;
    exchange_answer(x, (int64_t)part.left);
    return res_sendfile_k(L, LUA_OK, 0);
}

static int res_index(lua_State *L)
{
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "sent") == 0)
        lua_pushboolean(L, http_session_has_begun(check_exchange(L, RES)->session));
    else
        lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
}

/* -- engines ------------------------------------------------------------------------- */

static double opt_number(lua_State *L, const char *key, double otherwise)
{
    lua_getfield(L, 2, key);
    double n = luaL_optnumber(L, -1, otherwise);
    if (n < 0)
        luaL_error(L, "%s: negative", key);
    lua_pop(L, 1);
    return n;
}

static void take_settings(lua_State *L, struct http_settings *s)
{
    s->keep_alive = opt_number(L, "keep_alive", s->keep_alive);
    s->head_time = opt_number(L, "head_time", s->head_time);
    s->idle_time = opt_number(L, "idle_time", s->idle_time);
    s->body = (uint64_t)opt_number(L, "body_limit", (double)s->body);
}

/* http.engine(fn [, settings]) -> engine */
static int http_engine(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct engine *e = lua_newuserdatauv(L, sizeof *e, 0);
    *e = (struct engine){lua_touserdata(L, lua_upvalueindex(1)), default_settings,
                         LUA_NOREF};
    luaL_setmetatable(L, ENGINE);
    if (lua_istable(L, 2))
        take_settings(L, &e->settings);
    lua_pushvalue(L, 1);
    e->handler = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

static int engine_gc(lua_State *L)
{
    struct engine *e = luaL_checkudata(L, 1, ENGINE);
    luaL_unref(L, LUA_REGISTRYINDEX, e->handler);
    e->handler = LUA_NOREF;
    return 0;
}

/* http.serve(engine, conn) */
static int http_serve(lua_State *L)
{
    struct engine *e = luaL_checkudata(L, 1, ENGINE);
    lua_conn_check_idle(L, 2);
    lua_pushvalue(L, 1);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct client *c = alloc(sizeof *c);
    *c = (struct client){.http = e->http, .engine = e, .engine_ref = ref};
    http_session_open(&e->http->service, lua_conn_take(L, 2), &e->settings, c);
    return 0;
}

void lua_http_stop(struct lua_http *http)
{
    http_service_stop(&http->service);
}

static const luaL_Reg req_methods[] = {
    {"header", req_header},
    {"body", req_body},
    {"read", req_read},
    {NULL, NULL},
};

static const luaL_Reg res_methods[] = {
    {"status", res_status}, {"header", res_header},     {"send", res_send},
    {"write", res_write},   {"sendfile", res_sendfile}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"engine", http_engine},
    {"serve", http_serve},
    {NULL, NULL},
};

static void new_class(lua_State *L, const char *name, const luaL_Reg *methods,
                      lua_CFunction index)
{
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_pushcclosure(L, index, 1);
    lua_setfield(L, -2, "__index");
}

int luaopen_moonpool_http(lua_State *L, struct lua_http *http)
{
    new_class(L, REQ, req_methods, req_index);
    lua_pushcfunction(L, req_newindex);
    lua_setfield(L, -2, "__newindex");
    new_class(L, RES, res_methods, res_index);
    luaL_newmetatable(L, ENGINE);
    lua_pushcfunction(L, engine_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 3);
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, http);
    luaL_setfuncs(L, functions, 1);
    return 1;
}

struct lua_http *lua_http_new(struct lua_conn_env *env)
{
    struct lua_http *http = alloc_zero(sizeof *http);
    http->env = env;
    http->service = (struct http_service){.loop = tasks_loop(env->tasks),
                                          .callbacks = &session_callbacks};
    return http;
}

void lua_http_free(struct lua_http *http)
{
    http_service_end(&http->service); /* all tasks have been cancelled by now */
    for (struct exchange *x; (x = http->idle_exchanges);) {
        http->idle_exchanges = x->next;
        free(x);
    }
    free(http);
}

void lua_http_set_callbacks(struct lua_http *http,
                            const struct lua_http_callbacks *callbacks, void *arg)
{
    http->callbacks = callbacks;
    http->arg = arg;
}
