#include "core.h"

#include "log.h"
#include "lua_coroutine.h"
#include "lua_fail.h"
#include "lua_fd.h"
#include "lua_handler.h"
#include "lua_json.h"
#include "lua_loop.h"
#include "lua_net.h"
#include "lua_pack.h"
#include "lua_task.h"
#include "watchdog.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NAME "moonpool.core"

enum { PACK_MOST = 1 << 26 };

const struct conn_limits core_default_limits = {
    .read = 1 << 20, .write = 1 << 16, .state = 1 << 16};

struct core_box {
    struct core core;
    struct loop *own_loop;       /* NULL in a worker, whose loop is its own */
    struct scoreboard own_board; /* likewise, for its census */
};

/* log(level, text) */
static int core_log(lua_State *L)
{
    enum log_level level;
    const char *name = luaL_checkstring(L, 1);
    luaL_argcheck(L, log_level_parse(name, &level) == 0, 1, "no such level");
    log_write(level, "%s", luaL_checkstring(L, 2));
    return 0;
}

/* time() -> seconds since 1970, with a fraction */
static int core_time(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec * 1e-9);
    return 1;
}

/* pack(value) -> bytes: of a plain value (lua_pack.h); raises what is none */
static int core_pack(lua_State *L)
{
    luaL_checkany(L, 1);
    struct buf b = {0};
    int failed = lua_pack(L, 1, "the value", &b, PACK_MOST);
    if (failed) {
        buf_release(&b);
        return lua_error(L);
    }
    lua_pushlstring(L, buf_head(&b), buf_len(&b));
    buf_release(&b);
    return 1;
}

/* unpack(bytes) -> value; nothing for bytes that pack has not made */
static int core_unpack(lua_State *L)
{
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    return lua_unpack(L, data, len) < 0 ? 0 : 1;
}

/* fail(errno) -> nil, message, code: for Lua's own functions, which give the number */
static int core_fail(lua_State *L)
{
    return lua_fail(L, (int)luaL_checkinteger(L, 1));
}

/*
 * The state's last finalizer but those of objects older than this one: every connection
 * and task that Lua could see has been finalized before (reference manual, 2.5.3).
 */
static int core_gc(lua_State *L)
{
    struct core_box *box = lua_touserdata(L, 1);
    struct core *core = &box->core;
    tasks_end(core->tasks);
    lua_websockets_free(core->websockets);
    lua_http_free(core->http);
    conns_end(&core->conns.conns);
    while (loop_turn(core->loop))
        ;
    lua_bus_free(core->bus);
    tasks_free(core->tasks);
    watchdog_set(0); /* no signal finds this module unloaded */
    if (box->own_loop)
        loop_free(box->own_loop);
    scoreboard_close(&box->own_board);
    return 0;
}

static struct core_box *core_new(lua_State *L, struct loop *loop,
                                 const struct conn_limits *limits,
                                 const struct census *census)
{
    struct core_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    lua_State *main = lua_tothread(L, -1);
    lua_pop(L, 1);
    *box = (struct core_box){.core = {.loop = loop}, .own_board = {.fd = -1}};
    struct core *core = &box->core;
    core->tasks = tasks_new(main, loop);
    core->conns.tasks = core->tasks;
    conns_open(&core->conns.conns, loop, limits);
    core->conns.conns.census = *census;
    core->bus = lua_bus_new(core->tasks);
    core->http = lua_http_new(&core->conns);
    core->websockets = lua_websockets_new(&core->conns);
    luaL_newmetatable(L, NAME);
    lua_pushcfunction(L, core_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, NAME " box");
    return box;
}

static void push_worker(lua_State *L, const struct core_worker *worker)
{
    lua_createtable(L, 0, 5);
    lua_pushstring(L, worker->pool);
    lua_setfield(L, -2, "pool");
    lua_pushinteger(L, worker->number);
    lua_setfield(L, -2, "id");
    lua_pushinteger(L, getpid());
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, (lua_Integer)worker->generation);
    lua_setfield(L, -2, "generation");
    lua_pushboolean(L, worker->dev);
    lua_setfield(L, -2, "dev");
}

/* Pushes the table that require "moonpool.core" gives. */
static void push_module(lua_State *L, struct core *core, const struct core_worker *worker)
{
    lua_coroutine_open(L, core->tasks);
    luaopen_moonpool_conn(L);
    lua_newtable(L);
    luaopen_moonpool_task(L, core->tasks);
    lua_setfield(L, -2, "task");
    luaopen_moonpool_fd(L);
    lua_setfield(L, -2, "fd");
    luaopen_moonpool_net(L, &core->conns);
    lua_setfield(L, -2, "net");
    luaopen_moonpool_bus(L, core->bus);
    lua_setfield(L, -2, "bus");
    luaopen_moonpool_http(L, core->http);
    lua_setfield(L, -2, "http");
    luaopen_moonpool_websocket(L, core->websockets);
    lua_setfield(L, -2, "websocket");
    luaopen_moonpool_json(L);
    lua_setfield(L, -2, "json");
    lua_pushcfunction(L, core_log);
    lua_setfield(L, -2, "log");
    lua_pushcfunction(L, core_time);
    lua_setfield(L, -2, "time");
    lua_pushcfunction(L, core_pack);
    lua_setfield(L, -2, "pack");
    lua_pushcfunction(L, core_unpack);
    lua_setfield(L, -2, "unpack");
    lua_pushcfunction(L, core_fail);
    lua_setfield(L, -2, "fail");
    push_worker(L, worker);
    lua_setfield(L, -2, "worker");
}

struct core *core_open(lua_State *L, struct loop *loop, const struct conn_limits *limits,
                       const struct census *census, const struct core_worker *worker)
{
    struct core *core = &core_new(L, loop, limits, census)->core;
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    push_module(L, core, worker);
    lua_setfield(L, -2, NAME);
    lua_pop(L, 1);
    return core;
}

struct core *core_get(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, NAME " box");
    struct core_box *box = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return box ? &box->core : NULL;
}

/* A worker that is all of its pool. */
static struct core *open_alone(lua_State *L)
{
    struct scoreboard board = {.fd = -1};
    struct loop *loop = loop_new(LOOP_OWN);
    if (!loop)
        luaL_error(L, "cannot make an event loop: %s", strerror(errno));
    if (scoreboard_create(&board, 1) < 0) {
        loop_free(loop);
        luaL_error(L, "cannot make a scoreboard: %s", strerror(errno));
    }
    struct census census = {.cells = board.cells, .count = 1};
    struct core_box *box = core_new(L, loop, &core_default_limits, &census);
    box->own_loop = loop;
    box->own_board = board;
    return &box->core;
}

int luaopen_moonpool_core(lua_State *L)
{
    static const struct core_worker nobody = {.pool = ""};
    if (lua_getfield(L, LUA_REGISTRYINDEX, NAME " module") == LUA_TTABLE)
        return 1;             /* busted forgets modules between files */
    signal(SIGPIPE, SIG_IGN); /* as in a worker: write(2) and sendfile(2) return EPIPE */
    struct core *core = open_alone(L);
    push_module(L, core, &nobody);
    luaopen_moonpool_loop(L, core->tasks);
    lua_setfield(L, -2, "loop");
    lua_handler_push(L, &core->conns);
    lua_setfield(L, -2, "handler");
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, NAME " module");
    return 1;
}
