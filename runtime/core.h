/*
 * core: the runtime of one Lua state, "moonpool.core" to Lua: everything from lua_task to
 * lua_http over one loop. The worker makes one in its process; stock lua5.4 makes one
 * when a spec requires the module. They are the same.
 */
#ifndef MOONPOOL_CORE_H
#define MOONPOOL_CORE_H

#include "lua_bus.h"
#include "lua_http.h"
#include "lua_websocket.h"

struct core {
    struct loop *loop; /* borrowed */
    struct tasks *tasks;
    struct lua_conn_env conns;
    struct lua_bus *bus;
    struct lua_http *http;
    struct lua_websockets *websockets;
};

struct core_worker { /* what the script sees as moonpool.worker */
    const char *pool;
    uint32_t number;
    uint64_t generation;
    int dev;
};

extern const struct conn_limits core_default_limits;

/*
 * Makes require "moonpool.core" work in L and returns what is behind it, which lives
 * until lua_close; the loop, and what the census is of, must live longer. Raises for want
 * of memory: call it protected.
 */
struct core *core_open(lua_State *L, struct loop *loop, const struct conn_limits *limits,
                       const struct census *census, const struct core_worker *worker);

struct core *core_get(lua_State *L); /* the one of L, or NULL */

/* For stock Lua: a core with a loop and a census of its own, and core.loop, which turns
 * the former. */
int luaopen_moonpool_core(lua_State *L);

#endif
