#include "script.h"

#include "alloc.h"
#include "log.h"
#include "lua_memory.h"

#include <lauxlib.h>
#include <libgen.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Relative to the program's directory; the last is for build/asan/moonpool. */
static const char *const library_places[] = {"../lua", "../share/lua/5.4", "../../lua"};

char *script_find_library(const char *program)
{
    char *copy = alloc_string(program);
    char *directory = dirname(copy);
    char *found = NULL;
    for (size_t i = 0; !found && i < sizeof library_places / sizeof *library_places;
         i++) {
        char *init =
            alloc_format("%s/%s/moonpool/init.lua", directory, library_places[i]);
        if (access(init, R_OK) == 0)
            found = alloc_format("%s/%s", directory, library_places[i]);
        free(init);
    }
    free(copy);
    return found;
}

static void prepend_path(lua_State *L, const char *directory)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", directory, directory,
                    lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

/* What warn() says, piece by piece: as with lua(1), nothing before warn "@on". */
struct warnings {
    int on;
    size_t len;
    char text[1024]; /* what is longer is cut */
};

static void on_warning(void *arg, const char *piece, int goes_on)
{
    struct warnings *w = arg;
    size_t len = strlen(piece), room = sizeof w->text - w->len;
    if (!goes_on && !w->len && piece[0] == '@') {
        w->on = strcmp(piece, "@on") == 0 || (w->on && strcmp(piece, "@off") != 0);
        return;
    }
    len = len < room ? len : room;
    memcpy(w->text + w->len, piece, len);
    w->len += len;
    if (goes_on)
        return;
    if (w->on)
        log_warn("%.*s", (int)w->len, w->text);
    w->len = 0;
}

static void open_warnings(lua_State *L)
{
    static const char key;
    struct warnings *w = lua_newuserdatauv(L, sizeof *w, 0);
    w->on = 0;
    w->len = 0;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    lua_setwarnf(L, on_warning, w);
}

static int open_protected(lua_State *L)
{
    const char *library = lua_touserdata(L, 1), *app = lua_touserdata(L, 2);
    luaL_openlibs(L);
    open_warnings(L);
    prepend_path(L, library);
    if (app) {
        char *copy = alloc_string(app);
        prepend_path(L, dirname(copy));
        free(copy);
    }
    return 0;
}

lua_State *script_open_bare(void)
{
    lua_State *L = lua_memory_open();
    if (!L)
        alloc_failed();
    return L;
}

lua_State *script_open(const char *library, const char *app)
{
    lua_State *L = script_open_bare();
    lua_pushcfunction(L, open_protected);
    lua_pushlightuserdata(L, (void *)library);
    lua_pushlightuserdata(L, (void *)app);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        alloc_failed();
    return L;
}

void script_close(lua_State *L)
{
    lua_memory_close(L);
}

static int with_traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

int script_call(lua_State *L, int nargs, int nresults)
{
    int function = lua_gettop(L) - nargs;
    lua_pushcfunction(L, with_traceback);
    lua_insert(L, function);
    int status = lua_pcall(L, nargs, nresults, function);
    lua_remove(L, function);
    return status;
}

int script_run(lua_State *L, const char *path)
{
    int status = luaL_loadfile(L, path);
    return status == LUA_OK ? script_call(L, 0, 1) : status;
}
