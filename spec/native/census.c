/*
 * native.census: runtime/census.c for its spec, which is all workers in one process.
 *
 *   create(workers)            a pool of them, or nil and errno's name
 *   p:close() or <close>
 *   p:enter(worker, fd, holder, most)   whether it was let in
 *   p:leave(worker, fd), p:forget(worker)
 *   p:decide(worker, holder)   as if it were deciding, and stood still
 *   p:ends(worker)             holders_end and deciding
 *   p:race(holder, most, rounds)   all workers at once, each a thread, try to enter one
 *                              connection each round, and leave: how often not exactly
 *                              most were let in
 */
#include "census.h"

#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define POOL "native.census"

enum { WORKERS_MAX = 16 };

/* create(workers) */
static int native_create(lua_State *L)
{
    size_t workers = (size_t)luaL_checkinteger(L, 1);
    struct scoreboard *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (struct scoreboard){.fd = -1};
    luaL_setmetatable(L, POOL);
    if (scoreboard_create(b, workers) == 0)
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, strerrorname_np(errno));
    return 2;
}

static struct scoreboard *check_pool(lua_State *L)
{
    return luaL_checkudata(L, 1, POOL);
}

/* p:close() */
static int native_close(lua_State *L)
{
    scoreboard_close(check_pool(L));
    return 0;
}

static struct census census_of(struct scoreboard *b, uint32_t worker)
{
    return (struct census){b->cells, (uint32_t)b->count, worker};
}

/* As the worker at index 2, from 1, sees it. */
static struct census check_census(lua_State *L)
{
    struct scoreboard *b = check_pool(L);
    lua_Integer worker = luaL_checkinteger(L, 2);
    luaL_argcheck(L, b->cells && worker >= 1 && (size_t)worker <= b->count, 2,
                  "no such worker");
    return census_of(b, (uint32_t)worker - 1);
}

static struct scoreboard_cell *check_cell(lua_State *L)
{
    struct census c = check_census(L);
    return &c.cells[c.self];
}

/* p:enter(worker, fd, holder, most) */
static int native_enter(lua_State *L)
{
    struct census c = check_census(L);
    lua_pushboolean(L, census_enter(&c, (int)luaL_checkinteger(L, 3),
                                    (uint64_t)luaL_checkinteger(L, 4),
                                    (uint32_t)luaL_checkinteger(L, 5)));
    return 1;
}

/* p:leave(worker, fd) */
static int native_leave(lua_State *L)
{
    struct census c = check_census(L);
    census_leave(&c, (int)luaL_checkinteger(L, 3));
    return 0;
}

/* p:forget(worker) */
static int native_forget(lua_State *L)
{
    census_forget(check_cell(L));
    return 0;
}

/* p:decide(worker, holder) */
static int native_decide(lua_State *L)
{
    check_cell(L)->deciding = (uint64_t)luaL_checkinteger(L, 3);
    return 0;
}

/* p:ends(worker) */
static int native_ends(lua_State *L)
{
    struct scoreboard_cell *cell = check_cell(L);
    lua_pushinteger(L, cell->holders_end);
    lua_pushinteger(L, (lua_Integer)cell->deciding);
    return 2;
}

struct race {
    struct scoreboard *board;
    uint64_t holder;
    uint32_t most;
    int rounds;
    _Atomic size_t met;      /* of all threads, how often each has come to a meeting */
    _Atomic uint32_t inside; /* of this round */
    int wrong;
};

struct racer {
    struct race *race;
    uint32_t worker;
    size_t meetings;
};

/* All go on from here at the same instant, as far as there are processors. */
static void meet(struct racer *me)
{
    struct race *r = me->race;
    size_t all = ++me->meetings * r->board->count;
    atomic_fetch_add(&r->met, 1);
    while (atomic_load(&r->met) < all)
        sched_yield();
}

static void *run_racer(void *arg)
{
    struct racer *me = arg;
    struct race *r = me->race;
    struct census c = census_of(r->board, me->worker);
    for (int round = 0; round < r->rounds; round++) {
        meet(me);
        int in = census_enter(&c, round % 8, r->holder, r->most);
        r->inside += (uint32_t)in;
        meet(me);
        if (in)
            census_leave(&c, round % 8);
        if (me->worker == 0) {
            r->wrong += r->inside != r->most;
            r->inside = 0;
        }
    }
    return NULL;
}

/* p:race(holder, most, rounds) */
static int native_race(lua_State *L)
{
    struct race r = {.board = check_pool(L),
                     .holder = (uint64_t)luaL_checkinteger(L, 2),
                     .most = (uint32_t)luaL_checkinteger(L, 3),
                     .rounds = (int)luaL_checkinteger(L, 4)};
    uint32_t n = (uint32_t)r.board->count;
    pthread_t threads[WORKERS_MAX];
    struct racer racers[WORKERS_MAX];
    luaL_argcheck(L, n <= WORKERS_MAX, 1, "too many");
    for (uint32_t i = 0; i < n; i++) {
        racers[i] = (struct racer){.race = &r, .worker = i};
        if (pthread_create(&threads[i], NULL, run_racer, &racers[i]) != 0)
            return luaL_error(L, "no thread");
    }
    for (uint32_t i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    lua_pushinteger(L, r.wrong);
    return 1;
}

static const luaL_Reg methods[] = {
    {"close", native_close},   {"enter", native_enter},
    {"leave", native_leave},   {"forget", native_forget},
    {"decide", native_decide}, {"ends", native_ends},
    {"race", native_race},     {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", native_close},
    {"__close", native_close},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"create", native_create},
    {NULL, NULL},
};

int luaopen_native_census(lua_State *L);
int luaopen_native_census(lua_State *L)
{
    luaL_newmetatable(L, POOL);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newlib(L, functions);
    return 1;
}
