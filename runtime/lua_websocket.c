#include "lua_websocket.h"

#include "alloc.h"
#include "lua_fail.h"
#include "lua_pack.h"
#include "lua_res.h"
#include "sha1.h"
#include "websocket.h"

#include <errno.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char class_name[] = "moonpool.websocket";

#define SITE "moonpool.websocket.site"

struct lua_websockets {
    struct lua_conn_env *env;
    struct websockets all;
};

/* The userdata of a site; it is kept by a reference while it has websockets. */
struct site {
    struct lua_websockets *owner;
    struct websocket_site site; /* open while it has websockets */
    size_t clients;
    int ref;
};

/* The userdata. */
struct lua_websocket {
    const char *class; /* class_name, which tells it from any other userdata */
    struct lua_websockets *owner;
    struct websocket *ws;  /* NULL: closed, or moved */
    struct task *receiver; /* that waits for a message */
    double deadline;       /* of its wait */
    struct task_queue senders;
    uint64_t came_with; /* the mark, until it first receives; 0: none */
    uint64_t seen;      /* what is to be the mark then */
    const char *moved;  /* why; NULL: it was not */
};

enum { STATE = 1 }; /* user value */
enum { KEY_LEN = 24, ACCEPT_LEN = 28 };
enum { FAILURE = 3 }; /* values: nil, message, code */

/* -- sites --------------------------------------------------------------------------- */

static void site_enter(lua_State *L, int index)
{
    struct site *s = lua_touserdata(L, index);
    if (s->clients++)
        return;
    lua_pushvalue(L, index);
    s->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    websocket_site_open(&s->site, &s->owner->all);
}

static void on_leave(void *arg)
{
    struct site *s = arg;
    if (--s->clients)
        return;
    websocket_site_close(&s->site);
    luaL_unref(tasks_state(s->owner->env->tasks), LUA_REGISTRYINDEX, s->ref);
}

static double take_number(lua_State *L, const char *key, double usual)
{
    lua_getfield(L, 1, key);
    double n = luaL_optnumber(L, -1, usual);
    if (!(n >= 0 && n <= UINT32_MAX))
        luaL_error(L, "%s: out of range", key);
    lua_pop(L, 1);
    return n;
}

static struct lua_websockets *owner_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* site(settings) -> site */
static int websocket_site(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct websocket_settings settings = {
        .idle = take_number(L, "idle", 30),
        .message = (uint32_t)take_number(L, "message_limit", 1 << 20),
    };
    lua_getfield(L, 1, "redeliver");
    settings.redeliver = lua_toboolean(L, -1);
    struct site *s = lua_newuserdatauv(L, sizeof *s, 0);
    *s = (struct site){.owner = owner_of(L), .site = {.settings = settings, .arg = s}};
    luaL_setmetatable(L, SITE);
    return 1;
}

/* -- news ---------------------------------------------------------------------------- */

static void on_input(void *arg)
{
    struct lua_websocket *box = arg;
    struct task *t = box->receiver;
    box->receiver = NULL;
    if (t)
        task_wake(t);
}

static void on_room(void *arg)
{
    struct lua_websocket *box = arg;
    task_queue_wake(&box->senders);
}

static int may_move(void *arg)
{
    struct lua_websocket *box = arg;
    return box->receiver && task_waits(box->receiver) && !box->senders.first;
}

static void on_moved(void *arg, enum parcel_why why)
{
    struct lua_websocket *box = arg;
    box->ws = NULL;
    box->moved = parcel_whys[why];
    task_cancel_root(box->receiver);
}

static const struct websocket_callbacks callbacks = {on_input, on_room, may_move,
                                                     on_moved, on_leave};

/* -- the box ------------------------------------------------------------------------- */

static struct lua_websocket *box_test(lua_State *L, int index)
{
    struct lua_websocket *box = lua_touserdata(L, index);
    int is_one = box && lua_rawlen(L, index) == sizeof *box && box->class == class_name;
    return is_one ? box : NULL;
}

static struct lua_websocket *box_check(lua_State *L)
{
    struct lua_websocket *box = box_test(L, 1);
    if (!box)
        luaL_typeerror(L, 1, class_name);
    return box;
}

static struct lua_websocket *box_push(lua_State *L)
{
    struct lua_websocket *box = lua_newuserdatauv(L, sizeof *box, STATE);
    *box = (struct lua_websocket){.class = class_name, .owner = owner_of(L)};
    luaL_setmetatable(L, class_name);
    return box;
}

static void box_close(struct lua_websocket *box, int code, const char *reason)
{
    struct websocket *w = box->ws;
    box->ws = NULL;
    if (w)
        websocket_close(w, code, reason);
    on_input(box);
    on_room(box);
}

/* Why it is over: nil, message, code. */
static int box_fail(lua_State *L, const struct lua_websocket *box)
{
    int code;
    const char *reason;
    if (!box->ws)
        return lua_fail(L, ECANCELED);
    int error = websocket_end(box->ws, &code, &reason);
    if (!code) /* the conn has failed, and it has not been read since */
        return lua_fail(L, EPIPE);
    return error ? lua_fail_text(L, reason, strerrorname_np(error)) : lua_fail(L, 0);
}

/* -- receiving ----------------------------------------------------------------------- */

static const char *const kinds[] = {[WS_TEXT] = "text", [WS_BINARY] = "binary"};

/* Keeps the state as it is now. */
static void keep_state(lua_State *L, struct lua_websocket *box)
{
    if (lua_getiuservalue(L, 1, STATE) != LUA_TNIL) {
        struct buf *b = websocket_begin_state(box->ws);
        uint32_t limit = box->owner->env->conns.limits.state;
        int failed = lua_pack(L, -1, "the state", b, limit);
        websocket_end_state(box->ws);
        if (failed)
            luaL_error(L, "%s", lua_tostring(L, -1));
    }
    lua_pop(L, 1);
}

/* Its handler has it in all its rooms again. */
static void catch_up(struct lua_websocket *box)
{
    if (box->came_with && box->seen > box->came_with)
        websocket_set_mark(box->ws, box->seen);
    box->came_with = 0;
}

/* The task will not come back. */
static void forget_receive(struct task *t, void *arg)
{
    struct lua_websocket *box = arg;
    if (t && box->receiver == t)
        box->receiver = NULL;
    if (box->ws)
        websocket_forget(box->ws);
}

static int receive_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_websocket *box = lua_touserdata(L, 1);
    struct tasks *ts = box->owner->env->tasks;
    int timed_out = status == LUA_YIELD && task_timed_out(ts);
    struct websocket_message m;
    (void)ctx;
    int some = box->ws ? websocket_receive(box->ws, &m) : -1;
    if (some < 0)
        return box_fail(L, box);
    if (some > 0) {
        lua_pushlstring(L, m.data, m.len);
        lua_pushstring(L, kinds[m.opcode]);
        return 2;
    }
    if (timed_out) {
        box->receiver = NULL;
        websocket_forget(box->ws);
        return lua_fail(L, ETIMEDOUT);
    }
    box->receiver = task_current(ts);
    return task_wait(ts, L, box->deadline, forget_receive, box, 0, receive_k);
}

static int receive(lua_State *L, struct lua_websocket *box, double seconds)
{
    struct loop *loop = tasks_loop(box->owner->env->tasks);
    if (box->receiver)
        return luaL_error(L, "another task is receiving");
    box->deadline = isinf(seconds) ? INFINITY : loop_now(loop) + seconds;
    if (box->ws && websocket_conn(box->ws)) {
        keep_state(L, box);
        catch_up(box);
        websocket_ask(box->ws);
    }
    return receive_k(L, LUA_OK, 0);
}

/* ws:receive([timeout]) -> message, kind */
static int method_receive(lua_State *L)
{
    struct lua_websocket *box = box_check(L);
    double seconds = luaL_optnumber(L, 2, INFINITY);
    luaL_argcheck(L, seconds >= 0, 2, "negative time");
    lua_settop(L, 1);
    return receive(L, box, seconds);
}

/* (ws) */
static int messages_next(lua_State *L)
{
    struct lua_websocket *box = box_check(L);
    lua_settop(L, 1);
    return receive(L, box, INFINITY);
}

/* ws:messages() -> iterator, ws */
static int method_messages(lua_State *L)
{
    box_check(L);
    lua_pushcfunction(L, messages_next);
    lua_pushvalue(L, 1);
    return 2;
}

/* -- sending ------------------------------------------------------------------------- */

static enum ws_opcode check_kind(lua_State *L, int arg)
{
    static const char *const names[] = {"text", "binary", NULL};
    return luaL_checkoption(L, arg, "text", names) ? WS_BINARY : WS_TEXT;
}

/* Text that is not UTF-8 would end the connection at the client's (RFC 6455 8.1). */
static const char *check_message(lua_State *L, int arg, enum ws_opcode kind, size_t *len)
{
    const char *data = luaL_checklstring(L, arg, len);
    luaL_argcheck(L, kind != WS_TEXT || ws_utf8_is_valid(data, *len), arg,
                  "text that is not UTF-8 (it can be sent as \"binary\")");
    return data;
}

static void next_sender(struct lua_websocket *box)
{
    if (!box->senders.first)
        return;
    if (!box->ws || websocket_has_room(box->ws))
        task_queue_wake(&box->senders);
    else
        websocket_want_room(box->ws);
}

/* (ws, message, opcode) */
static int send_k(lua_State *L, int status, lua_KContext ctx)
{
    struct lua_websocket *box = lua_touserdata(L, 1);
    struct tasks *ts = box->owner->env->tasks;
    size_t len;
    if (box->ws && !websocket_has_room(box->ws)) {
        websocket_want_room(box->ws);
        return task_queue_wait(&box->senders, ts, L, INFINITY, ctx, send_k);
    }
    if (status == LUA_YIELD)
        task_queue_leave(&box->senders, task_current(ts));
    const char *data = lua_tolstring(L, 2, &len);
    int failed = !box->ws || websocket_send(box->ws, (enum ws_opcode)ctx, data, len) < 0;
    next_sender(box);
    if (failed)
        return box_fail(L, box);
    lua_settop(L, 1);
    return 1;
}

/* Whoever waits already is first. */
static int send_begin(lua_State *L, struct lua_websocket *box, enum ws_opcode opcode)
{
    if (!box->senders.first || !box->ws)
        return send_k(L, LUA_OK, opcode);
    return task_queue_wait(&box->senders, box->owner->env->tasks, L, INFINITY, opcode,
                           send_k);
}

/* ws:send(message [, kind]) -> ws */
static int method_send(lua_State *L)
{
    size_t len;
    struct lua_websocket *box = box_check(L);
    enum ws_opcode kind = check_kind(L, 3);
    check_message(L, 2, kind, &len);
    return send_begin(L, box, kind);
}

/* ws:ping([data]) -> ws */
static int method_ping(lua_State *L)
{
    size_t len;
    struct lua_websocket *box = box_check(L);
    luaL_optlstring(L, 2, "", &len);
    luaL_argcheck(L, len <= WS_CONTROL_MAX, 2, "more than 125 bytes");
    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushliteral(L, "");
        lua_replace(L, 2);
    }
    return send_begin(L, box, WS_PING);
}

/* ws:put(frame) -> ws */
static int method_put(lua_State *L)
{
    size_t len;
    struct lua_websocket *box = box_check(L);
    const char *frame = luaL_checklstring(L, 2, &len);
    int put = box->ws ? websocket_put(box->ws, frame, len) : -1;
    if (put < 0)
        return box_fail(L, box);
    if (put == 0)
        return lua_fail_text(L, "the client is slow", "ENOBUFS");
    lua_settop(L, 1);
    return 1;
}

/* frame(message [, kind]) -> frame */
static int websocket_frame(lua_State *L)
{
    char head[WS_HEAD_MAX];
    size_t len;
    luaL_Buffer b;
    enum ws_opcode kind = check_kind(L, 2);
    const char *data = check_message(L, 1, kind, &len);
    luaL_buffinitsize(L, &b, len + sizeof head);
    luaL_addlstring(&b, head, ws_head(head, kind, 0, len));
    luaL_addlstring(&b, data, len);
    luaL_pushresult(&b);
    return 1;
}

/* Of a position, which may be 0: the mark 0 is none. */
static uint64_t mark_of(lua_Integer position)
{
    return (uint64_t)position + 1;
}

/*
 * One of those that a frame is for; who is slow is cut. Another worker may have been ahead
 * of this one: what it has sent is not sent again.
 */
static void broadcast_to(struct lua_websocket *box, const char *frame, size_t len,
                         uint64_t mark)
{
    if (!box || !box->ws || mark <= websocket_mark(box->ws))
        return;
    int put = websocket_put(box->ws, frame, len);
    if (put == 0)
        websocket_cut(box->ws);
    if (mark > box->seen)
        box->seen = mark;
    if (put > 0 && !box->came_with)
        websocket_set_mark(box->ws, mark);
}

/* broadcast(set, frame, mark) */
static int websocket_broadcast(lua_State *L)
{
    size_t len;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *frame = luaL_checklstring(L, 2, &len);
    uint64_t mark = mark_of(luaL_checkinteger(L, 3));
    lua_settop(L, 3);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1))
        broadcast_to(box_test(L, -2), frame, len, mark);
    return 0;
}

/* mark(ws, number) -> number, or nil */
static int websocket_mark_of(lua_State *L)
{
    struct lua_websocket *box = box_check(L);
    uint64_t mark = mark_of(luaL_checkinteger(L, 2));
    if (box->ws && !box->came_with && mark > websocket_mark(box->ws))
        websocket_set_mark(box->ws, mark);
    if (!box->came_with)
        return 0;
    lua_pushinteger(L, (lua_Integer)box->came_with - 1);
    return 1;
}

/* -- the rest ------------------------------------------------------------------------ */

/* ws:close([code [, reason]]) -> true */
static int method_close(lua_State *L)
{
    size_t len;
    struct lua_websocket *box = box_check(L);
    lua_Integer code = luaL_optinteger(L, 2, WS_NORMAL);
    const char *reason = luaL_optlstring(L, 3, "", &len);
    luaL_argcheck(L, ws_is_code((int)code) && code == (int)code, 2,
                  "not a code that may be sent (RFC 6455 7.4)");
    luaL_argcheck(L, len <= WS_REASON_MAX && ws_utf8_is_valid(reason, len), 3,
                  "a reason is UTF-8 of up to 123 bytes");
    box_close(box, (int)code, reason);
    lua_pushboolean(L, 1);
    return 1;
}

/* When its task ends: (ws, error) */
static int box_end(lua_State *L)
{
    struct lua_websocket *box = box_check(L);
    int failed = !lua_isnoneornil(L, 2);
    box_close(box, failed ? WS_FAILED : WS_NORMAL, "");
    return 0;
}

/* ws:closed() -> code, reason */
static int method_closed(lua_State *L)
{
    int code = 0;
    const char *reason = "";
    struct lua_websocket *box = box_check(L);
    if (box->ws)
        websocket_end(box->ws, &code, &reason);
    if (box->ws && !code)
        return 0;
    lua_pushinteger(L, box->ws ? code : WS_NORMAL);
    lua_pushstring(L, reason);
    return 2;
}

/* ws:state() -> what goes along */
static int method_state(lua_State *L)
{
    box_check(L);
    lua_getiuservalue(L, 1, STATE);
    return 1;
}

static struct conn *box_conn(const struct lua_websocket *box)
{
    return box->ws ? websocket_conn(box->ws) : NULL;
}

/* ws:pin([on = true]) -> ws */
static int method_pin(lua_State *L)
{
    struct conn *c = box_conn(box_check(L));
    if (c)
        conn_pin(c, lua_isnoneornil(L, 2) || lua_toboolean(L, 2));
    lua_settop(L, 1);
    return 1;
}

/* ws:moved() -> why it was, or nil */
static int method_moved(lua_State *L)
{
    lua_pushstring(L, box_check(L)->moved);
    return 1;
}

/* ws:peer() -> address of the client */
static int method_peer(lua_State *L)
{
    struct address a;
    char text[ADDRESS_TEXT];
    struct conn *c = box_conn(box_check(L));
    if (!c || conn_peer(c, &a) < 0)
        return lua_fail(L, c ? errno : EPIPE);
    address_format(&a, text);
    lua_pushstring(L, text);
    return 1;
}

static int box_gc(lua_State *L)
{
    struct lua_websocket *box = box_check(L);
    if (box->receiver)
        task_disown(box->receiver, box);
    box_close(box, WS_NORMAL, "");
    task_queue_clear(&box->senders);
    return 0;
}

/* -- beginning ----------------------------------------------------------------------- */

static struct site *check_site(lua_State *L, int index)
{
    return luaL_checkudata(L, index, SITE);
}

static void set_label(lua_State *L, struct lua_websocket *box, int index)
{
    size_t len;
    const char *label = luaL_checklstring(L, index, &len);
    if (box->ws)
        websocket_set_label(box->ws, label, len);
}

/* open(res, site, deflate, label, state) -> ws; or nil, message, code */
static int websocket_open_res(lua_State *L)
{
    static const char protocol[] = "websocket";
    struct exchange *x = lua_res_check_upgrade(L, protocol);
    if (!x)
        return FAILURE;
    struct site *s = check_site(L, 2);
    luaL_checkstring(L, 4);
    lua_settop(L, 5);
    struct lua_websocket *box = box_push(L);
    lua_pushvalue(L, 5);
    lua_setiuservalue(L, -2, STATE);
    site_enter(L, 2);
    struct conn *c = lua_res_upgrade(L, x, protocol);
    box->ws = websocket_open(&s->site, c, lua_toboolean(L, 3), box);
    set_label(L, box, 4);
    return 1;
}

/* resume(site, conn, checkpoint) -> ws, or nil */
static int websocket_resume_conn(lua_State *L)
{
    size_t len, label_len;
    const char *label, *saved = luaL_checklstring(L, 3, &len);
    struct site *s = check_site(L, 1);
    lua_conn_check_idle(L, 2);
    if (websocket_label(saved, len, &label, &label_len) < 0)
        return 0;
    struct lua_websocket *box = box_push(L);
    site_enter(L, 1);
    box->ws = websocket_resume(&s->site, lua_conn_take(L, 2), saved, len, box);
    box->came_with = websocket_mark(box->ws);
    const char *state = websocket_state(box->ws, &len);
    if (len && lua_unpack(L, state, len) == 0)
        lua_setiuservalue(L, -2, STATE);
    return 1;
}

/* label(checkpoint) -> label, or nil */
static int websocket_label_of(lua_State *L)
{
    size_t len, label_len;
    const char *label, *saved = luaL_checklstring(L, 1, &len);
    if (websocket_label(saved, len, &label, &label_len) < 0)
        return 0;
    lua_pushlstring(L, label, label_len);
    return 1;
}

/* set_label(ws, label) */
static int websocket_set_label_of(lua_State *L)
{
    set_label(L, box_check(L), 2);
    return 0;
}

/* start(ws, fn [, why]): fn(ws, state, why) in a task that owns ws */
static int websocket_start(lua_State *L)
{
    struct lua_websockets *all = owner_of(L);
    box_check(L);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 3);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    lua_getiuservalue(L, 1, STATE);
    lua_pushvalue(L, 3);
    task_detach(task_start_owner(all->env->tasks, L, 3, NULL, NULL));
    return 0;
}

/*
 * Base64 (RFC 4648 4) of n bytes, a multiple of 3. What base64.lua leaves to be collected
 * was found to be 70 bytes of each WebSocket that waits.
 */
static void put_base64(char *out, const uint8_t *data, size_t n)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three =
            (uint32_t)data[i] << 16 | (uint32_t)data[i + 1] << 8 | data[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *out++ = alphabet[three >> shift & 63];
    }
}

/* accept(key) -> what the client expects for it (RFC 6455 4.2.2) */
static int websocket_accept(lua_State *L)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[KEY_LEN + sizeof guid], accept[ACCEPT_LEN];
    uint8_t digest[SHA1_SIZE + 1] = {0};
    size_t len;
    const char *key = luaL_checklstring(L, 1, &len);
    luaL_argcheck(L, len == KEY_LEN, 1, "no key");
    memcpy(text, key, len);
    memcpy(text + len, guid, sizeof guid);
    sha1(text, sizeof text - 1, digest);
    put_base64(accept, digest, sizeof digest);
    accept[ACCEPT_LEN - 1] = '='; /* the digest is a byte shorter */
    lua_pushlstring(L, accept, sizeof accept);
    return 1;
}

static const luaL_Reg methods[] = {
    {"receive", method_receive}, {"messages", method_messages}, {"send", method_send},
    {"put", method_put},         {"ping", method_ping},         {"close", method_close},
    {"closed", method_closed},   {"state", method_state},       {"pin", method_pin},
    {"moved", method_moved},     {"peer", method_peer},         {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", box_gc}, {"__close", box_end}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"site", websocket_site},
    {"open", websocket_open_res},
    {"resume", websocket_resume_conn},
    {"label", websocket_label_of},
    {"set_label", websocket_set_label_of},
    {"start", websocket_start},
    {"broadcast", websocket_broadcast},
    {"mark", websocket_mark_of},
    {"frame", websocket_frame},
    {"accept", websocket_accept},
    {NULL, NULL},
};

int luaopen_moonpool_websocket(lua_State *L, struct lua_websockets *all)
{
    luaL_newmetatable(L, SITE);
    luaL_newmetatable(L, class_name);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, all);
    luaL_setfuncs(L, functions, 1);
    return 1;
}

struct lua_websockets *lua_websockets_new(struct lua_conn_env *env)
{
    struct lua_websockets *all = alloc_zero(sizeof *all);
    all->env = env;
    all->all.conns = &env->conns;
    all->all.callbacks = &callbacks;
    websockets_open(&all->all);
    return all;
}

void lua_websockets_stop(struct lua_websockets *all)
{
    websockets_stop(&all->all);
}

void lua_websockets_free(struct lua_websockets *all)
{
    websockets_end(&all->all);
    free(all);
}
