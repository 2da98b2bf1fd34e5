/*
 * native.peer: runtime/peer.c for its spec, on a loop of native.loop.
 *
 *   open(loop, end, callbacks [, queue_limit])  callbacks.message(text, descriptors) may
 *                     return how many of the descriptors it keeps; room(), gone()
 *   p:send(number [, fds])   1, 0 or -1
 *   p:post(number [, text])  1, 0 or -1
 *   p:receive(), p:pause(), p:close(); p:is_open()
 *   p:pass()         as if another program had taken this one's place: peer_load
 *   quiet()                  the log of this binding says nothing
 */
#include "peer.h"

#include "callback.h"
#include "class.h"
#include "fd.h"
#include "log.h"

#include <string.h>
#include <unistd.h>

#define PEER "native.peer"

struct box {
    struct peer *peer; /* NULL once it is closed */
    struct loop *loop;
    size_t limit;
    const struct peer_callbacks *callbacks;
    struct callback message, room, gone;
};

static struct box *check_box(lua_State *L)
{
    return luaL_checkudata(L, 1, PEER);
}

static struct peer *check_peer(lua_State *L)
{
    struct box *box = check_box(L);
    luaL_argcheck(L, box->peer, 1, "the peer is closed");
    return box->peer;
}

static void on_message(struct peer *p, struct channel_message *m, void *arg)
{
    struct box *box = arg;
    (void)p;
    if (!callback_begin(&box->message))
        return;
    lua_State *L = box->message.L;
    lua_pushlstring(L, m->data, m->len);
    lua_newtable(L);
    for (int i = 0; i < m->fd_count; i++) {
        lua_pushinteger(L, m->fds[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_Integer kept = callback_call(&box->message, 2);
    for (int i = 0; i < kept && i < m->fd_count; i++)
        fd_take(&m->fds[i]);
}

static void on_room(struct peer *p, void *arg)
{
    struct box *box = arg;
    (void)p;
    if (callback_begin(&box->room))
        callback_call(&box->room, 0);
}

static void on_gone(struct peer *p, void *arg)
{
    struct box *box = arg;
    (void)p;
    if (callback_begin(&box->gone))
        callback_call(&box->gone, 0);
}

static struct callback callback_field(lua_State *L, int table, const char *name)
{
    lua_getfield(L, table, name);
    return callback_take(L);
}

/* open(loop, end, callbacks [, queue_limit]) */
static int native_open(lua_State *L)
{
    static const struct peer_callbacks all = {on_message, on_room, on_gone};
    static const struct peer_callbacks fewest = {on_message, NULL, NULL};
    struct loop **loop = luaL_checkudata(L, 1, "native.loop");
    int end = (int)luaL_checkinteger(L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    size_t limit = (size_t)luaL_optinteger(L, 4, 1 << 20);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    box->message = callback_field(L, 3, "message");
    box->room = callback_field(L, 3, "room");
    box->gone = callback_field(L, 3, "gone");
    int few = box->room.ref == LUA_NOREF && box->gone.ref == LUA_NOREF;
    box->loop = *loop;
    box->limit = limit;
    box->callbacks = few ? &fewest : &all;
    box->peer = peer_open(*loop, end, limit, box->callbacks, box);
    luaL_setmetatable(L, PEER);
    return 1;
}

static struct wire_header header_new(lua_State *L)
{
    return (struct wire_header){WIRE_SLOT, (uint32_t)luaL_checkinteger(L, 2), 0};
}

static int push_result(lua_State *L, int result)
{
    callback_raise(L);
    lua_pushinteger(L, result);
    return 1;
}

/* p:send(number [, fds]) */
static int native_send(lua_State *L)
{
    struct wire_header h = header_new(L);
    int fds[CHANNEL_FDS], n = 0;
    for (; lua_istable(L, 3) && lua_rawgeti(L, 3, n + 1) != LUA_TNIL; n++) {
        luaL_argcheck(L, n < CHANNEL_FDS, 3, "too many");
        fds[n] = (int)luaL_checkinteger(L, -1);
        lua_pop(L, 1);
    }
    return push_result(L, peer_send(check_peer(L), &h, NULL, 0, fds, n));
}

/* p:post(number [, text]) */
static int native_post(lua_State *L)
{
    struct wire_header h = header_new(L);
    size_t n;
    const char *text = luaL_optlstring(L, 3, "", &n);
    return push_result(L, peer_post(check_peer(L), &h, text, n));
}

/* p:receive() */
static int native_receive(lua_State *L)
{
    peer_receive(check_peer(L));
    callback_raise(L);
    return 0;
}

/* p:pause() */
static int native_pause(lua_State *L)
{
    peer_pause(check_peer(L));
    return 0;
}

static struct baton *save(const struct peer *p)
{
    struct baton *writer = baton_new();
    peer_save(p, writer);
    int fd = baton_store(writer);
    struct baton *reader = baton_open(fd);
    fd_close(&fd);
    baton_free(writer);
    return reader;
}

/* p:pass(): the end keeps its number, and comes without close-on-exec */
static int native_pass(lua_State *L)
{
    struct box *box = check_box(L);
    struct baton *b = save(check_peer(L));
    int end = (int)baton_number(b, "end"), copy = dup(end);
    peer_close(box->peer);
    dup2(copy, end);
    fd_close(&copy);
    box->peer = peer_load(box->loop, b, box->limit, box->callbacks, box);
    baton_free(b);
    return 0;
}

/* p:close() */
static int native_close(lua_State *L)
{
    struct box *box = check_box(L);
    peer_close(box->peer);
    box->peer = NULL;
    return 0;
}

/* p:is_open() */
static int native_is_open(lua_State *L)
{
    lua_pushboolean(L, check_box(L)->peer != NULL);
    return 1;
}

static int native_gc(lua_State *L)
{
    struct box *box = check_box(L);
    callback_release(L, &box->message);
    callback_release(L, &box->room);
    callback_release(L, &box->gone);
    return 0;
}

/* quiet() */
static int native_quiet(lua_State *L)
{
    (void)L;
    log_threshold((enum log_level)(LOG_ERROR + 1));
    return 0;
}

static const luaL_Reg methods[] = {
    {"send", native_send},       {"post", native_post}, {"receive", native_receive},
    {"pause", native_pause},     {"pass", native_pass}, {"close", native_close},
    {"is_open", native_is_open}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", native_open},
    {"quiet", native_quiet},
    {NULL, NULL},
};

int luaopen_native_peer(lua_State *L);
int luaopen_native_peer(lua_State *L)
{
    class_new(L, PEER, methods, native_gc);
    luaL_newlib(L, functions);
    return 1;
}
