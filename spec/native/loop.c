/*
 * native.loop: runtime/loop.c and runtime/clock.c for their specs.
 *
 *   clock([now])          a clock: c:set(now), c:now(), c:next(), c:clear(),
 *                         c:pass(n): as if n timers had been started meanwhile
 *   new()                 a loop: l:turn(), l:wait(s), l:run(), l:stop(), l:advance(s),
 *                         l:virtual(on), l:now(), l:next(), l:free() or <close>
 *   x:timer(fn)           of a clock or a loop: t:start(at), t:stop(), t:waits()
 *   l:job(fn)             j:soon(), j:last(), j:at_rest()
 *   l:watch(fd, fn)       until there is something to read: w:stop()
 *   l:forget(fd), l:epoll()  the loop's epoll descriptor
 *   l:free_later()        gives memory that l is to free, to be looked at with peek(m)
 *   l:unfreed()           how many of those there are
 */
#include "loop.h"

#include "alloc.h"
#include "callback.h"
#include "class.h"

#include <string.h>

#define LOOP "native.loop"
#define CLOCK "native.clock"
#define TIMER "native.timer"
#define JOB "native.job"
#define WATCH "native.watch"

enum { MEMORY = 64 };

struct timer_box {
    struct timer timer;
    struct clock *clock;
    struct callback fire;
};

struct job_box {
    struct loop_job job;
    struct loop *loop;
    struct callback run;
};

struct watch_box {
    ev_io io;
    struct loop *loop;
    struct callback ready;
};

static struct loop *check_loop(lua_State *L)
{
    struct loop **box = luaL_checkudata(L, 1, LOOP);
    luaL_argcheck(L, *box, 1, "the loop is gone");
    return *box;
}

static struct clock *check_clock(lua_State *L)
{
    if (luaL_testudata(L, 1, LOOP))
        return &check_loop(L)->clock;
    return luaL_checkudata(L, 1, CLOCK);
}

/* A userdata that lives as long as its owner at index 1, with the function at fn. */
static void *new_owned(lua_State *L, size_t size, const char *name, int fn,
                       struct callback *c)
{
    void *p = lua_newuserdatauv(L, size, 1);
    memset(p, 0, size);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    lua_getiuservalue(L, 1, 1);
    lua_pushvalue(L, -2);
    lua_pushboolean(L, 1);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    lua_pushvalue(L, fn);
    *c = callback_take(L);
    luaL_setmetatable(L, name);
    return p;
}

static void *new_owner(lua_State *L, size_t size, const char *name)
{
    void *p = lua_newuserdatauv(L, size, 1);
    memset(p, 0, size);
    lua_newtable(L);
    lua_setiuservalue(L, -2, 1);
    luaL_setmetatable(L, name);
    return p;
}

static void call(struct callback *c)
{
    if (callback_begin(c))
        callback_call(c, 0);
}

/* The clock. */

/* clock([now]) */
static int native_clock(lua_State *L)
{
    lua_Number now = luaL_optnumber(L, 1, 0);
    struct clock *c = new_owner(L, sizeof *c, CLOCK);
    c->now = now;
    return 1;
}

/* c:set(now): how many fired */
static int native_set(lua_State *L)
{
    int fired = clock_set(check_clock(L), luaL_checknumber(L, 2));
    callback_raise(L);
    lua_pushinteger(L, fired);
    return 1;
}

/* c:now() */
static int clock_now(lua_State *L)
{
    lua_pushnumber(L, check_clock(L)->now);
    return 1;
}

/* c:next(), l:next() */
static int native_next(lua_State *L)
{
    lua_pushnumber(L, clock_next(check_clock(L)));
    return 1;
}

/* c:clear() */
static int native_clear(lua_State *L)
{
    clock_clear(check_clock(L));
    return 0;
}

/* c:pass(n) */
static int native_pass(lua_State *L)
{
    check_clock(L)->started += (uint64_t)luaL_checkinteger(L, 2);
    return 0;
}

/* monotonic() */
static int native_monotonic(lua_State *L)
{
    lua_pushnumber(L, clock_monotonic());
    return 1;
}

static void on_fire(void *arg)
{
    call(&((struct timer_box *)arg)->fire);
}

/* x:timer(fn) */
static int native_timer(lua_State *L)
{
    struct clock *c = check_clock(L);
    struct callback fire;
    struct timer_box *box = new_owned(L, sizeof *box, TIMER, 2, &fire);
    box->clock = c;
    box->fire = fire;
    timer_init(&box->timer, on_fire, box);
    return 1;
}

static struct timer_box *check_timer(lua_State *L)
{
    return luaL_checkudata(L, 1, TIMER);
}

/* t:start(at) */
static int native_timer_start(lua_State *L)
{
    struct timer_box *box = check_timer(L);
    timer_start(box->clock, &box->timer, luaL_checknumber(L, 2));
    return 0;
}

/* t:stop() */
static int native_timer_stop(lua_State *L)
{
    struct timer_box *box = check_timer(L);
    timer_stop(box->clock, &box->timer);
    return 0;
}

/* t:waits(): whether it is started */
static int native_timer_waits(lua_State *L)
{
    lua_pushboolean(L, check_timer(L)->timer.place != 0);
    return 1;
}

static int timer_gc(lua_State *L)
{
    callback_release(L, &check_timer(L)->fire);
    return 0;
}

/* The loop. */

/* new() */
static int native_new(lua_State *L)
{
    struct loop **box = new_owner(L, sizeof *box, LOOP);
    *box = loop_new(LOOP_OWN);
    return *box ? 1 : luaL_error(L, "no loop");
}

/* l:free(); also <close> */
static int native_free(lua_State *L)
{
    struct loop **box = luaL_checkudata(L, 1, LOOP);
    if (*box)
        loop_free(*box);
    *box = NULL;
    callback_raise(L);
    return 0;
}

/* l:virtual(on) */
static int native_virtual(lua_State *L)
{
    loop_set_virtual(check_loop(L), lua_toboolean(L, 2));
    return 0;
}

/* l:turn(): whether anything happened */
static int native_turn(lua_State *L)
{
    int happened = loop_turn(check_loop(L));
    callback_raise(L);
    lua_pushboolean(L, happened);
    return 1;
}

/* l:wait(seconds) */
static int native_wait(lua_State *L)
{
    loop_wait(check_loop(L), luaL_checknumber(L, 2));
    callback_raise(L);
    return 0;
}

/* l:run() */
static int native_run(lua_State *L)
{
    loop_run(check_loop(L));
    callback_raise(L);
    return 0;
}

/* l:stop() */
static int native_stop(lua_State *L)
{
    loop_stop(check_loop(L));
    return 0;
}

/* l:advance(seconds) */
static int native_advance(lua_State *L)
{
    loop_advance(check_loop(L), luaL_checknumber(L, 2));
    callback_raise(L);
    return 0;
}

/* l:now() */
static int native_now(lua_State *L)
{
    lua_pushnumber(L, loop_now(check_loop(L)));
    return 1;
}

static void on_job(void *arg)
{
    call(&((struct job_box *)arg)->run);
}

/* l:job(fn) */
static int native_job(lua_State *L)
{
    struct loop *l = check_loop(L);
    struct callback run;
    struct job_box *box = new_owned(L, sizeof *box, JOB, 2, &run);
    *box = (struct job_box){.job = {.run = on_job, .arg = box}, .loop = l, .run = run};
    return 1;
}

static struct job_box *check_job(lua_State *L)
{
    return luaL_checkudata(L, 1, JOB);
}

/* j:soon() */
static int native_job_soon(lua_State *L)
{
    struct job_box *box = check_job(L);
    loop_soon(box->loop, &box->job);
    return 0;
}

/* j:last() */
static int native_job_last(lua_State *L)
{
    struct job_box *box = check_job(L);
    loop_last(box->loop, &box->job);
    return 0;
}

static int native_job_at_rest(lua_State *L)
{
    struct job_box *box = check_job(L);
    loop_at_rest(box->loop, &box->job);
    return 0;
}

static int job_gc(lua_State *L)
{
    callback_release(L, &check_job(L)->run);
    return 0;
}

static void on_ready(struct ev_loop *ev, ev_io *io, int revents)
{
    (void)ev, (void)revents;
    call(&((struct watch_box *)io->data)->ready);
}

/* l:watch(fd, fn) */
static int native_watch(lua_State *L)
{
    struct loop *l = check_loop(L);
    int fd = (int)luaL_checkinteger(L, 2);
    struct callback ready;
    struct watch_box *box = new_owned(L, sizeof *box, WATCH, 3, &ready);
    box->loop = l;
    box->ready = ready;
    ev_io_init(&box->io, on_ready, fd, EV_READ);
    box->io.data = box;
    ev_io_start(l->ev, &box->io);
    return 1;
}

static struct watch_box *check_watch(lua_State *L)
{
    return luaL_checkudata(L, 1, WATCH);
}

/* w:stop() */
static int native_watch_stop(lua_State *L)
{
    struct watch_box *box = check_watch(L);
    ev_io_stop(box->loop->ev, &box->io);
    return 0;
}

static int watch_gc(lua_State *L)
{
    callback_release(L, &check_watch(L)->ready);
    return 0;
}

/* l:forget(fd) */
static int native_forget(lua_State *L)
{
    loop_forget(check_loop(L), (int)luaL_checkinteger(L, 2));
    return 0;
}

/* l:epoll() */
static int native_epoll(lua_State *L)
{
    lua_pushinteger(L, check_loop(L)->epoll_fd);
    return 1;
}

/* l:free_later() */
static int native_free_later(lua_State *L)
{
    char *memory = alloc(MEMORY);
    memset(memory, 'x', MEMORY);
    loop_free_later(check_loop(L), memory);
    lua_pushlightuserdata(L, memory);
    return 1;
}

/* peek(memory): what is in it; the sanitizer sees when it has been freed */
static int native_peek(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TLIGHTUSERDATA);
    lua_pushlstring(L, lua_touserdata(L, 1), MEMORY);
    return 1;
}

/* l:unfreed() */
static int native_unfreed(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_loop(L)->dead_count);
    return 1;
}

static const luaL_Reg clock_methods[] = {
    {"set", native_set},   {"now", clock_now},
    {"next", native_next}, {"clear", native_clear},
    {"pass", native_pass}, {"timer", native_timer},
    {NULL, NULL},
};

static const luaL_Reg loop_methods[] = {
    {"virtual", native_virtual},
    {"turn", native_turn},
    {"wait", native_wait},
    {"run", native_run},
    {"stop", native_stop},
    {"advance", native_advance},
    {"now", native_now},
    {"next", native_next},
    {"timer", native_timer},
    {"job", native_job},
    {"watch", native_watch},
    {"forget", native_forget},
    {"epoll", native_epoll},
    {"free_later", native_free_later},
    {"free", native_free},
    {"unfreed", native_unfreed},
    {NULL, NULL},
};

static const luaL_Reg timer_methods[] = {
    {"start", native_timer_start},
    {"stop", native_timer_stop},
    {"waits", native_timer_waits},
    {NULL, NULL},
};

static const luaL_Reg job_methods[] = {
    {"soon", native_job_soon},
    {"last", native_job_last},
    {"at_rest", native_job_at_rest},
    {NULL, NULL},
};

static const luaL_Reg watch_methods[] = {{"stop", native_watch_stop}, {NULL, NULL}};

static const luaL_Reg functions[] = {
    {"new", native_new},
    {"clock", native_clock},
    {"monotonic", native_monotonic},
    {"peek", native_peek},
    {NULL, NULL},
};

int luaopen_native_loop(lua_State *L);
int luaopen_native_loop(lua_State *L)
{
    class_new(L, CLOCK, clock_methods, native_clear);
    class_new(L, LOOP, loop_methods, native_free);
    class_new(L, TIMER, timer_methods, timer_gc);
    class_new(L, JOB, job_methods, job_gc);
    class_new(L, WATCH, watch_methods, watch_gc);
    luaL_newlib(L, functions);
    return 1;
}
