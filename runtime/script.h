/*
 * script: a Lua state with the standard libraries that finds Moonpool's modules, and the
 * loading of scripts in it.
 */
#ifndef MOONPOOL_SCRIPT_H
#define MOONPOOL_SCRIPT_H

#include <lua.h>

/*
 * The directory of the Lua library, for a program at path: ../lua beside build/ in the
 * source tree, ../share/lua/5.4 once installed. NULL if neither is there; else free() it.
 */
char *script_find_library(const char *program);

/* A new state; library, and the directory of app (or NULL), come first in package.path.
 */
lua_State *script_open(const char *library, const char *app);
void script_close(lua_State *L);

lua_State *script_open_bare(void); /* without any library */

/* Runs the file. LUA_OK and its first value is pushed, or another status and a message.
 */
int script_run(lua_State *L, const char *path);

/* As lua_pcall, but the message has a traceback. */
int script_call(lua_State *L, int nargs, int nresults);

#endif
