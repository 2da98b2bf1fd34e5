/*
 * native.listener: runtime/listener.c for its spec, on a loop of native.loop.
 *
 *   open(loop, fd, fn)   fn() is called while clients wait
 *   l:accept()           a descriptor or nil; l:pause(), l:resume(), l:close()
 *   l:waiting(most)      how many clients
 *   fail(name, n)        the next n accepts fail with that error
 *   captured(fn)         what was logged while fn ran
 */
#include "listener.h"

#include "callback.h"
#include "class.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LISTENER "native.listener"

struct box {
    struct listener *listener; /* NULL once it is closed */
    struct callback ready;
};

static int failures, failure;

/* Hidden, so the runtime's calls in this library come here instead of to libc. */
__attribute__((visibility("hidden"))) int accept4(int fd, struct sockaddr *restrict from,
                                                  socklen_t *restrict len, int flags)
{
    if (failures == 0)
        return (int)syscall(SYS_accept4, fd, from, len, flags);
    failures--;
    errno = failure;
    return -1;
}

/* fail(name, n) */
static int native_fail(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    for (failure = 1; failure < 200; failure++)
        if (strerrorname_np(failure) && strcmp(name, strerrorname_np(failure)) == 0)
            break;
    luaL_argcheck(L, failure < 200, 1, "no such error");
    failures = (int)luaL_checkinteger(L, 2);
    return 0;
}

/* captured(fn) */
static int native_captured(lua_State *L)
{
    char text[4096];
    int file = memfd_create("log", MFD_CLOEXEC), real = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
    lua_settop(L, 1);
    int failed = lua_pcall(L, 0, 1, 0) != LUA_OK;
    dup2(real, STDERR_FILENO);
    close(real);
    ssize_t n = pread(file, text, sizeof text, 0);
    close(file);
    if (failed)
        return lua_error(L);
    lua_pushlstring(L, text, n > 0 ? (size_t)n : 0);
    return 1;
}

static struct box *check_box(lua_State *L)
{
    return luaL_checkudata(L, 1, LISTENER);
}

static struct listener *check_listener(lua_State *L)
{
    struct box *box = check_box(L);
    luaL_argcheck(L, box->listener, 1, "the listener is closed");
    return box->listener;
}

static void on_ready(struct listener *l, void *arg)
{
    struct box *box = arg;
    (void)l;
    if (callback_begin(&box->ready))
        callback_call(&box->ready, 0);
}

/* open(loop, fd, fn) */
static int native_open(lua_State *L)
{
    static const struct listener_callbacks callbacks = {on_ready};
    struct loop **loop = luaL_checkudata(L, 1, "native.loop");
    int fd = (int)luaL_checkinteger(L, 2);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, 3);
    box->ready = callback_take(L);
    box->listener = listener_open(*loop, fd, &callbacks, box);
    luaL_setmetatable(L, LISTENER);
    return 1;
}

/* l:accept() */
static int native_accept(lua_State *L)
{
    int fd = listener_accept(check_listener(L));
    if (fd < 0)
        luaL_pushfail(L);
    else
        lua_pushinteger(L, fd);
    return 1;
}

/* l:waiting(most) */
static int native_waiting(lua_State *L)
{
    int most = (int)luaL_checkinteger(L, 2);
    lua_pushinteger(L, listener_waiting(check_listener(L), most));
    return 1;
}

/* l:pause() */
static int native_pause(lua_State *L)
{
    listener_pause(check_listener(L));
    return 0;
}

/* l:resume() */
static int native_resume(lua_State *L)
{
    listener_resume(check_listener(L));
    return 0;
}

/* l:close() */
static int native_close(lua_State *L)
{
    struct box *box = check_box(L);
    if (box->listener)
        listener_close(box->listener);
    box->listener = NULL;
    return 0;
}

static int native_gc(lua_State *L)
{
    callback_release(L, &check_box(L)->ready);
    return 0;
}

static const luaL_Reg methods[] = {
    {"accept", native_accept}, {"waiting", native_waiting}, {"pause", native_pause},
    {"resume", native_resume}, {"close", native_close},     {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"open", native_open},
    {"fail", native_fail},
    {"captured", native_captured},
    {NULL, NULL},
};

int luaopen_native_listener(lua_State *L);
int luaopen_native_listener(lua_State *L)
{
    class_new(L, LISTENER, methods, native_gc);
    luaL_newlib(L, functions);
    return 1;
}
