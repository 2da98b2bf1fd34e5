#include "lua_bus.h"

#include "alloc.h"
#include "bus_log.h"
#include "lua_fail.h"
#include "wire.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

struct lua_bus {
    struct tasks *tasks;
    const struct lua_bus_callbacks *callbacks;
    void *arg;
    struct bus_log log;     /* while it is alone */
    int receiver, replayed; /* references in the registry */
    /*
     * Any number, from which its requests are counted: what a worker had asked for that
     * died comes to the one in its place, who has not.
     */
    uint32_t first;
};

struct message {
    struct lua_bus *bus;
    uint64_t position;
    const char *topic, *text; /* no topic: it was asked for; no text: that was all */
    size_t topic_len, len;
    uint32_t request;
    int complete;
};

/* -- coming in ----------------------------------------------------------------------- */

static int deliver(lua_State *L)
{
    const struct message *m = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->bus->receiver);
    lua_pushlstring(L, m->topic, m->topic_len);
    lua_pushlstring(L, m->text, m->len);
    if (m->position)
        lua_pushinteger(L, (lua_Integer)m->position);
    else
        lua_pushnil(L);
    lua_call(L, 3, 0);
    return 0;
}

static int replay(lua_State *L)
{
    const struct message *m = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, m->bus->replayed);
    lua_pushinteger(L, m->request);
    lua_pushinteger(L, (lua_Integer)m->position);
    if (m->text)
        lua_pushlstring(L, m->text, m->len);
    else
        lua_pushnil(L);
    lua_pushboolean(L, m->complete);
    lua_call(L, 4, 0);
    return 0;
}

void lua_bus_deliver(struct lua_bus *b, const char *topic, size_t topic_len,
                     const char *text, size_t len, uint64_t position)
{
    struct message m = {.bus = b,
                        .position = position,
                        .topic = topic,
                        .topic_len = topic_len,
                        .text = text,
                        .len = len};
    if (b->receiver != LUA_NOREF)
        tasks_protect(b->tasks, deliver, &m);
}

void lua_bus_replay(struct lua_bus *b, uint32_t request, uint64_t position,
                    const char *text, size_t len, int complete)
{
    struct message m = {.bus = b,
                        .position = position,
                        .request = request - b->first,
                        .text = text,
                        .len = len,
                        .complete = complete};
    if (b->replayed != LUA_NOREF)
        tasks_protect(b->tasks, replay, &m);
}

/* -- alone --------------------------------------------------------------------------- */

/* What comes later. A message; or a request, whose topic this is, since that position. */
struct loopback {
    struct loop_job job;
    struct lua_bus *bus;
    uint64_t position;
    uint32_t request;
    size_t topic_len, len;
    char bytes[];
};

static void loopback_message(void *arg)
{
    struct loopback *l = arg;
    lua_bus_deliver(l->bus, l->bytes, l->topic_len, l->bytes + l->topic_len, l->len,
                    l->position);
    loop_free_later(tasks_loop(l->bus->tasks), l);
}

static void loopback_found(uint64_t position, const char *text, size_t len, void *arg)
{
    const struct loopback *l = arg;
    lua_bus_replay(l->bus, l->request, position, text, len, 1);
}

static void loopback_request(void *arg)
{
    struct loopback *l = arg;
    struct bus_log *log = &l->bus->log;
    uint64_t last = log->last;
    int complete =
        bus_log_replay(log, l->position, l->bytes, l->topic_len, loopback_found, l);
    lua_bus_replay(l->bus, l->request, last, NULL, 0, complete);
    loop_free_later(tasks_loop(l->bus->tasks), l);
}

static void loopback_soon(const struct loopback *what, const char *topic,
                          const char *text, void (*run)(void *arg))
{
    struct loopback *l = alloc(sizeof *l + what->topic_len + what->len);
    *l = *what;
    memcpy(l->bytes, topic, l->topic_len);
    memcpy(l->bytes + l->topic_len, text, l->len);
    l->job = (struct loop_job){.run = run, .arg = l};
    loop_soon(tasks_loop(l->bus->tasks), &l->job);
}

static int loopback_send(const char *topic, size_t topic_len, const char *text,
                         size_t len, void *arg)
{
    struct lua_bus *b = arg;
    struct loopback what = {.bus = b,
                            .position = bus_log_add(&b->log, topic, topic_len, text, len),
                            .topic_len = topic_len,
                            .len = len};
    loopback_soon(&what, topic, text, loopback_message);
    return 1;
}

static int loopback_replay(const char *topic, size_t len, uint64_t since,
                           uint32_t request, void *arg)
{
    struct loopback what = {
        .bus = arg, .position = since, .request = request, .topic_len = len};
    loopback_soon(&what, topic, "", loopback_request);
    return 1;
}

static void loopback_listen(const char *topic, size_t len, int on, void *arg)
{
    (void)topic, (void)len, (void)on, (void)arg;
}

static uint64_t loopback_position(void *arg)
{
    const struct lua_bus *b = arg;
    return b->log.last;
}

static const struct lua_bus_callbacks loopback = {loopback_send, loopback_listen,
                                                  loopback_position, loopback_replay};

/* -- Lua ----------------------------------------------------------------------------- */

static struct lua_bus *bus_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int push_sent(lua_State *L, int sent)
{
    if (sent == 0)
        return lua_fail_text(L, "message queue is full", "ENOBUFS");
    if (sent < 0)
        return lua_fail_text(L, "closed", "EPIPE");
    lua_pushboolean(L, 1);
    return 1;
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
    return push_sent(L, b->callbacks->send(topic, topic_len, text, len, b->arg));
}

/* bus.replay(topic, since, request) -> true | nil, message, code */
static int bus_replay(lua_State *L)
{
    struct lua_bus *b = bus_of(L);
    size_t len;
    const char *topic = luaL_checklstring(L, 1, &len);
    lua_Integer since = luaL_checkinteger(L, 2), request = luaL_checkinteger(L, 3);
    return push_sent(L, b->callbacks->replay(topic, len, (uint64_t)since,
                                             b->first + (uint32_t)request, b->arg));
}

/* bus.position() -> position */
static int bus_position(lua_State *L)
{
    struct lua_bus *b = bus_of(L);
    lua_pushinteger(L, (lua_Integer)b->callbacks->position(b->arg));
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

static int set_function(lua_State *L, int *ref)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* bus.receive(fn) */
static int bus_receive(lua_State *L)
{
    return set_function(L, &bus_of(L)->receiver);
}

/* bus.replayed(fn) */
static int bus_replayed(lua_State *L)
{
    return set_function(L, &bus_of(L)->replayed);
}

static const luaL_Reg functions[] = {
    {"send", bus_send},     {"listen", bus_listen},   {"position", bus_position},
    {"replay", bus_replay}, {"receive", bus_receive}, {"replayed", bus_replayed},
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
    *b = (struct lua_bus){.tasks = ts,
                          .callbacks = &loopback,
                          .arg = b,
                          .first = arc4random(),
                          .receiver = LUA_NOREF,
                          .replayed = LUA_NOREF};
    return b;
}

void lua_bus_free(struct lua_bus *b)
{
    bus_log_clear(&b->log);
    free(b);
}

void lua_bus_connect(struct lua_bus *b, const struct lua_bus_callbacks *callbacks,
                     void *arg)
{
    b->callbacks = callbacks;
    b->arg = arg;
}
