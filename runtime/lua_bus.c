#include "lua_bus.h"

#include "alloc.h"
#include "lua_fail.h"
#include "wire.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct lua_bus {
    struct tasks *tasks;
    const struct lua_bus_callbacks *callbacks;
    void *arg;
    int receiver; /* reference in the registry */
};

struct message {
    struct lua_bus *bus;
    const char *topic, *text;
    size_t topic_len, len;
};

/* -- coming in ----------------------------------------------------------------------- */

static int deliver(lua_State *L)
{
    const struct message *m = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->bus->receiver);
    lua_pushlstring(L, m->topic, m->topic_len);
    lua_pushlstring(L, m->text, m->len);
    lua_call(L, 2, 0);
    return 0;
}

void lua_bus_deliver(struct lua_bus *b, const char *topic, size_t topic_len,
                     const char *text, size_t len)
{
    struct message m = {b, topic, text, topic_len, len};
    if (b->receiver != LUA_NOREF)
        tasks_protect(b->tasks, deliver, &m);
}

/* -- alone --------------------------------------------------------------------------- */

struct loopback {
    struct loop_job job;
    struct message message;
    char bytes[];
};

static void loopback_run(void *arg)
{
    struct loopback *l = arg;
    struct message *m = &l->message;
    lua_bus_deliver(m->bus, m->topic, m->topic_len, m->text, m->len);
    loop_free_later(tasks_loop(m->bus->tasks), l);
}

static int loopback_send(const char *topic, size_t topic_len, const char *text,
                         size_t len, void *arg)
{
    struct lua_bus *b = arg;
    struct loopback *l = alloc_zero(sizeof *l + topic_len + len);
    memcpy(l->bytes, topic, topic_len);
    memcpy(l->bytes + topic_len, text, len);
    l->message = (struct message){b, l->bytes, l->bytes + topic_len, topic_len, len};
    l->job = (struct loop_job){.run = loopback_run, .arg = l};
    loop_soon(tasks_loop(b->tasks), &l->job);
    return 1;
}

static void loopback_listen(const char *topic, size_t len, int on, void *arg)
{
    (void)topic, (void)len, (void)on, (void)arg;
}

static const struct lua_bus_callbacks loopback = {loopback_send, loopback_listen};

/* -- Lua ----------------------------------------------------------------------------- */

static struct lua_bus *bus_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* bus.send(topic, message) -> true | nil, message, code */
static int bus_send(lua_State *L)
{
    struct lua_bus *b = bus_of(L);
    size_t topic_len, len;
    const char *topic = luaL_checklstring(L, 1, &topic_len);
    const char *text = luaL_checklstring(L, 2, &len);
    if (topic_len + len > WIRE_PUBLISH_MAX)
        return lua_fail_text(L, "message too long", "EMSGSIZE");
    int sent = b->callbacks->send(topic, topic_len, text, len, b->arg);
    if (sent == 0)
        return lua_fail_text(L, "message queue is full", "ENOBUFS");
    if (sent < 0)
        return lua_fail_text(L, "closed", "EPIPE");
    lua_pushboolean(L, 1);
    return 1;
}

/* bus.listen(topic, on) */
static int bus_listen(lua_State *L)
{
    struct lua_bus *b = bus_of(L);
    size_t len;
    const char *topic = luaL_checklstring(L, 1, &len);
    b->callbacks->listen(topic, len, lua_toboolean(L, 2), b->arg);
    return 0;
}

/* bus.receive(fn) */
static int bus_receive(lua_State *L)
{
    struct lua_bus *b = bus_of(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, b->receiver);
    b->receiver = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static const luaL_Reg functions[] = {
    {"send", bus_send},
    {"listen", bus_listen},
    {"receive", bus_receive},
    {NULL, NULL},
};

int luaopen_moonpool_bus(lua_State *L, struct lua_bus *b)
{
    luaL_newlibtable(L, functions);
    lua_pushlightuserdata(L, b);
    luaL_setfuncs(L, functions, 1);
    return 1;
}

struct lua_bus *lua_bus_new(struct tasks *ts)
{
    struct lua_bus *b = alloc_zero(sizeof *b);
    *b = (struct lua_bus){
        .tasks = ts, .callbacks = &loopback, .arg = b, .receiver = LUA_NOREF};
    return b;
}

void lua_bus_free(struct lua_bus *b)
{
    free(b);
}

void lua_bus_connect(struct lua_bus *b, const struct lua_bus_callbacks *callbacks,
                     void *arg)
{
    b->callbacks = callbacks;
    b->arg = arg;
}
