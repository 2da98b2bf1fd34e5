#include "lua_res.h"

#include "http_fields.h"
#include "lua_fail.h"
#include "lua_fd.h"

#include <lauxlib.h>
#include <string.h>
#include <strings.h>

static struct exchange *check(lua_State *L)
{
    return exchange_check(L, &lua_res);
}

static struct exchange *unsent(lua_State *L, struct exchange *x)
{
    if (http_session_has_begun(x->session))
        luaL_error(L, "the response has been sent already");
    return x;
}

static struct exchange *check_unsent(lua_State *L)
{
    return unsent(L, check(L));
}

void lua_res_begin(struct exchange *x, int64_t length)
{
    http_session_begin(x->session, &(struct http_answer){.status = x->status,
                                                         .fields = &x->fields,
                                                         .length = length,
                                                         .close = x->close});
}

/* -- the head ------------------------------------------------------------------------ */

/* res:status(code) -> res; res:status() -> code */
static int res_status(lua_State *L)
{
    if (lua_gettop(L) == 1) {
        lua_pushinteger(L, check(L)->status);
        return 1;
    }
    struct exchange *x = check_unsent(L);
    lua_Integer status = luaL_checkinteger(L, 2);
    luaL_argcheck(L, status >= 200 && status <= 599, 2, "status must be from 200 to 599");
    x->status = (int)status;
    lua_settop(L, 1);
    return 1;
}

/* A field's name. */
static const char *check_name(lua_State *L, int index, size_t *len)
{
    const char *name = luaL_checklstring(L, index, len);
    luaL_argcheck(L, *len > 0, index, "a header must have a name");
    luaL_argcheck(L, http_is_token(name, *len), index,
                  "not a header name (RFC 9110 5.6.2)");
    return name;
}

/* Its value: with no CR or LF, and none of the others. */
static const char *check_value(lua_State *L, int index, size_t *len)
{
    const char *value = luaL_checklstring(L, index, len);
    luaL_argcheck(L, http_is_value(value, *len), index > 0 ? index : 3,
                  "control characters in a header value");
    return value;
}

static int is_one_of(const char *name, size_t len, const char *const *names)
{
    for (; *names; names++)
        if (http_name_is(name, len, *names))
            return 1;
    return 0;
}

/* Length and connection are not the handler's: of the latter it can say "close". */
static int is_connection(lua_State *L, const char *name, size_t len)
{
    static const char *const computed[] = {"content-length", "transfer-encoding", NULL};
    luaL_argcheck(L, !is_one_of(name, len, computed), 2,
                  "the length is computed, or declared with res:length");
    return http_name_is(name, len, "connection");
}

/* The field of the name at 2 and the value at index. */
static void add_field(lua_State *L, struct exchange *x, int index)
{
    size_t name_len, value_len;
    const char *name = check_name(L, 2, &name_len);
    const char *value = check_value(L, index, &value_len);
    if (is_connection(L, name, name_len))
        x->close = x->close || strcasecmp(value, "close") == 0;
    else
        http_fields_add(&x->fields, name, name_len, value, value_len);
}

/* What http.fields returns. */
struct prepared {
    const void *kind; /* tells it from any other userdata */
    struct http_fields fields;
    char text[]; /* theirs */
};

static const char prepared_kind;

static struct prepared *test_prepared(lua_State *L, int index)
{
    struct prepared *p = lua_touserdata(L, index);
    return p && lua_rawlen(L, index) >= sizeof *p && p->kind == &prepared_kind ? p : NULL;
}

/* The length that name and value have as a field, after they were checked. */
static size_t check_prepared(lua_State *L, int index)
{
    size_t name_len, value_len;
    const char *name = check_name(L, index, &name_len);
    check_value(L, index + 1, &value_len);
    luaL_argcheck(L, !is_connection(L, name, name_len), index,
                  "that is said of each response");
    return name_len + value_len + strlen(": \r\n");
}

/* fields(name, value, ...) -> fields */
int lua_res_fields(lua_State *L)
{
    int count = lua_gettop(L);
    size_t size = 0;
    luaL_argcheck(L, count % 2 == 0, count, "a name without a value");
    for (int i = 1; i <= count; i += 2)
        size += check_prepared(L, i);
    struct prepared *p = lua_newuserdatauv(L, sizeof *p + size, 0);
    *p = (struct prepared){&prepared_kind,
                           {.text = {.data = p->text, .size = (uint32_t)size}}};
    for (int i = 1; i <= count; i += 2) {
        size_t name_len, value_len;
        const char *name = lua_tolstring(L, i, &name_len);
        const char *value = lua_tolstring(L, i + 1, &value_len);
        http_fields_add(&p->fields, name, name_len, value, value_len);
    }
    return 1;
}

/* res:header(name, value) -> res; res:header(fields) -> res */
static int res_header(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    const struct prepared *p = test_prepared(L, 2);
    if (p)
        http_fields_append(&x->fields, &p->fields);
    else
        add_field(L, x, 3);
    lua_settop(L, 1);
    return 1;
}

/* res:default_type(type) -> res */
static int res_default_type(lua_State *L)
{
    static const char name[] = "Content-Type";
    size_t len;
    struct exchange *x = check_unsent(L);
    const char *type = check_value(L, 2, &len);
    if (!(x->fields.has & HTTP_CONTENT_TYPE))
        http_fields_add(&x->fields, name, sizeof name - 1, type, len);
    lua_settop(L, 1);
    return 1;
}

static const struct exchange_class headers_view;

static int view_index(lua_State *L)
{
    size_t len;
    struct http_header h = {0};
    struct exchange *x = exchange_check(L, &headers_view);
    const char *name = luaL_checklstring(L, 2, &len);
    const struct buf *text = &x->fields.text;
    if (!http_fields_find(text, &h, name, len))
        return 0;
    lua_pushlstring(L, buf_head(text) + h.value.at, h.value.len);
    return 1;
}

static void add_list(lua_State *L, struct exchange *x)
{
    for (lua_Integer i = 1; lua_geti(L, 3, i) != LUA_TNIL; i++) {
        add_field(L, x, -1);
        lua_pop(L, 1);
    }
}

/* (view, name, value) */
static int view_newindex(lua_State *L)
{
    size_t len;
    struct exchange *x = unsent(L, exchange_check(L, &headers_view));
    const char *name = check_name(L, 2, &len);
    http_fields_remove(&x->fields, name, len);
    if (lua_istable(L, 3))
        add_list(L, x);
    else if (!lua_isnil(L, 3))
        add_field(L, x, 3);
    return 0;
}

static const luaL_Reg view_functions[] = {
    {"__index", view_index}, {"__newindex", view_newindex}, {NULL, NULL}};

static const struct exchange_class headers_view = {.name = "moonpool.http.res.headers",
                                                   .methods = view_functions};

static int push_headers(lua_State *L, struct exchange *x)
{
    exchange_push_view(L, x, &headers_view);
    return 1;
}

/* -- the content --------------------------------------------------------------------- */

/* Writes the strings from index 2 on. */
static int res_write_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check(L);
    (void)status, (void)ctx;
    for (; x->current <= lua_gettop(L); x->current++, x->at = 0) {
        size_t len;
        const char *data = lua_tolstring(L, x->current, &len);
        while (x->at < len) {
            ssize_t n = http_session_write(x->session, data + x->at, len - x->at);
            if (n == 0)
                return exchange_wait_room(L, x, res_write_k);
            if (n < 0)
                return exchange_fail(L, x);
            x->at += (size_t)n;
        }
    }
    lua_settop(L, 1);
    return 1;
}

/* "return write_rest(...)" where so much of the string at 2 has been taken; -1: failed. */
static int write_rest(lua_State *L, struct exchange *x, ssize_t taken)
{
    x->current = 2;
    x->at = taken > 0 ? (size_t)taken : 0;
    return res_write_k(L, LUA_OK, 0);
}

/* res:send([body]) -> res | nil, message, code */
static int res_send(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    size_t len = 0;
    const char *body = lua_tolstring(L, 2, &len);
    if (!body && !lua_isnone(L, 2)) /* nil is what failed, as req:body() may */
        luaL_checklstring(L, 2, &len);
    lua_res_begin(x, (int64_t)len);
    ssize_t taken = len ? http_session_write(x->session, body, len) : 0;
    if (taken != (ssize_t)len) {
        lua_settop(L, 2);
        return write_rest(L, x, taken);
    }
    lua_settop(L, 1);
    return 1;
}

/* The response goes on by pieces, of which one of n bytes is next. */
static void stream(lua_State *L, struct exchange *x, size_t n)
{
    if (!x->streams)
        check_unsent(L);
    exchange_check_waits(L, x);
    uint64_t left = x->streams ? http_session_unsent(x->session) : (uint64_t)x->length;
    if (x->length >= 0 && n > left)
        luaL_error(L, "more than the length that was declared");
    if (!x->streams)
        lua_res_begin(x, x->length);
    x->streams = 1;
}

/* res:write(...) -> res | nil, message, code */
static int res_write(lua_State *L)
{
    struct exchange *x = check(L);
    int count = lua_gettop(L) - 1;
    size_t total = 0, len;
    for (int i = 1; i <= count; i++, total += len)
        luaL_checklstring(L, 1 + i, &len);
    stream(L, x, total);
    if (count > 1)
        lua_concat(L, count); /* one chunk */
    return write_rest(L, x, 0);
}

/* res:length(n) -> res */
static int res_length(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    lua_Integer n = luaL_checkinteger(L, 2);
    luaL_argcheck(L, n >= 0, 2, "negative");
    x->length = n;
    lua_settop(L, 1);
    return 1;
}

/* The file is at index 2, what is left of it at index 3. */
static int res_sendfile_k(lua_State *L, int status, lua_KContext ctx)
{
    struct exchange *x = check(L);
    struct lua_fd_part *part = lua_touserdata(L, 3);
    (void)status, (void)ctx;
    int done =
        http_session_sendfile(x->session, lua_fd_of(L, 2), &part->offset, &part->left);
    if (done == 0)
        return exchange_wait_drained(L, x, res_sendfile_k);
    if (done < 0)
        return exchange_fail(L, x);
    lua_settop(L, 1);
    return 1;
}

/* res:sendfile(path | file | fd [, offset = 0 [, length]]) -> res | nil, message, code;
 * if the file cannot be sent, nothing has been. */
static int res_sendfile(lua_State *L)
{
    struct exchange *x = check(L);
    struct lua_fd_part part;
    int error = lua_fd_check_part(L, 2, &part);
    if (error)
        return lua_fail(L, error);
    struct lua_fd_part *kept = lua_newuserdatauv(L, sizeof *kept, 0);
    *kept = part;
    if (x->length < 0) {
        check_unsent(L);
        lua_res_begin(x, (int64_t)part.left);
    } else {
        stream(L, x, part.left);
    }
    return res_sendfile_k(L, LUA_OK, 0);
}

/* Fields that are needed before the content, or change what it is (RFC 9110 6.5.1). */
static const char *const never_trailers[] = {
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "host",
    "keep-alive",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "upgrade",
    NULL,
};

/* res:trailer(name, value) -> res */
static int res_trailer(lua_State *L)
{
    struct exchange *x = check(L);
    size_t name_len, value_len;
    const char *name = check_name(L, 2, &name_len);
    const char *value = check_value(L, 3, &value_len);
    luaL_argcheck(L, !is_one_of(name, name_len, never_trailers), 2,
                  "not a field that can be a trailer (RFC 9110 6.5.1)");
    http_fields_add(&x->trailers, name, name_len, value, value_len);
    lua_settop(L, 1);
    return 1;
}

/* -- another protocol ---------------------------------------------------------------- */

static void check_protocol(lua_State *L, const struct exchange *x, const char *protocol)
{
    const struct http_request *rq = http_session_request(x->session);
    if (protocol && !rq->upgrade)
        luaL_error(L, "the client has not asked to go over to another protocol");
    if (!protocol && rq->form != HTTP_AUTHORITY)
        luaL_error(L, "without a protocol only CONNECT becomes another connection");
}

/* 0, or how many values say why not. */
static int refuse_upgrade(lua_State *L, const struct exchange *x)
{
    exchange_check_waits(L, x);
    if (!http_session_may_upgrade(x->session))
        return lua_fail_text(L, "the request has content that was not read", "EBUSY");
    return 0;
}

struct exchange *lua_res_check_upgrade(lua_State *L, const char *protocol)
{
    struct exchange *x = check_unsent(L);
    check_protocol(L, x, protocol);
    return refuse_upgrade(L, x) ? NULL : x;
}

struct conn *lua_res_upgrade(lua_State *L, struct exchange *x, const char *protocol)
{
    x->status = protocol ? 101 : 200;
    x->all->on_upgrade(L, x);
    struct conn *c = http_session_upgrade(x->session, protocol, &x->fields);
    x->session = NULL;
    exchange_retire(x);
    return c;
}

/* The conn is the script's from here on; protocol: as http_session_upgrade. */
static int hand_over(lua_State *L, struct exchange *x, const char *protocol)
{
    int refused = refuse_upgrade(L, x);
    if (refused)
        return refused;
    struct lua_conn *box = lua_conn_push(L, x->all->env);
    lua_pushvalue(L, -1);
    x->upgraded = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_conn_adopt(box, lua_res_upgrade(L, x, protocol));
    return 1;
}

/* res:upgrade([protocol]) -> conn | nil, message, code */
static int res_upgrade(lua_State *L)
{
    struct exchange *x = check_unsent(L);
    size_t len = 0;
    const char *protocol = lua_isnoneornil(L, 2) ? NULL : check_value(L, 2, &len);
    luaL_argcheck(L, !protocol || len, 2, "a protocol must have a name");
    check_protocol(L, x, protocol);
    return hand_over(L, x, protocol);
}

/* res:detach() -> conn | nil, message, code */
static int res_detach(lua_State *L)
{
    static const char name[] = "Connection", value[] = "close";
    struct exchange *x = check_unsent(L);
    http_fields_add(&x->fields, name, sizeof name - 1, value, sizeof value - 1);
    return hand_over(L, x, NULL);
}

/* -- the value ----------------------------------------------------------------------- */

static int push_sent(lua_State *L, struct exchange *x)
{
    lua_pushboolean(L, http_session_has_begun(x->session));
    return 1;
}

static const luaL_Reg methods[] = {
    {"status", res_status},
    {"header", res_header},
    {"default_type", res_default_type},
    {"send", res_send},
    {"write", res_write},
    {"length", res_length},
    {"sendfile", res_sendfile},
    {"trailer", res_trailer},
    {"upgrade", res_upgrade},
    {"detach", res_detach},
    {NULL, NULL},
};

static const struct exchange_field fields[] = {
    {"headers", push_headers}, {"sent", push_sent}, {NULL, NULL}};

const struct exchange_class lua_res = {"moonpool.http.res", methods, fields,
                                       EXCHANGE_OWN};

void lua_res_open(lua_State *L)
{
    exchange_view_open(L, &headers_view);
    exchange_class_open(L, &lua_res);
}
