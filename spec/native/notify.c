/*
 * native.notify: runtime/notify.c for its spec, with a loop of its own whose clock stands
 * still; and a socket like systemd's, for any.
 *
 *   open(fn)             fn gives the status. nil, or n: n:ready(), n:reloading(),
 *                        n:stopping(seconds), n:advance(seconds), n:close() or <close>
 *   receiver(name)       "/path" or "@name": r:receive() is a message, or nil if there is
 *                        none now; r:close() or <close>
 */
#include "notify.h"

#include "address.h"
#include "callback.h"
#include "class.h"
#include "fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NOTIFY "native.notify"
#define RECEIVER "native.notify.receiver"

struct box {
    struct loop *loop;
    struct notify *notify;
    struct callback describe;
};

static struct box *check_box(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, NOTIFY);
    luaL_argcheck(L, box->loop, 1, "it is closed");
    return box;
}

static void describe(char *status, size_t size, void *arg)
{
    struct box *box = arg;
    lua_State *L = box->describe.L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, box->describe.ref);
    lua_call(L, 0, 1); /* no libev is in between, where the clock stands still */
    snprintf(status, size, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
}

/* n:close(); also <close> */
static int box_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, NOTIFY);
    notify_close(box->notify);
    if (box->loop)
        loop_free(box->loop);
    box->notify = NULL;
    box->loop = NULL;
    callback_release(L, &box->describe);
    return 0;
}

/* open(fn) */
static int native_open(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct box){.loop = loop_new(LOOP_OWN)};
    lua_pushvalue(L, 1);
    box->describe = callback_take(L);
    luaL_setmetatable(L, NOTIFY);
    loop_set_virtual(box->loop, 1);
    box->notify = notify_open(box->loop, describe, box);
    if (!box->notify)
        luaL_pushfail(L);
    return 1;
}

/* n:ready() */
static int box_ready(lua_State *L)
{
    notify_ready(check_box(L)->notify);
    return 0;
}

/* n:reloading() */
static int box_reloading(lua_State *L)
{
    notify_reloading(check_box(L)->notify);
    return 0;
}

/* n:stopping(seconds) */
static int box_stopping(lua_State *L)
{
    notify_stopping(check_box(L)->notify, luaL_checknumber(L, 2));
    return 0;
}

/* n:advance(seconds) */
static int box_advance(lua_State *L)
{
    loop_advance(check_box(L)->loop, luaL_checknumber(L, 2));
    return 0;
}

/* receiver(name) */
static int native_receiver(lua_State *L)
{
    struct address a;
    char why[128];
    const char *text = lua_pushfstring(L, "unix:%s", luaL_checkstring(L, 1));
    if (address_parse(text, &a, 1, why, sizeof why) < 0)
        return luaL_error(L, "%s: %s", text, why);
    int *fd = lua_newuserdatauv(L, sizeof *fd, 0);
    *fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    luaL_setmetatable(L, RECEIVER);
    if (*fd < 0 || bind(*fd, &a.any, a.len) < 0)
        return luaL_error(L, "%s: %s", text, strerror(errno));
    return 1;
}

/* r:receive() */
static int receiver_receive(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, RECEIVER);
    char message[4096];
    ssize_t n = recv(*fd, message, sizeof message, 0);
    if (n < 0)
        luaL_pushfail(L);
    else
        lua_pushlstring(L, message, (size_t)n);
    return 1;
}

/* r:close(); also <close> */
static int receiver_close(lua_State *L)
{
    fd_close(luaL_checkudata(L, 1, RECEIVER));
    return 0;
}

static const luaL_Reg methods[] = {
    {"ready", box_ready},     {"reloading", box_reloading}, {"stopping", box_stopping},
    {"advance", box_advance}, {"close", box_close},         {NULL, NULL},
};

static const luaL_Reg receiver_methods[] = {
    {"receive", receiver_receive},
    {"close", receiver_close},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", native_open},
    {"receiver", native_receiver},
    {NULL, NULL},
};

int luaopen_native_notify(lua_State *L);
int luaopen_native_notify(lua_State *L)
{
    class_new(L, NOTIFY, methods, box_close);
    class_new(L, RECEIVER, receiver_methods, receiver_close);
    luaL_newlib(L, functions);
    return 1;
}
