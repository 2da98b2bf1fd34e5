/*
 * native.http: runtime/http.c for specs. Whatever is fed is copied into a buffer of
 * exactly its size, a new one for each call, so that the sanitizer sees a read beyond
 * the end and a pointer kept from the call before.
 */
#include "http.h"

#include "buf.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

static char *copy_new(const char *bytes, size_t len)
{
    char *copy = malloc(len);
    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

static uint32_t limit_field(lua_State *L, int limits, const char *name, uint32_t usual)
{
    if (!lua_istable(L, limits))
        return usual;
    lua_getfield(L, limits, name);
    uint32_t limit = (uint32_t)luaL_optinteger(L, -1, usual);
    lua_pop(L, 1);
    return limit;
}

static int feed_head(struct http_request *rq, const char *bytes, size_t len,
                     const struct http_limits *limits)
{
    char *copy = copy_new(bytes, len);
    int got = http_parse(rq, copy, len, limits);
    free(copy);
    return got;
}

/* The n-th cut of the table at index, or the length after the last one. */
static size_t cut_get(lua_State *L, int index, lua_Integer n, size_t len)
{
    size_t cut = len;
    if (lua_istable(L, index) && lua_geti(L, index, n) == LUA_TNUMBER)
        cut = (size_t)lua_tointeger(L, -1);
    if (lua_istable(L, index))
        lua_pop(L, 1);
    return cut < len ? cut : len;
}

static int parse_cut(lua_State *L, struct http_request *rq, int cuts)
{
    size_t len, at = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct http_limits limits = {
        .head = limit_field(L, 2, "head", 16384),
        .target = limit_field(L, 2, "target", 8192),
        .headers = limit_field(L, 2, "headers", HTTP_HEADERS_MAX),
    };
    int got = 0;
    http_request_init(rq);
    for (lua_Integer n = 1; got == 0; n++) {
        at = cut_get(L, cuts, n, len);
        got = feed_head(rq, bytes, at, &limits);
        if (at == len)
            break;
    }
    if (got && feed_head(rq, bytes, at, &limits) != got)
        luaL_error(L, "asked once more, http_parse answers otherwise");
    return got;
}

static void set_span(lua_State *L, const char *name, const struct http_request *rq,
                     struct http_span s)
{
    if ((uint64_t)s.at + s.len > rq->head_len)
        luaL_error(L, "%s lies outside of the head", name);
    lua_pushlstring(L, lua_tostring(L, 1) + s.at, s.len);
    lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer n)
{
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, int b)
{
    lua_pushboolean(L, b);
    lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *s)
{
    lua_pushstring(L, s);
    lua_setfield(L, -2, name);
}

static void set_headers(lua_State *L, const struct http_request *rq)
{
    lua_createtable(L, (int)rq->header_count, 0);
    for (uint32_t i = 0; i < rq->header_count; i++) {
        lua_createtable(L, 0, 2);
        set_span(L, "name", rq, rq->headers[i].name);
        set_span(L, "value", rq, rq->headers[i].value);
        lua_seti(L, -2, (lua_Integer)i + 1);
    }
    lua_setfield(L, -2, "headers");
}

static void set_request(lua_State *L, const struct http_request *rq)
{
    static const char *const forms[] = {"origin", "absolute", "authority", "asterisk"};
    static const char *const bodies[] = {"none", "length", "chunked"};
    set_span(L, "method", rq, rq->method);
    set_span(L, "target", rq, rq->target);
    set_span(L, "path", rq, rq->path);
    set_span(L, "query", rq, rq->query);
    set_span(L, "host", rq, rq->host);
    set_string(L, "form", forms[rq->form]);
    set_string(L, "body", bodies[rq->body]);
    set_integer(L, "minor", rq->minor);
    set_integer(L, "length", (lua_Integer)rq->length);
    set_integer(L, "head_len", rq->head_len);
    set_boolean(L, "keep_alive", rq->keep_alive);
    set_boolean(L, "expect_continue", rq->expect_continue);
    set_boolean(L, "upgrade", rq->upgrade);
    set_headers(L, rq);
}

/*
 * parse(bytes [, limits [, cuts]]): what a request's head says; fed whole, or first up to
 * each of the cuts. outcome is "whole", "more", or "refused" with status and reason.
 */
static int parse(lua_State *L)
{
    struct http_request rq;
    int got = parse_cut(L, &rq, 3);
    lua_createtable(L, 0, 16);
    set_string(L, "outcome", got > 0 ? "whole" : got < 0 ? "refused" : "more");
    if (got > 0)
        set_request(L, &rq);
    if (got < 0) {
        set_integer(L, "status", rq.status);
        set_string(L, "reason", rq.reason);
    }
    return 1;
}

/* find(bytes, name): the value of the first field of that name, or nil */
static int find(lua_State *L)
{
    struct http_request rq;
    const char *bytes = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    luaL_argcheck(L, parse_cut(L, &rq, 3) > 0, 1, "a whole head expected");
    const struct http_header *h = http_find(&rq, bytes, name);
    if (h)
        lua_pushlstring(L, bytes + h->value.at, h->value.len);
    else
        lua_pushnil(L);
    return 1;
}

struct parts {
    struct buf content, trailers;
};

/* Adds to parts what a piece holds of them; *used is of this piece. */
static int feed_piece(struct parts *parts, struct http_chunked *ck, const char *piece,
                      size_t len, size_t *used)
{
    int got;
    *used = 0;
    do {
        struct http_span body;
        size_t n;
        char *copy = copy_new(piece + *used, len - *used);
        got = http_chunked_next(ck, copy, len - *used, &body, &n);
        free(copy);
        buf_append(got == 1 ? &parts->content : &parts->trailers, piece + *used + body.at,
                   body.len);
        *used += n;
    } while (got == 1 || got == HTTP_CHUNKED_TRAILER);
    return got;
}

static void set_buf(lua_State *L, const char *name, struct buf *b)
{
    lua_pushlstring(L, b->data ? buf_head(b) : "", buf_len(b));
    lua_setfield(L, -2, name);
    buf_release(b);
}

/*
 * chunked(bytes [, cuts]): the content of a chunked body, its trailers and the bytes
 * used, fed in one or in pieces between the cuts. outcome is "over", "more", or "refused"
 * with status, reason.
 */
static int chunked(lua_State *L)
{
    size_t len, used = 0, n;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct http_chunked ck;
    struct parts parts = {0};
    int got = 0;
    http_chunked_init(&ck);
    lua_settop(L, 2);
    for (lua_Integer i = 1; got == 0; i++) {
        size_t end = cut_get(L, 2, i, len);
        got = feed_piece(&parts, &ck, bytes + used, end - used, &n);
        used += n;
        if (end == len)
            break;
        if (got == 0 && used != end)
            luaL_error(L, "http_chunked_next leaves bytes and wants more");
    }
    if (feed_piece(&parts, &ck, bytes + used, 0, &n) != got)
        luaL_error(L, "asked once more, http_chunked_next answers otherwise");
    lua_createtable(L, 0, 6);
    set_buf(L, "content", &parts.content);
    if (got < 0) /* by then some may have been handed out, or none */
        buf_release(&parts.trailers);
    set_buf(L, "trailers", &parts.trailers);
    set_string(L, "outcome", got == 2 ? "over" : got < 0 ? "refused" : "more");
    set_integer(L, "used", (lua_Integer)used);
    if (got < 0) {
        set_integer(L, "status", ck.status);
        set_string(L, "reason", ck.reason);
    }
    return 1;
}

/* phrase(status): the standard phrase */
static int phrase(lua_State *L)
{
    lua_pushstring(L, http_phrase((int)luaL_checkinteger(L, 1)));
    return 1;
}

static const luaL_Reg functions[] = {
    {"parse", parse},   {"find", find}, {"chunked", chunked},
    {"phrase", phrase}, {NULL, NULL},
};

int luaopen_native_http(lua_State *L);

int luaopen_native_http(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
