/*
 * native.parcel: runtime/parcel.c for its spec.
 *
 *   write(parcel)    the bytes of { counted, is_cut, crashes, input, unsent, state }
 *   read(bytes)      the same again, or nil
 *   store(bytes)     a descriptor, or nil and errno's name
 *   load(fd)         the bytes, or nil and errno's name
 */
#include "parcel.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

static const char *string_field(lua_State *L, const char *name, size_t *len)
{
    lua_getfield(L, 1, name);
    return lua_tolstring(L, -1, len); /* the table keeps it */
}

static void push_buf(lua_State *L, struct buf *b)
{
    lua_pushlstring(L, buf_len(b) ? buf_head(b) : "", buf_len(b));
    buf_release(b);
}

static int push_errno(lua_State *L)
{
    luaL_pushfail(L);
    lua_pushstring(L, strerrorname_np(errno));
    return 2;
}

/* write(parcel) */
static int native_write(lua_State *L)
{
    struct parcel p = {0};
    struct buf out = {0};
    p.input = string_field(L, "input", &p.input_len);
    p.unsent = string_field(L, "unsent", &p.unsent_len);
    p.state = string_field(L, "state", &p.state_len);
    p.has_state = p.state != NULL;
    lua_getfield(L, 1, "counted");
    p.counted = lua_toboolean(L, -1);
    lua_getfield(L, 1, "is_cut");
    p.is_cut = lua_toboolean(L, -1);
    lua_getfield(L, 1, "crashes");
    p.crashes = (uint32_t)lua_tointeger(L, -1);
    parcel_write(&p, &out);
    push_buf(L, &out);
    return 1;
}

/* read(bytes) */
static int native_read(lua_State *L)
{
    struct parcel p;
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    char *copy = malloc(len ? len : 1); /* of exactly its size, for the sanitizer */
    memcpy(copy, data, len);
    if (parcel_read(&p, copy, len) < 0)
        luaL_pushfail(L);
    else {
        lua_newtable(L);
        lua_pushstring(L, parcel_whys[p.why]);
        lua_setfield(L, -2, "why");
        lua_pushboolean(L, p.counted);
        lua_setfield(L, -2, "counted");
        lua_pushboolean(L, p.is_cut);
        lua_setfield(L, -2, "is_cut");
        lua_pushinteger(L, p.crashes);
        lua_setfield(L, -2, "crashes");
        lua_pushlstring(L, p.unsent, p.unsent_len);
        lua_setfield(L, -2, "unsent");
        lua_pushlstring(L, p.input, p.input_len);
        lua_setfield(L, -2, "input");
        if (p.has_state) {
            lua_pushlstring(L, p.state, p.state_len);
            lua_setfield(L, -2, "state");
        }
    }
    free(copy);
    return 1;
}

/* store(bytes) */
static int native_store(lua_State *L)
{
    struct buf b = {0};
    size_t len;
    const char *data = luaL_checklstring(L, 1, &len);
    buf_append(&b, data, len);
    int fd = parcel_store(&b);
    int error = errno;
    buf_release(&b);
    errno = error;
    if (fd < 0)
        return push_errno(L);
    lua_pushinteger(L, fd);
    return 1;
}

/* load(fd) */
static int native_load(lua_State *L)
{
    struct buf out = {0};
    if (parcel_load((int)luaL_checkinteger(L, 1), &out) < 0) {
        int error = errno;
        buf_release(&out);
        errno = error;
        return push_errno(L);
    }
    push_buf(L, &out);
    return 1;
}

static const luaL_Reg functions[] = {
    {"write", native_write}, {"read", native_read}, {"store", native_store},
    {"load", native_load},   {NULL, NULL},
};

int luaopen_native_parcel(lua_State *L);
int luaopen_native_parcel(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
