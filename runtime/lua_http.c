/*
 * One struct session per connection: IDLE until the first byte of a request, READING its
 * head, then RUNNING a task for it. The head stays at the front of the conn's input until
 * the request is over, so that header fields are found there when they are asked for.
 *
 * A session's conn may fail while its task runs: the task goes on, its writes fail. The
 * session ends, with conn_close, only from session_step or when its task is over.
 */
#include "lua_http.h"

#include "alloc.h"
#include "http.h"
#include "log.h"
#include "lua_fail.h"

#include <assert.h>
#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENGINE "moonpool.http.engine"
#define REQ "moonpool.http.req"
#define RES "moonpool.http.res"

enum {
    KEEP_ALIVE_SECONDS = 60,
    HEAD_SECONDS = 10, /* from its first byte to its last */
};

static const struct http_limits head_limits = {16384, 8192, HTTP_HEADERS_MAX};

struct lua_http {
    struct lua_conn_env *env;
    const struct lua_http_callbacks *callbacks;
    void *arg;
    struct session *sessions;
    struct exchange *idle_exchanges;
    int stopping;
    time_t date_at;
    char date[40];
};

struct engine { /* the userdata; it is kept by a reference while a session needs it */
    struct lua_http *http;
    int handler; /* reference in the registry */
};

enum session_state { IDLE, READING, RUNNING };

struct session {
    struct lua_http *http;
    struct engine *engine;
    int engine_ref;
    struct conn *conn;
    enum session_state state;
    struct http_request *request; /* NULL while IDLE */
    struct exchange *exchange;    /* NULL unless RUNNING */
    struct loop_job job;
    struct timer timer;
    double deadline; /* of the state; the timer may be set to an earlier time */
    struct session *next, **prev;
};

/*
 * What req and res stand for. Exchanges are used again and never freed before lua_http,
 * so a box whose serial is not the exchange's is one of a request that is over.
 */
struct exchange {
    struct session *session;
    uint64_t serial;
    struct buf fields; /* of the response, "Name: value\r\n" each */
    int status;
    int sent, has_type, close;
    struct task *waiting;
    struct exchange *next; /* while idle */
};

struct exchange_box {
    struct exchange *exchange;
    uint64_t serial;
};

static void session_step(struct session *s);
static void wake_waiting(struct exchange *x);

/* -- sessions ------------------------------------------------------------------------ */

static struct loop *session_loop(const struct session *s)
{
    return tasks_loop(s->http->env->tasks);
}

static void session_set_deadline(struct session *s, double seconds)
{
    struct clock *clock = &session_loop(s)->clock;
    s->deadline = clock->now + seconds;
    if (!s->timer.place || s->timer.at > s->deadline)
        timer_start(clock, &s->timer, s->deadline);
}

static void session_link(struct session *s)
{
    s->next = s->http->sessions;
    s->prev = &s->http->sessions;
    if (s->next)
        s->next->prev = &s->next;
    s->http->sessions = s;
}

static void session_unlink(struct session *s)
{
    *s->prev = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

static void session_end(struct session *s)
{
    assert(s->state != RUNNING);
    conn_close(s->conn);
    timer_stop(&session_loop(s)->clock, &s->timer);
    session_unlink(s);
    luaL_unref(tasks_state(s->http->env->tasks), LUA_REGISTRYINDEX, s->engine_ref);
    free(s->request);
    s->conn = NULL;
    loop_free_later(session_loop(s), s);
}

static void session_job(void *arg)
{
    struct session *s = arg;
    if (s->conn)
        session_step(s);
}

static void session_soon(struct session *s)
{
    loop_soon(session_loop(s), &s->job);
}

/* -- answers ------------------------------------------------------------------------- */

static const char *http_date(struct lua_http *http)
{
    time_t now = time(NULL);
    if (now != http->date_at) {
        struct tm utc;
        gmtime_r(&now, &utc);
        strftime(http->date, sizeof http->date, "%a, %d %b %Y %H:%M:%S GMT", &utc);
        http->date_at = now;
    }
    return http->date;
}

/* RFC 9112 9.3: 1.1 stays open unless told, 1.0 closes unless told. */
static const char *connection_field(const struct session *s, int close)
{
    if (close)
        return "Connection: close\r\n";
    return s->request->minor == 0 ? "Connection: keep-alive\r\n" : "";
}

static void answer_refusal(struct session *s, int status, const char *reason,
                           int with_content)
{
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: text/plain\r\n"
                     "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                     status, http_phrase(status), http_date(s->http), strlen(reason) + 1);
    if (with_content)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s\n", reason);
    conn_put(s->conn, text, (size_t)n);
}

static void session_refuse(struct session *s, int status, const char *reason)
{
    answer_refusal(s, status, reason, 1);
    session_end(s);
}

/* RFC 9110 6.4.1: these have no content, whatever a handler says. */
static int has_no_content(int status)
{
    return status < 200 || status == 204 || status == 304;
}

static int is_method(const struct session *s, const char *name)
{
    struct http_span m = s->request->method;
    return m.len == strlen(name) &&
           memcmp(buf_head(conn_input(s->conn)) + m.at, name, m.len) == 0;
}

/* Whether all of the body has come; without one its length is 0. */
static int session_has_body(const struct session *s)
{
    return buf_len(conn_input(s->conn)) >= s->request->head_len + s->request->length;
}

static void put_head(struct exchange *x, size_t length)
{
    struct session *s = x->session;
    struct buf *fields = &x->fields;
    char head[256];
    x->close |= !session_has_body(s); /* it would have to be skipped: RFC 9112 9.3 */
    int n = snprintf(
        head, sizeof head, "HTTP/1.1 %d %s\r\nDate: %s\r\n%s%s", x->status,
        http_phrase(x->status), http_date(s->http), connection_field(s, x->close),
        x->has_type || !length ? "" : "Content-Type: text/plain; charset=utf-8\r\n");
    conn_put(s->conn, head, (size_t)n);
    conn_put(s->conn, buf_head(fields), buf_len(fields));
    n = has_no_content(x->status)
            ? snprintf(head, sizeof head, "\r\n")
            : snprintf(head, sizeof head, "Content-Length: %zu\r\n\r\n", length);
    conn_put(s->conn, head, (size_t)n);
    x->sent = 1;
}

/* -- a request's life ---------------------------------------------------------------- */

static struct exchange *exchange_begin(struct session *s)
{
    struct exchange *x = s->http->idle_exchanges;
    if (x)
        s->http->idle_exchanges = x->next;
    else
        x = alloc_zero(sizeof *x);
    *x = (struct exchange){.session = s, .serial = x->serial, .status = 200};
    x->close = !s->request->keep_alive || s->http->stopping;
    return x;
}

static void exchange_end(struct exchange *x)
{
    struct lua_http *http = x->session->http;
    buf_release(&x->fields);
    x->serial++;
    wake_waiting(x); /* a detached task: it is told that the request is over */
    x->next = http->idle_exchanges;
    http->idle_exchanges = x;
}

/* The body is skipped if it is here; if not, the connection cannot be used further. */
static int session_skip_request(struct session *s)
{
    if (!session_has_body(s))
        return -1;
    buf_skip(conn_input(s->conn), s->request->head_len + s->request->length);
    return 0;
}

static void session_after_request(struct session *s, int keep)
{
    s->state = IDLE;
    s->exchange = NULL;
    keep = keep && session_skip_request(s) == 0 && !conn_error(s->conn);
    http_request_init(s->request);
    if (!keep || s->http->stopping)
        session_end(s);
    else
        session_soon(s);
}

static void request_failed(struct session *s, struct exchange *x, const char *error)
{
    log_error("%s", error);
    if (s->http->callbacks && s->http->callbacks->on_error)
        s->http->callbacks->on_error(s->http->arg);
    if (!x->sent)
        answer_refusal(s, 500, "Internal Server Error", !is_method(s, "HEAD"));
}

static void request_done(lua_State *L, enum task_end how, int n, void *arg)
{
    struct session *s = arg;
    struct exchange *x = s->exchange;
    (void)n;
    if (how == TASK_RETURNED && !x->sent)
        put_head(x, 0);
    if (how == TASK_FAILED)
        request_failed(s, x, lua_tostring(L, -1));
    int keep = how == TASK_RETURNED && !x->close;
    exchange_end(x);
    session_after_request(s, keep);
}

static void push_box(lua_State *L, struct exchange *x, const char *name)
{
    struct exchange_box *box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (struct exchange_box){x, x->serial};
    luaL_setmetatable(L, name);
}

static int start_request(lua_State *L)
{
    struct session *s = lua_touserdata(L, 1);
    struct exchange *x = s->exchange;
    lua_rawgeti(L, LUA_REGISTRYINDEX, s->engine->handler);
    push_box(L, x, REQ);
    push_box(L, x, RES);
    task_start(s->http->env->tasks, L, 2, request_done, s);
    return 0;
}

static void session_run(struct session *s)
{
    struct lua_http *http = s->http;
    struct exchange *x = s->exchange = exchange_begin(s);
    s->state = RUNNING;
    s->deadline = INFINITY;
    if (http->callbacks && http->callbacks->on_request)
        http->callbacks->on_request(http->arg);
    if (tasks_protect(http->env->tasks, start_request, s) == 0)
        return;
    s->state = IDLE;
    s->exchange = NULL;
    exchange_end(x);
    session_refuse(s, 503, "out of memory");
}

/* What this server does not do yet is refused, not misread (RFC 9112 6.1). */
static int session_cannot(struct session *s)
{
    const struct http_request *rq = s->request;
    if (rq->body == HTTP_CHUNKED) {
        session_refuse(s, 501, "chunked request bodies are not supported");
        return 1;
    }
    if (rq->length > s->http->env->conns.limits.read - rq->head_len) {
        session_refuse(s, 413, "the body is too long");
        return 1;
    }
    return 0;
}

/* 1 there is a whole head, 0 not yet, -1 the session is over. */
static int session_parse(struct session *s)
{
    struct buf *in = conn_input(s->conn);
    if (!buf_len(in))
        return 0;
    if (s->state == IDLE) {
        s->state = READING;
        session_set_deadline(s, HEAD_SECONDS);
        if (!s->request) {
            s->request = alloc(sizeof *s->request);
            http_request_init(s->request);
        }
    }
    int parsed = http_parse(s->request, buf_head(in), buf_len(in), &head_limits);
    if (parsed < 0)
        session_refuse(s, s->request->status, s->request->reason);
    return parsed;
}

/* What has arrived is answered even while stopping; who says nothing is let go. */
static void session_wait(struct session *s)
{
    if (s->state == IDLE && s->http->stopping) {
        session_end(s);
        return;
    }
    if (s->state == IDLE) {
        free(s->request);
        s->request = NULL;
        session_set_deadline(s, KEEP_ALIVE_SECONDS);
    }
    conn_want_input(s->conn, 1);
}

static void session_input_ended(struct session *s)
{
    if (conn_error(s->conn) || conn_is_at_end(s->conn))
        session_end(s);
    else
        session_refuse(s, 431, "the head is longer than read_limit");
}

static void session_step(struct session *s)
{
    for (int parsed, filled; s->state != RUNNING;) {
        if (!conn_has_space(s->conn)) { /* it asks faster than it reads the answers */
            conn_want_room(s->conn, 1);
            return;
        }
        parsed = session_parse(s);
        if (parsed < 0)
            return;
        if (parsed) {
            if (!session_cannot(s))
                session_run(s);
            return;
        }
        filled = conn_fill(s->conn);
        if (filled == 0) {
            session_wait(s);
            return;
        }
        if (filled < 0) {
            session_input_ended(s);
            return;
        }
    }
}

static void wake_waiting(struct exchange *x)
{
    struct task *t = x ? x->waiting : NULL;
    if (t) {
        x->waiting = NULL;
        task_wake(t);
    }
}

static void on_input(struct conn *c, void *arg)
{
    struct session *s = arg;
    (void)c;
    if (s->state == RUNNING)
        wake_waiting(s->exchange);
    else
        session_step(s);
}

static void on_room(struct conn *c, void *arg)
{
    on_input(c, arg);
}

static const struct conn_callbacks conn_callbacks = {on_input, on_room};

static void on_timer(void *arg)
{
    struct session *s = arg;
    struct clock *clock = &session_loop(s)->clock;
    if (s->state == RUNNING)
        return;
    if (s->deadline > clock->now)
        timer_start(clock, &s->timer, s->deadline);
    else if (s->state == READING)
        session_refuse(s, 408, "the request did not arrive in time");
    else
        session_end(s);
}

/* -- req ----------------------------------------------------------------------------- */

static struct exchange *check_exchange(lua_State *L, const char *name)
{
    struct exchange_box *box = luaL_checkudata(L, 1, name);
    if (box->exchange->serial != box->serial)
        luaL_error(L, "this request is over: take what you need of it before the handler "
                      "returns");
    return box->exchange;
}

static void push_span(lua_State *L, const struct exchange *x, struct http_span span)
{
    lua_pushlstring(L, buf_head(conn_input(x->session->conn)) + span.at, span.len);
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
    struct http_span path = x->session->request->path;
    const char *s = buf_head(conn_input(x->session->conn)) + path.at;
    if (memchr(s, '%', path.len))
        push_decoded(L, s, path.len);
    else
        lua_pushlstring(L, s, path.len);
}

static void push_header(lua_State *L, const struct exchange *x, const char *name)
{
    const char *data = buf_head(conn_input(x->session->conn));
    char small[64];
    size_t n = strlen(name);
    char *lower = n < sizeof small ? small : lua_newuserdatauv(L, n + 1, 0);
    for (size_t i = 0; i <= n; i++)
        lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i];
    const struct http_header *h = http_find(x->session->request, data, lower);
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

/* By the time that a cancelled task comes here, another may wait. */
static void forget_wait(struct task *t, void *arg)
{
    struct exchange *x = arg;
    if (x->waiting != t)
        return;
    x->waiting = NULL;
    conn_want_input(x->session->conn, 0);
    conn_want_room(x->session->conn, 0);
}

static void check_nobody_waits(lua_State *L, const struct exchange *x)
{
    if (x->waiting)
        luaL_error(L, "another task is waiting for this request");
}

static int exchange_wait(lua_State *L, struct exchange *x, lua_KContext ctx,
                         lua_KFunction k)
{
    struct tasks *ts = x->session->http->env->tasks;
    x->waiting = task_current(ts);
    return task_wait(ts, L, INFINITY, forget_wait, x, ctx, k);
}

static int req_body_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check_exchange(L, REQ);
    const struct http_request *rq = x->session->request;
    struct conn *c = x->session->conn;
    (void)status, (void)ctx;
    while (buf_len(conn_input(c)) < rq->head_len + rq->length) {
        int filled = conn_fill(c);
        if (filled < 0)
            return lua_fail(L, conn_error(c));
        if (filled == 0) {
            check_nobody_waits(L, x);
            conn_want_input(c, 1);
            return exchange_wait(L, x, 0, req_body_k);
        }
    }
    push_span(L, x, (struct http_span){rq->head_len, (uint32_t)rq->length});
    return 1;
}

/* req:body() -> string | nil, message, code */
static int req_body(lua_State *L)
{
    struct exchange *x = check_exchange(L, REQ);
    if (x->session->request->expect_continue && x->session->request->length && !x->sent) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n"; /* RFC 9110 10.1.1 */
        x->session->request->expect_continue = 0;
        conn_put(x->session->conn, go_on, sizeof go_on - 1);
    }
    return req_body_k(L, LUA_OK, 0);
}

static int push_peer(lua_State *L, const struct exchange *x)
{
    struct address a;
    char text[ADDRESS_TEXT];
    if (conn_peer(x->session->conn, &a) < 0)
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
    const struct http_request *rq = x->session->request;
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
    if (x->sent)
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

/* The context is how much of the body, at index 2, is written already. */
static int res_send_k(lua_State *L, int status, lua_KContext at)
{
    struct exchange *x = check_exchange(L, RES);
    size_t len, done = (size_t)at;
    const char *body = lua_tolstring(L, 2, &len);
    (void)status;
    while (done < len) {
        ssize_t n = conn_write(x->session->conn, body + done, len - done);
        if (n < 0)
            return lua_fail(L, conn_error(x->session->conn));
        done += (size_t)n;
        if (n == 0) {
            check_nobody_waits(L, x);
            conn_want_room(x->session->conn, 1);
            return exchange_wait(L, x, (lua_KContext)done, res_send_k);
        }
    }
    lua_settop(L, 1);
    return 1;
}

/* res:send(body) -> res | nil, message, code */
static int res_send(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    size_t len;
    luaL_optlstring(L, 2, "", &len);
    lua_settop(L, 2);
    put_head(x, len);
    if (has_no_content(x->status) || !len || is_method(x->session, "HEAD"))
        return lua_settop(L, 1), 1;
    return res_send_k(L, LUA_OK, 0);
}

static int res_index(lua_State *L)
{
    const char *key = luaL_checkstring(L, 2);
    if (strcmp(key, "sent") == 0)
        lua_pushboolean(L, check_exchange(L, RES)->sent);
    else
        lua_getfield(L, lua_upvalueindex(1), key);
    return 1;
}

/* -- engines ------------------------------------------------------------------------- */

/* http.engine(fn) -> engine */
static int http_engine(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct engine *e = lua_newuserdatauv(L, sizeof *e, 0);
    *e = (struct engine){lua_touserdata(L, lua_upvalueindex(1)), LUA_NOREF};
    luaL_setmetatable(L, ENGINE);
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
    struct session *s = alloc_zero(sizeof *s);
    s->http = e->http;
    s->engine = e;
    s->engine_ref = ref;
    s->conn = lua_conn_take(L, 2);
    s->job = (struct loop_job){.run = session_job, .arg = s};
    timer_init(&s->timer, on_timer, s);
    conn_set_owner(s->conn, &conn_callbacks, s);
    session_link(s);
    session_soon(s);
    return 0;
}

void lua_http_stop(struct lua_http *http)
{
    http->stopping = 1;
    for (struct session *s = http->sessions, *next; s; s = next) {
        next = s->next;
        if (s->state == IDLE)
            session_soon(s);
    }
}

static const luaL_Reg req_methods[] = {
    {"header", req_header},
    {"body", req_body},
    {NULL, NULL},
};

static const luaL_Reg res_methods[] = {
    {"status", res_status},
    {"header", res_header},
    {"send", res_send},
    {NULL, NULL},
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
    return http;
}

void lua_http_free(struct lua_http *http)
{
    while (http->sessions) {
        http->sessions->state = IDLE; /* its task is cancelled by now */
        session_end(http->sessions);
    }
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
