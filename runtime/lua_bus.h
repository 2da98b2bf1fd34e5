/*
 * lua_bus: messages by topic, between the workers of a pool. What a subscriber does with
 * them is lua/moonpool/bus.lua; here is only the way out and the way in.
 *
 *     bus.send(topic, message) -> true | nil, message, code
 *     bus.listen(topic, on)         whether this process wants the topic
 *     bus.position() -> position    of the last message that was published
 *     bus.replay(topic, since, request) -> true | nil, message, code
 *                                   asks for what came after that position
 *     bus.receive(fn)               fn(topic, message, position) gets what comes in;
 *                                   position is nil for what only this process hears
 *     bus.replayed(fn)              fn(request, position, message) gets what was asked
 *                                   for, and in the end fn(request, position, nil,
 *                                   complete): whether that was all until there
 *
 * Positions: bus_log.h.
 */
#ifndef MOONPOOL_LUA_BUS_H
#define MOONPOOL_LUA_BUS_H

#include "task.h"

#include <stddef.h>
#include <stdint.h>

struct lua_bus;

struct lua_bus_callbacks {
    /* 1 sent, 0 the queue is full, -1 nobody is there; never calls back */
    int (*send)(const char *topic, size_t topic_len, const char *text, size_t len,
                void *arg);
    void (*listen)(const char *topic, size_t len, int on, void *arg);
    uint64_t (*position)(void *arg);
    /* as send; lua_bus_replay tells the rest */
    int (*replay)(const char *topic, size_t len, uint64_t since, uint32_t request,
                  void *arg);
};

struct lua_bus *lua_bus_new(struct tasks *ts);
void lua_bus_free(struct lua_bus *b);
/* Until this is called, what is sent comes straight back: a bus of one process. */
void lua_bus_connect(struct lua_bus *b, const struct lua_bus_callbacks *callbacks,
                     void *arg);

int luaopen_moonpool_bus(lua_State *L, struct lua_bus *b); /* pushes the table */

/* A message has come in; position 0: from nobody. Not from within Lua. */
void lua_bus_deliver(struct lua_bus *b, const char *topic, size_t topic_len,
                     const char *text, size_t len, uint64_t position);
/* One that was asked for; without text it was the last, and all are there, or not. */
void lua_bus_replay(struct lua_bus *b, uint32_t request, uint64_t position,
                    const char *text, size_t len, int complete);

#endif
