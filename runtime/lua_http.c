/*
 * A request that has begun in a session gets an exchange, which req and res stand for,
 * and a task that calls the engine's function with the two.
 */
#include "lua_http.h"

#include "alloc.h"
#include "handler.h"
#include "log.h"
#include "lua_query.h"
#include "lua_req.h"
#include "lua_res.h"
#include "lua_routes.h"
#include "script.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#define ENGINE "moonpool.http.engine"

enum { HEAD_MOST = 1 << 24 };

static const struct http_settings default_settings = {
    .keep_alive = 60,
    .head_time = 10,
    .idle_time = 30,
    .min_rate = 240,
    .body = 1 << 20,
    .head = {.head = 16384, .target = 8192, .headers = HTTP_HEADERS_MAX},
};

struct lua_http {
    const struct lua_http_callbacks *callbacks;
    void *arg;
    struct http_service service;
    struct exchanges exchanges;
};

/*
 * The userdata. Its functions are its user values, so that it is collected with them,
 * which in turn know it. While it has clients it is kept by a reference to the first of
 * them: one for all, as each value in the registry is looked at by each collection.
 */
struct engine {
    struct lua_http *http;
    struct http_site site; /* open while it has clients */
    int has_handler, has_answered;
    int ref;
    size_t clients; /* connections, and tasks of those that have gone over */
};

enum { SERVE = 1, ANSWERED, PLAN, RESUME, ENGINE_VALUES = RESUME };

/* The upvalues of serve_request; who serves: the handler or the routes, nil while these
 * are out of date. */
enum {
    REQ_METATABLE = 1,
    RES_METATABLE,
    SERVED,
    WHO_SERVES,
    SERVE_UPVALUES = WHO_SERVES
};

static lua_State *http_state(const struct lua_http *http)
{
    return tasks_state(http->exchanges.env->tasks);
}

/* -- a request's life ---------------------------------------------------------------- */

static void request_failed(struct lua_http *http, const char *error)
{
    log_error("%s", error);
    if (http->callbacks && http->callbacks->on_error)
        http->callbacks->on_error(http->arg);
}

static void engine_release(struct engine *e)
{
    if (--e->clients)
        return;
    http_site_close(&e->site);
    luaL_unref(http_state(e->http), LUA_REGISTRYINDEX, e->ref);
}

static void check_complete(struct http_session *s)
{
    if (http_session_unsent(s) && !http_session_error(s))
        log_error("a response is %" PRIu64 " bytes shorter than its length",
                  http_session_unsent(s));
}

/* What the handler has left to be done; nothing, if its request's content failed. */
static void exchange_complete(struct exchange *x)
{
    struct http_session *s = x->session;
    if (!s || http_session_body_failed(s))
        return;
    if (!http_session_has_begun(s))
        lua_res_begin(x, x->length < 0 ? 0 : x->length);
    if (buf_len(&x->trailers.text))
        http_session_put_trailers(s, &x->trailers.text);
    check_complete(s);
}

static const int failure_status[] = {
    [TASK_RETURNED] = 0,
    [TASK_CANCELLED] = 500,
    [TASK_FAILED] = 500,
    [TASK_INTERRUPTED] = 503,
};

static void close_upgraded(lua_State *L, int ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    lua_conn_close(lua_touserdata(L, -1));
    lua_pop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
}

/* What the handler has of a connection that is not HTTP's any more ends with it. */
static void end_upgraded(lua_State *L, struct exchange *x)
{
    if (x->upgraded != LUA_NOREF)
        close_upgraded(L, x->upgraded);
    engine_release(x->owner);
}

static void request_done(lua_State *L, enum task_end how, int n, void *arg)
{
    struct exchange *x = arg;
    struct engine *e = x->owner;
    (void)n;
    if (how >= TASK_FAILED)
        request_failed(e->http, lua_tostring(L, -1));
    if (how == TASK_RETURNED)
        exchange_complete(x);
    exchange_retire(x);
    if (x->session)
        http_session_done(x->session, failure_status[how]);
    else
        end_upgraded(L, x);
    luaL_unref(L, LUA_REGISTRYINDEX, x->kept);
    exchange_end(x);
}

static const struct task_callbacks request_callbacks = {.done = request_done};

/* The request is kept for as long as it takes to call engine.answered. */
static void keep_request(lua_State *L, struct exchange *x)
{
    lua_pushvalue(L, -1);
    x->kept = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Pushes the engine's routes, made anew if they are out of date. */
static void push_routes(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(WHO_SERVES));
    if (!lua_isnil(L, -1))
        return;
    lua_getiuservalue(L, lua_upvalueindex(SERVED), PLAN);
    lua_call(L, 0, 1);
    lua_routes_check(L, -1);
    lua_copy(L, -1, lua_upvalueindex(WHO_SERVES));
}

/* Pushes the names of the path's values and what serves the request: 0, or -1. */
static int push_handler(lua_State *L, struct exchange *x, const char **why)
{
    const struct engine *e = x->owner;
    if (e->has_handler) {
        lua_pushnil(L);
        lua_pushvalue(L, lua_upvalueindex(WHO_SERVES));
        return 0;
    }
    push_routes(L);
    return lua_routes_find(L, lua_gettop(L), x, why);
}

/* The request is well-formed and the conn goes on. */
static void refuse_path(struct http_session *s, const char *why)
{
    static const struct http_fields none;
    size_t len = strlen(why);
    http_session_begin(s, &(struct http_answer){.status = 400,
                                                .fields = &none,
                                                .length = (int64_t)len + 1});
    http_session_write(s, why, len);
    http_session_write(s, "\n", 1);
}

/* What middleware and handlers have as next, where nothing follows. */
static int nothing(lua_State *L)
{
    (void)L;
    return 0;
}

/* Behind the two of push_handler. */
static void push_request(lua_State *L, struct exchange *x)
{
    const struct engine *e = x->owner;
    exchange_push(L, x, &lua_req, lua_upvalueindex(REQ_METATABLE));
    if (e->has_answered)
        keep_request(L, x);
    if (x->value_count) {
        lua_pushvalue(L, -3);
        lua_req_set_names(L, -2);
    }
}

static int serve_request_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)L, (void)status, (void)ctx;
    return 0;
}

/* The task of a request: finds its function and calls it. */
static int serve_request(lua_State *L)
{
    struct exchange *x = lua_touserdata(L, 1);
    const struct engine *e = x->owner;
    struct tasks *tasks = e->http->exchanges.env->tasks;
    const char *refusal;
    task_set_number(task_current(tasks), conn_record(http_session_conn(x->session)));
    if (push_handler(L, x, &refusal) < 0) {
        refuse_path(x->session, refusal);
        return 0;
    }
    push_request(L, x);
    exchange_push(L, x, &lua_res, lua_upvalueindex(RES_METATABLE));
    lua_pushcfunction(L, nothing);
    lua_callk(L, 3, 0, 0, serve_request_k);
    return 0;
}

static void on_request(struct http_session *s, void *arg)
{
    struct engine *e = arg;
    struct lua_http *http = e->http;
    struct exchange *x = exchange_begin(&http->exchanges, s, e);
    http_session_set_exchange(s, x);
    if (http->callbacks && http->callbacks->on_request)
        http->callbacks->on_request(http->arg);
    if (task_run_c(http->exchanges.env->tasks, e->ref, &request_callbacks, x) == 0)
        return;
    http_session_refuse(s, 503, "the server cannot take this request now");
    exchange_end(x);
}

static void on_ready(struct http_session *s, void *arg)
{
    (void)arg;
    exchange_wake(http_session_exchange(s));
}

static void on_leave(void *arg)
{
    engine_release(arg);
}

/* -- after an answer ----------------------------------------------------------------- */

struct answer {
    struct engine *engine;
    struct http_session *session;
    struct http_outcome outcome;
};

static void set_text(lua_State *L, const char *key, const char *text, struct http_span s)
{
    if (!s.len)
        return;
    lua_pushlstring(L, text + s.at, s.len);
    lua_setfield(L, -2, key);
}

static void set_field(lua_State *L, const char *key, const struct answer *a,
                      const char *name)
{
    const char *text = http_session_text(a->session);
    const struct http_header *h = http_find(http_session_request(a->session), text, name);
    if (h)
        set_text(L, key, text, h->value);
}

static void set_peer(lua_State *L, const struct answer *a)
{
    struct address peer;
    char text[ADDRESS_TEXT];
    if (conn_peer(http_session_conn(a->session), &peer) < 0)
        return;
    address_format(&peer, text);
    lua_pushstring(L, text);
    lua_setfield(L, -2, "peer");
}

static void set_head(lua_State *L, const struct answer *a)
{
    const struct http_request *rq = http_session_request(a->session);
    const char *text = http_session_text(a->session);
    set_text(L, "method", text, rq->method);
    set_text(L, "target", text, rq->target);
    set_field(L, "referer", a, "referer");
    set_field(L, "user_agent", a, "user-agent");
    if (rq->target.len) {
        lua_pushfstring(L, "HTTP/1.%d", rq->minor);
        lua_setfield(L, -2, "version");
    }
}

/* The request's own values: entry.req. */
static void set_own(lua_State *L, const struct exchange *x)
{
    int entry = lua_gettop(L);
    if (!x)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, x->kept);
    if (lua_isuserdata(L, -1) && exchange_get_own(L, -1))
        lua_setfield(L, entry, "req");
    lua_settop(L, entry);
}

static void push_answered(lua_State *L, const struct engine *e)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->ref);
    lua_getupvalue(L, -1, SERVED);
    lua_getiuservalue(L, -1, ANSWERED);
}

/* engine.answered(entry) */
static int tell_answered(lua_State *L)
{
    const struct answer *a = lua_touserdata(L, 1);
    push_answered(L, a->engine);
    lua_newtable(L);
    lua_pushinteger(L, a->outcome.status);
    lua_setfield(L, -2, "status");
    lua_pushinteger(L, (lua_Integer)a->outcome.bytes);
    lua_setfield(L, -2, "bytes");
    lua_pushnumber(L, a->outcome.seconds);
    lua_setfield(L, -2, "seconds");
    set_peer(L, a);
    set_head(L, a);
    set_own(L, http_session_exchange(a->session));
    lua_call(L, 1, 0);
    return 0;
}

static void on_answered(struct http_session *s, void *arg)
{
    struct engine *e = arg;
    struct answer a = {e, s, http_session_outcome(s)};
    if (e->has_answered)
        tasks_protect(e->http->exchanges.env->tasks, tell_answered, &a);
}

/* The same from within a handler, whose state it is. */
static void on_upgrade(lua_State *L, struct exchange *x)
{
    struct engine *e = x->owner;
    struct answer a = {e, x->session, http_session_outcome(x->session)};
    e->clients++; /* until end_upgraded */
    if (!e->has_answered)
        return;
    a.outcome.status = x->status;
    lua_pushcfunction(L, tell_answered);
    lua_pushlightuserdata(L, &a);
    if (script_call(L, 1, 0) != LUA_OK) {
        log_error("%s", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
}

static const struct http_session_callbacks session_callbacks = {on_request, on_ready,
                                                                on_answered, on_leave};

/* -- engines ------------------------------------------------------------------------- */

/* The number of that key in the table at 2, or what *n is. */
static void take_number(lua_State *L, const char *key, double *n)
{
    lua_getfield(L, 2, key);
    *n = luaL_optnumber(L, -1, *n);
    if (!(*n >= 0))
        luaL_error(L, "%s: negative", key);
    lua_pop(L, 1);
}

static void take_count(lua_State *L, const char *key, uint32_t *count, double most)
{
    double n = *count;
    take_number(L, key, &n);
    if (n > most)
        luaL_error(L, "%s: more than %d", key, (int)most);
    *count = (uint32_t)n;
}

static void take_settings(lua_State *L, struct http_settings *s)
{
    double body = (double)s->body;
    take_number(L, "keep_alive", &s->keep_alive);
    take_number(L, "head_time", &s->head_time);
    take_number(L, "idle_time", &s->idle_time);
    take_number(L, "min_rate", &s->min_rate);
    take_number(L, "body_limit", &body);
    s->body = body < (double)INT64_MAX ? (uint64_t)body : INT64_MAX;
    take_count(L, "requests", &s->requests, INT32_MAX);
    take_count(L, "connections_per_address", &s->per_address, INT32_MAX);
    take_count(L, "head_limit", &s->head.head, HEAD_MOST);
    take_count(L, "target_limit", &s->head.target, HEAD_MOST);
    take_count(L, "header_limit", &s->head.headers, HTTP_HEADERS_MAX);
}

enum { ENGINE_INDEX = 4 }; /* behind the arguments of http.engine */

static int take_answered(lua_State *L)
{
    if (lua_getfield(L, 2, "answered") == LUA_TNIL)
        return 0;
    if (!lua_isfunction(L, -1))
        luaL_error(L, "answered: not a function");
    lua_setiuservalue(L, ENGINE_INDEX, ANSWERED);
    return 1;
}

/* Makes the engine's function for the task of a request. */
static void set_serve(lua_State *L)
{
    luaL_getmetatable(L, lua_req.name);
    luaL_getmetatable(L, lua_res.name);
    lua_pushvalue(L, ENGINE_INDEX);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, serve_request, SERVE_UPVALUES);
    lua_setiuservalue(L, ENGINE_INDEX, SERVE);
}

/* http.engine(handler [, settings]) -> engine; http.engine(nil, settings, plan) */
static int http_engine(lua_State *L)
{
    int has_plan = lua_isnil(L, 1);
    luaL_checktype(L, has_plan ? 3 : 1, LUA_TFUNCTION);
    lua_settop(L, 3);
    struct engine *e = lua_newuserdatauv(L, sizeof *e, ENGINE_VALUES);
    *e = (struct engine){.http = lua_touserdata(L, lua_upvalueindex(1)),
                         .site = {.settings = default_settings},
                         .has_handler = !has_plan};
    e->site.arg = e;
    luaL_setmetatable(L, ENGINE);
    if (lua_istable(L, 2)) {
        take_settings(L, &e->site.settings);
        e->has_answered = take_answered(L);
    }
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, ENGINE_INDEX, PLAN);
    set_serve(L);
    lua_settop(L, ENGINE_INDEX);
    return 1;
}

/* http.replan(engine): its routes are out of date */
static int http_replan(lua_State *L)
{
    const struct engine *e = luaL_checkudata(L, 1, ENGINE);
    luaL_argcheck(L, !e->has_handler, 1, "it has no routes");
    lua_getiuservalue(L, 1, SERVE);
    lua_pushnil(L);
    lua_setupvalue(L, -2, WHO_SERVES);
    return 0;
}

/* The engine is at the top, and is popped. */
static struct engine *engine_keep(lua_State *L)
{
    struct engine *e = lua_touserdata(L, -1);
    if (!e->clients) {
        lua_getiuservalue(L, -1, SERVE);
        e->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        http_site_open(&e->site, &e->http->service, &e->http->exchanges.env->conns);
    }
    lua_pop(L, 1);
    e->clients++;
    return e;
}

/* http.serve(engine, conn) */
static int http_serve(lua_State *L)
{
    luaL_checkudata(L, 1, ENGINE);
    lua_conn_check_idle(L, 2);
    lua_pushvalue(L, 1);
    struct engine *e = engine_keep(L);
    http_site_take(&e->site, lua_conn_take(L, 2));
    return 0;
}

/* The same for connections that no Lua has seen. */
static void engine_take(lua_State *L, struct conn *conn)
{
    http_site_take(&engine_keep(L)->site, conn);
}

static void engine_cut(lua_State *L, struct conn *conn)
{
    http_site_refuse(&engine_keep(L)->site, conn, 502, "the request was interrupted");
}

/* One that an upgraded connection has left for its successor: fn(conn, state, why). */
static void engine_resume(lua_State *L, struct conn *conn, const struct parcel *p)
{
    struct engine *e = lua_touserdata(L, -1);
    struct lua_conn *box = lua_conn_push(L, e->http->exchanges.env);
    lua_getiuservalue(L, -2, RESUME);
    lua_pushvalue(L, -2);
    lua_pushlstring(L, p->state, p->state_len);
    lua_pushstring(L, parcel_whys[p->why]);
    lua_conn_adopt(box, conn);
    if (script_call(L, 3, 0) == LUA_OK)
        return;
    request_failed(e->http, lua_tostring(L, -1));
    lua_conn_close(box);
}

static int engine_can_resume(lua_State *L)
{
    int can = lua_getiuservalue(L, -1, RESUME) == LUA_TFUNCTION;
    lua_pop(L, 1);
    return can;
}

static const struct handler_taker engine_taker = {engine_take, engine_cut, engine_resume,
                                                  engine_can_resume};

/* http.resumes(engine, fn) */
static int http_resumes(lua_State *L)
{
    luaL_checkudata(L, 1, ENGINE);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, RESUME);
    return 0;
}

/* http.keep(conn, bytes): a checkpoint for the fn of http.resumes */
static int http_keep(lua_State *L)
{
    size_t len;
    struct lua_conn *box = lua_conn_check(L, 1);
    const char *bytes = luaL_checklstring(L, 2, &len);
    luaL_argcheck(L, len && (uint8_t)bytes[0] & PARCEL_TAKERS, 2, "a script's");
    lua_conn_checkpoint(box, bytes, len);
    return 0;
}

/* http.phrase(status) -> its standard phrase */
static int http_phrase_of(lua_State *L)
{
    lua_pushstring(L, http_phrase((int)luaL_checkinteger(L, 1)));
    return 1;
}

void lua_http_stop(struct lua_http *http)
{
    http_service_stop(&http->service);
}

static const luaL_Reg functions[] = {
    {"engine", http_engine},    {"replan", http_replan},
    {"routes", lua_routes_new}, {"serve", http_serve},
    {"phrase", http_phrase_of}, {"parse_query", lua_query_parse},
    {"fields", lua_res_fields}, {"resumes", http_resumes},
    {"keep", http_keep},        {NULL, NULL},
};

/* The table is on the top. */
static void open_classes(lua_State *L)
{
    lua_req_open(L);
    lua_setfield(L, -2, "req");
    lua_res_open(L);
    lua_setfield(L, -2, "res");
}

int luaopen_moonpool_http(lua_State *L, struct lua_http *http)
{
    luaL_newmetatable(L, ENGINE);
    lua_pushlightuserdata(L, (void *)&engine_taker);
    lua_setfield(L, -2, "__take");
    lua_pop(L, 1);
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, http);
    luaL_setfuncs(L, functions, 1);
    luaopen_moonpool_routes(L);
    open_classes(L);
    return 1;
}

struct lua_http *lua_http_new(struct lua_conn_env *env)
{
    struct lua_http *http = alloc_zero(sizeof *http);
    http->exchanges = (struct exchanges){.env = env, .on_upgrade = on_upgrade};
    http->service = (struct http_service){.loop = tasks_loop(env->tasks),
                                          .callbacks = &session_callbacks};
    return http;
}

void lua_http_free(struct lua_http *http)
{
    http_service_end(&http->service); /* all tasks have been cancelled by now */
    exchanges_free(&http->exchanges);
    free(http);
}

void lua_http_set_callbacks(struct lua_http *http,
                            const struct lua_http_callbacks *callbacks, void *arg)
{
    http->callbacks = callbacks;
    http->arg = arg;
}
