/*
 * native.scoreboard: runtime/scoreboard.c for its spec.
 *
 *   create(count), attach(fd)  a scoreboard, or nil and errno's name
 *   open(path)                 the one at that path, likewise
 *   #b, b:fd(), b:close() or <close>
 *   b:set_crowded(pool, on) b:is_crowded(pool)
 *   b:get(i, field), b:set(i, field, value)
 *   b:ask(i), b:receive(i, received), b:give_back(i)
 *   b:race(passes)  over all cells two threads go at once: one gives a slot back, the
 *                   other asks and then looks. How often it was neither told nor saw
 *                   it, and would now wait for ever
 */
#include "scoreboard.h"

#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define SCOREBOARD "native.scoreboard"

static int push_opened(lua_State *L, int result)
{
    if (result == 0)
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, strerrorname_np(errno));
    return 2;
}

static struct scoreboard *new_scoreboard(lua_State *L)
{
    struct scoreboard *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct scoreboard){.fd = -1};
    luaL_setmetatable(L, SCOREBOARD);
    return b;
}

/* create(count) */
static int native_create(lua_State *L)
{
    size_t count = (size_t)luaL_checkinteger(L, 1);
    return push_opened(L, scoreboard_create(new_scoreboard(L), count));
}

/* attach(fd) */
static int native_attach(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    return push_opened(L, scoreboard_attach(new_scoreboard(L), fd));
}

/* open(path) */
static int native_open(lua_State *L)
{
    struct scoreboard *b = new_scoreboard(L);
    int fd = open(luaL_checkstring(L, 1), O_RDWR | O_CLOEXEC);
    int result = scoreboard_attach(b, fd), error = errno;
    if (result < 0)
        fd_close(&fd);
    errno = error;
    return push_opened(L, result);
}

static struct scoreboard *check_scoreboard(lua_State *L)
{
    return luaL_checkudata(L, 1, SCOREBOARD);
}

/* b:close() */
static int native_close(lua_State *L)
{
    scoreboard_close(check_scoreboard(L));
    return 0;
}

/* b:fd() */
static int native_fd(lua_State *L)
{
    lua_pushinteger(L, check_scoreboard(L)->fd);
    return 1;
}

/* #b */
static int native_len(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_scoreboard(L)->count);
    return 1;
}

static struct scoreboard_cell *check_cell(lua_State *L)
{
    struct scoreboard *b = check_scoreboard(L);
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, b->cells && i >= 1 && (size_t)i <= b->count, 2, "no such cell");
    return &b->cells[i - 1];
}

/* The value of a field; it is first set to what the argument at value says, if any. */
static int64_t use_field(lua_State *L, struct scoreboard_cell *c, const char *field,
                         int value)
{
#define USE(name)                                                           \
    if (strcmp(field, #name) == 0) {                                        \
        if (!lua_isnone(L, value))                                          \
            c->name = (__typeof__(c->name + 0))luaL_checkinteger(L, value); \
        return (int64_t)c->name;                                            \
    }
    USE(generation)
    USE(pool)
    USE(pid)
    USE(want_slot)
    USE(lost_messages)
    USE(received)
    USE(topics)
    USE(open)
    USE(pinned)
    USE(draining)
    USE(served)
    USE(requests)
    USE(errors)
    USE(lua_bytes)
    USE(heartbeat)
    USE(deciding)
    USE(holders_end)
#undef USE
    return luaL_argerror(L, 3, "no such field");
}

/* b:get(i, field) */
static int native_get(lua_State *L)
{
    lua_settop(L, 3);
    lua_pushinteger(L, use_field(L, check_cell(L), luaL_checkstring(L, 3), 4));
    return 1;
}

/* b:set(i, field, value) */
static int native_set(lua_State *L)
{
    use_field(L, check_cell(L), luaL_checkstring(L, 3), 4);
    return 0;
}

/* b:ask(i) */
static int native_ask(lua_State *L)
{
    scoreboard_ask(check_cell(L));
    return 0;
}

/* b:receive(i, received): whether the supervisor must be told */
static int native_receive(lua_State *L)
{
    uint64_t received = (uint64_t)luaL_checkinteger(L, 3);
    lua_pushboolean(L, scoreboard_receive(check_cell(L), received));
    return 1;
}

/* b:give_back(i): likewise */
static int native_give_back(lua_State *L)
{
    lua_pushboolean(L, scoreboard_give_back(check_cell(L)));
    return 1;
}

/* b:set_crowded(pool, on) */
static int native_set_crowded(lua_State *L)
{
    scoreboard_set_crowded(check_scoreboard(L), (uint32_t)luaL_checkinteger(L, 2),
                           lua_toboolean(L, 3));
    return 0;
}

/* b:is_crowded(pool) */
static int native_is_crowded(lua_State *L)
{
    lua_pushboolean(
        L, scoreboard_is_crowded(check_scoreboard(L), (uint32_t)luaL_checkinteger(L, 2)));
    return 1;
}

struct race {
    struct scoreboard *board;
    int passes;
    _Atomic int pass, finished;
    _Atomic size_t place; /* the cell that is asked for */
    char *told;
};

static void await(_Atomic int *value, int wanted)
{
    while (*value != wanted)
        sched_yield();
}

/* Not for ever: whoever is ahead must not wait for one that is not running. */
static void await_place(struct race *r, size_t place)
{
    for (int spins = 0; spins < 200 && r->place < place; spins++)
        ;
}

static void *run_worker(void *arg)
{
    struct race *r = arg;
    for (int pass = 1; pass <= r->passes; pass++) {
        await(&r->pass, pass);
        for (size_t i = 0; i < r->board->count; i++) {
            r->told[i] = (char)r->board->cells[i].want_slot; /* it is in both caches */
            await_place(r, i);
            r->told[i] = (char)scoreboard_give_back(&r->board->cells[i]);
        }
        r->finished = pass;
    }
    return NULL;
}

/* One pass over all cells, both threads at once: how often nobody knew. */
static int run_race(struct race *r, char *seen)
{
    int unknown = 0;
    for (size_t i = 0; i < r->board->count; i++) {
        r->board->cells[i].open = 1;
        r->board->cells[i].want_slot = 0;
    }
    r->place = 0;
    r->pass++;
    for (size_t i = 0; i < r->board->count; i++) {
        r->place = i;
        for (volatile size_t delay = i % 128; delay; delay--)
            ;
        scoreboard_ask(&r->board->cells[i]);
        seen[i] = r->board->cells[i].open == 0;
    }
    await(&r->finished, r->pass);
    for (size_t i = 0; i < r->board->count; i++)
        unknown += !seen[i] && !r->told[i];
    return unknown;
}

/* b:race(passes) */
static int native_race(lua_State *L)
{
    struct scoreboard *b = check_scoreboard(L);
    struct race r = {.board = b, .passes = (int)luaL_checkinteger(L, 2)};
    char *seen = lua_newuserdatauv(L, b->count, 0);
    r.told = lua_newuserdatauv(L, b->count, 0);
    int unknown = 0;
    pthread_t worker;
    if (pthread_create(&worker, NULL, run_worker, &r) != 0)
        return luaL_error(L, "no thread");
    for (int pass = 0; pass < r.passes; pass++)
        unknown += run_race(&r, seen);
    pthread_join(worker, NULL);
    lua_pushinteger(L, unknown);
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", native_close},
    {"fd", native_fd},
    {"get", native_get},
    {"set", native_set},
    {"ask", native_ask},
    {"receive", native_receive},
    {"give_back", native_give_back},
    {"race", native_race},
    {"set_crowded", native_set_crowded},
    {"is_crowded", native_is_crowded},
    {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", native_close},
    {"__close", native_close},
    {"__len", native_len},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"create", native_create},
    {"attach", native_attach},
    {"open", native_open},
    {NULL, NULL},
};

int luaopen_native_scoreboard(lua_State *L);
int luaopen_native_scoreboard(lua_State *L)
{
    luaL_newmetatable(L, SCOREBOARD);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
