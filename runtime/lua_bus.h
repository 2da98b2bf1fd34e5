/*
 * lua_bus: messages by topic, between the workers of a pool. What a subscriber does with
 * them is lua/moonpool/bus.lua; here is only the way out and the way in.
 *
 *     bus.send(topic, message) -> true | nil, message, code
 *     bus.listen(topic, on)         whether this process wants the topic
 *     bus.receive(fn)               fn(topic, message) gets what comes in
 */
#ifndef MOONPOOL_LUA_BUS_H
#define MOONPOOL_LUA_BUS_H

#include "task.h"

#include <stddef.h>

struct lua_bus;

struct lua_bus_callbacks {
    /* 1 sent, 0 the queue is full, -1 nobody is there; never calls back */
    int (*send)(const char *topic, size_t topic_len, const char *text, size_t len,
                void *arg);
    void (*listen)(const char *topic, size_t len, int on, void *arg);
};

struct lua_bus *lua_bus_new(struct tasks *ts);
void lua_bus_free(struct lua_bus *b);
/* Until this is called, what is sent comes straight back: a bus of one process. */
void lua_bus_connect(struct lua_bus *b, const struct lua_bus_callbacks *callbacks,
                     void *arg);

int luaopen_moonpool_bus(lua_State *L, struct lua_bus *b); /* pushes the table */

/* A message has come in. Not from within Lua. */
void lua_bus_deliver(struct lua_bus *b, const char *topic, size_t topic_len,
                     const char *text, size_t len);

#endif
