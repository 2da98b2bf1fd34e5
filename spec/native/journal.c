/*
 * native.journal: runtime/journal.c for its spec. Connections go by their index.
 *
 *   open() -> journal
 *   journal:begin(index, sequence, taken, written [, input, unsent, state])   none: cut
 *   journal:read(index, bytes) -> whether they were noted as they came
 *   journal:taking(index)                              and dies before it has taken
 *   journal:busy(index), journal:relax(index), journal:finish(index)
 *   journal:anew(index, input, unsent), journal:leaves(index, unsent)
 *   journal:state(index, input, unsent, state), journal:skip(index, left)
 *   journal:sending(index, n), journal:sent(index, n)
 *   journal:name(index, text), journal:doing(index) -> text
 *   journal:look(index, sequence [, taken, written]) -> fate, { input, unsent, state, ... }
 *   journal:used() -> units of blocks that were ever in use
 *   journal:poke(index, at, bytes)                     into its record
 *   journal:clear()
 */
#include "journal.h"

#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "native.journal"

struct box {
    struct journal j;
    int fd;
};

static struct journal *check(lua_State *L)
{
    return &((struct box *)luaL_checkudata(L, 1, NAME))->j;
}

static struct journal_record *record(lua_State *L)
{
    struct journal_record *table = (struct journal_record *)(void *)check(L)->map;
    return table + luaL_checkinteger(L, 2);
}

static struct journal_bytes bytes(lua_State *L, int arg)
{
    struct journal_bytes b;
    b.data = luaL_optlstring(L, arg, "", &b.len);
    return b;
}

static int native_open(lua_State *L)
{
    struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct box){.fd = journal_create()};
    luaL_setmetatable(L, NAME);
    if (box->fd < 0 || journal_attach(&box->j, box->fd) < 0)
        return luaL_error(L, "no journal");
    return 1;
}

static int native_close(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, NAME);
    if (box->j.map)
        close(box->fd);
    journal_detach(&box->j);
    return 0;
}

static int native_begin(lua_State *L)
{
    struct tcp_tally t = {(uint64_t)luaL_checkinteger(L, 4),
                          (uint64_t)luaL_checkinteger(L, 5)};
    struct journal_entry e = {.fate = lua_isnoneornil(L, 6) ? JOURNAL_IS_CUT
                                                            : JOURNAL_GOES_ON,
                              .has_state = !lua_isnoneornil(L, 8),
                              .input = bytes(L, 6),
                              .unsent = bytes(L, 7),
                              .state = bytes(L, 8)};
    journal_begin(check(L), (uint32_t)luaL_checkinteger(L, 2),
                  (uint32_t)luaL_checkinteger(L, 3), &t, &e);
    return 0;
}

static int native_read(lua_State *L)
{
    struct journal_bytes b = bytes(L, 3);
    size_t room;
    char *to = journal_room(check(L), record(L), &room);
    luaL_argcheck(L, !to || b.len <= room, 3, "more than there is room for");
    journal_taking(record(L));
    if (to)
        memcpy(to, b.data, b.len);
    journal_took(record(L), b.len);
    lua_pushboolean(L, to != NULL);
    return 1;
}

static int native_taking(lua_State *L)
{
    journal_taking(record(L));
    return 0;
}

static int native_busy(lua_State *L)
{
    journal_busy(check(L), record(L));
    return 0;
}

static int native_relax(lua_State *L)
{
    journal_relax(check(L), record(L));
    return 0;
}

static int native_finish(lua_State *L)
{
    journal_end(check(L), record(L));
    return 0;
}

static int native_anew(lua_State *L)
{
    journal_anew(check(L), record(L), bytes(L, 3), (size_t)luaL_checkinteger(L, 4));
    return 0;
}

static int native_leaves(lua_State *L)
{
    journal_leaves(check(L), record(L), (size_t)luaL_checkinteger(L, 3));
    return 0;
}

static int native_state(lua_State *L)
{
    journal_state(check(L), record(L), bytes(L, 3), bytes(L, 4), bytes(L, 5));
    return 0;
}

static int native_skip(lua_State *L)
{
    journal_skip(check(L), record(L), (size_t)luaL_checkinteger(L, 3));
    return 0;
}

static int native_sending(lua_State *L)
{
    journal_sending(record(L), (size_t)luaL_checkinteger(L, 3));
    return 0;
}

static int native_sent(lua_State *L)
{
    journal_sent(record(L), (size_t)luaL_checkinteger(L, 3));
    return 0;
}

static int native_name(lua_State *L)
{
    struct journal_bytes b = bytes(L, 3);
    journal_note_doing(record(L), b.data, b.len);
    return 0;
}

static int native_doing(lua_State *L)
{
    char text[JOURNAL_DOING];
    journal_look_doing(check(L), (uint32_t)luaL_checkinteger(L, 2), text);
    lua_pushstring(L, text);
    return 1;
}

static void set_bytes(lua_State *L, const char *name, struct journal_bytes b)
{
    lua_pushlstring(L, b.len ? b.data : "", b.len);
    lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, int on)
{
    lua_pushboolean(L, on);
    lua_setfield(L, -2, name);
}

static int native_look(lua_State *L)
{
    static const char *const fates[] = {"untouched", "over", "goes on", "cut"};
    struct tcp_tally t = {(uint64_t)luaL_optinteger(L, 4, 0),
                          (uint64_t)luaL_optinteger(L, 5, 0)};
    struct journal_entry e;
    journal_look(check(L), (uint32_t)luaL_checkinteger(L, 2),
                 (uint32_t)luaL_checkinteger(L, 3), lua_isnoneornil(L, 4) ? NULL : &t,
                 &e);
    lua_pushstring(L, fates[e.fate]);
    lua_newtable(L);
    set_boolean(L, "has_state", e.has_state);
    set_boolean(L, "has_spoken", e.has_spoken);
    if (e.fate != JOURNAL_GOES_ON)
        return 2;
    set_bytes(L, "input", e.input);
    set_bytes(L, "unsent", e.unsent);
    set_bytes(L, "state", e.state);
    return 2;
}

static int native_used(lua_State *L)
{
    lua_pushinteger(L, check(L)->end);
    return 1;
}

static int native_poke(lua_State *L)
{
    struct journal_bytes b = bytes(L, 4);
    size_t at = (size_t)luaL_checkinteger(L, 3);
    luaL_argcheck(L, at + b.len <= sizeof(struct journal_record), 3, "beyond the record");
    memcpy((char *)record(L) + at, b.data, b.len);
    return 0;
}

static int native_clear(lua_State *L)
{
    struct box *box = luaL_checkudata(L, 1, NAME);
    lua_pushboolean(L, journal_clear(box->fd) == 0);
    return 1;
}

int luaopen_native_journal(lua_State *L);

int luaopen_native_journal(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"begin", native_begin}, {"read", native_read},       {"taking", native_taking},
        {"busy", native_busy},   {"relax", native_relax},     {"finish", native_finish},
        {"anew", native_anew},   {"leaves", native_leaves},   {"state", native_state},
        {"skip", native_skip},   {"sending", native_sending}, {"sent", native_sent},
        {"name", native_name},   {"doing", native_doing},     {"look", native_look},
        {"used", native_used},   {"poke", native_poke},       {"clear", native_clear},
        {"__gc", native_close},  {"__close", native_close},   {NULL, NULL},
    };
    luaL_newmetatable(L, NAME);
    luaL_setfuncs(L, methods, 0);
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "__index");
    lua_newtable(L);
    lua_pushcfunction(L, native_open);
    lua_setfield(L, -2, "open");
    return 1;
}
