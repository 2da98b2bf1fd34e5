/*
 * native.ws: runtime/ws.c for specs. What is fed is copied into a buffer of exactly its
 * size, a new one for each call, so that the sanitizer sees a read beyond the end.
 */
#include "ws.h"

#include "buf.h"
#include "sha1.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    struct ws_reader reader;
    struct ws_limits limits;
    struct buf message;
    int count; /* of events in the list at the top of the stack */
    int refused;
};

static uint64_t limit_field(lua_State *L, const char *name, uint64_t usual)
{
    lua_getfield(L, 2, name);
    uint64_t limit = (uint64_t)luaL_optinteger(L, -1, (lua_Integer)usual);
    lua_pop(L, 1);
    return limit;
}

static void set_integer(lua_State *L, const char *name, lua_Integer n)
{
    lua_pushinteger(L, n);
    lua_setfield(L, -2, name);
}

static void set_bytes(lua_State *L, const char *name, const char *data, size_t len)
{
    lua_pushlstring(L, data ? data : "", len);
    lua_setfield(L, -2, name);
}

static void add_event(lua_State *L, struct reading *r, const struct ws_event *e,
                      const char *data, size_t len)
{
    lua_createtable(L, 0, 3);
    set_integer(L, "opcode", e->opcode);
    set_bytes(L, "data", data, len);
    if (e->opcode == WS_CLOSE)
        set_integer(L, "code", e->code);
    lua_seti(L, -2, ++r->count);
}

static void take_event(lua_State *L, struct reading *r, const struct ws_event *e)
{
    if (e->kind == WS_CONTROL)
        add_event(L, r, e, e->data, e->len);
    if (e->kind == WS_PIECE || e->kind == WS_END)
        buf_append(&r->message, e->data, e->len);
    if (e->kind == WS_END) {
        add_event(L, r, e, r->message.data ? buf_head(&r->message) : "",
                  buf_len(&r->message));
        buf_release(&r->message);
    }
    r->refused = e->kind == WS_REFUSED;
    if (r->refused) {
        set_integer(L, "refused", e->code);
        set_bytes(L, "why", e->why, strlen(e->why));
    }
}

/* Reads all that can be of the first len bytes, of which *at were; moves *at on. */
static void feed(lua_State *L, struct reading *r, const char *bytes, size_t len,
                 size_t *at)
{
    struct ws_event e = {.kind = WS_PIECE};
    while (!r->refused && e.kind != WS_MORE) {
        size_t n = len - *at;
        char *copy = malloc(n);
        if (n)
            memcpy(copy, bytes + *at, n);
        *at += ws_read(&r->reader, &r->limits, copy, n, &e);
        take_event(L, r, &e);
        free(copy);
    }
}

/*
 * read(bytes, limits, cuts): the list of messages and control frames in bytes, fed first up
 * to each of the cuts; or, of what is refused, what came before, with .refused, the code,
 * .why, and .at, how many bytes had been fed; .used: bytes that were done with
 */
static int ws_read_all(lua_State *L)
{
    size_t len, at = 0, fed = 0;
    const char *bytes = luaL_checklstring(L, 1, &len);
    struct reading r = {.limits = {limit_field(L, "frame", 1 << 20),
                                   limit_field(L, "message", 1 << 20),
                                   (int)limit_field(L, "deflate", 0)}};
    lua_newtable(L);
    for (lua_Integer i = 1; fed < len && !r.refused; i++) {
        fed = lua_geti(L, 3, i) == LUA_TNUMBER ? (size_t)lua_tointeger(L, -1) : len;
        lua_pop(L, 1);
        feed(L, &r, bytes, fed, &at);
    }
    if (r.refused)
        set_integer(L, "at", (lua_Integer)fed);
    set_integer(L, "used", (lua_Integer)at);
    buf_release(&r.message);
    return 1;
}

/* head(opcode, is_packed, length) -> bytes */
static int ws_head_of(lua_State *L)
{
    char head[WS_HEAD_MAX];
    size_t n = ws_head(head, (enum ws_opcode)luaL_checkinteger(L, 1), lua_toboolean(L, 2),
                       (size_t)luaL_checkinteger(L, 3));
    lua_pushlstring(L, head, n);
    return 1;
}

/* close_payload(code, reason) -> bytes */
static int close_payload(lua_State *L)
{
    char out[WS_CONTROL_MAX];
    size_t n =
        ws_close_payload(out, (int)luaL_checkinteger(L, 1), luaL_checkstring(L, 2));
    lua_pushlstring(L, out, n);
    return 1;
}

/* is_utf8(bytes) -> boolean */
static int is_utf8(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    lua_pushboolean(L, ws_utf8_is_valid(data, len));
    return 1;
}

/* sha1(bytes) -> 20 bytes */
static int sha1_of(lua_State *L)
{
    size_t len;
    uint8_t digest[SHA1_SIZE];
    const char *data = luaL_checklstring(L, 1, &len);
    sha1(data, len, digest);
    lua_pushlstring(L, (const char *)digest, sizeof digest);
    return 1;
}

static const luaL_Reg functions[] = {
    {"read", ws_read_all}, {"head", ws_head_of}, {"close_payload", close_payload},
    {"is_utf8", is_utf8},  {"sha1", sha1_of},    {NULL, NULL},
};

int luaopen_native_ws(lua_State *L);

int luaopen_native_ws(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
