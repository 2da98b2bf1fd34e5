#include "config.h"

#include "alloc.h"
#include "script.h"

#include <errno.h>
#include <grp.h>
#include <lauxlib.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- from a Lua table ---------------------------------------------------------------- */

/* The string at key of the table on the top; NULL where it is empty. */
static char *take_string(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    const char *s = luaL_checkstring(L, -1);
    char *copy = *s ? alloc_string(s) : NULL;
    lua_pop(L, 1);
    return copy;
}

static double take_number(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    double n = luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return n;
}

static int take_boolean(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    luaL_checktype(L, -1, LUA_TBOOLEAN);
    int on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static char **take_strings(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    size_t n = (size_t)luaL_len(L, -1);
    char **list = alloc_zero((n + 1) * sizeof *list);
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        list[i] = alloc_string(luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return list;
}

static int take_choice(lua_State *L, const char *key, const char *const *choices)
{
    lua_getfield(L, -1, key);
    int choice = luaL_checkoption(L, -1, NULL, choices);
    lua_pop(L, 1);
    return choice;
}

/* -- accounts ------------------------------------------------------------------------ */

static uid_t find_user(lua_State *L, const char *key, const char *name, gid_t *gid)
{
    struct passwd *user = getpwnam(name);
    if (!user)
        luaL_error(L, "%s: there is no user \"%s\"", key, name);
    if (gid && *gid == (gid_t)-1)
        *gid = user->pw_gid;
    return user->pw_uid;
}

static gid_t find_group(lua_State *L, const char *key, const char *name)
{
    struct group *group = getgrnam(name);
    if (!group)
        luaL_error(L, "%s: there is no group \"%s\"", key, name);
    return group->gr_gid;
}

static void take_accounts(lua_State *L, struct config *c)
{
    char *group = take_string(L, "group");
    c->uid = (uid_t)-1;
    c->gid = (gid_t)-1;
    c->user = take_string(L, "user");
    lua_pushstring(L, group); /* Lua's, so that an error frees it */
    free(group);
    if (lua_tostring(L, -1))
        c->gid = find_group(L, "group", lua_tostring(L, -1));
    lua_pop(L, 1);
    if (c->user)
        c->uid = find_user(L, "user", c->user, &c->gid);
}

/* "user", "user:group" or ":group" */
static void take_owner(lua_State *L, struct pool_config *p)
{
    p->socket_uid = (uid_t)-1;
    p->socket_gid = (gid_t)-1;
    lua_getfield(L, -1, "socket_owner");
    const char *owner = luaL_checkstring(L, -1), *colon = strchr(owner, ':');
    lua_pushlstring(L, owner, colon ? (size_t)(colon - owner) : strlen(owner));
    if (*lua_tostring(L, -1))
        p->socket_uid = find_user(L, "socket_owner", lua_tostring(L, -1), NULL);
    if (colon)
        p->socket_gid = find_group(L, "socket_owner", colon + 1);
    lua_pop(L, 2);
}

/* -- the whole ----------------------------------------------------------------------- */

static void take_pool(lua_State *L, struct pool_config *p)
{
    static const char *const policies[] = {"least_loaded", "round_robin", "first_free",
                                           NULL};
    p->name = take_string(L, "name");
    p->app = take_string(L, "app");
    p->listen = take_strings(L, "listen");
    p->env = take_strings(L, "env");
    p->workers = (uint32_t)take_number(L, "workers");
    p->concurrency = (uint32_t)take_number(L, "concurrency");
    p->policy = (enum config_policy)take_choice(L, "policy", policies);
    p->backlog = (int)take_number(L, "backlog");
    p->socket_mode = (mode_t)take_number(L, "socket_mode");
    p->idle_timeout = take_number(L, "idle_timeout");
    p->handler_timeout = take_number(L, "handler_timeout");
    p->stuck_timeout = take_number(L, "stuck_timeout");
    p->load_timeout = take_number(L, "load_timeout");
    p->read_limit = (uint32_t)take_number(L, "read_limit");
    p->write_limit = (uint32_t)take_number(L, "write_limit");
    p->memory_limit = (uint64_t)take_number(L, "memory_limit");
    p->dev = take_boolean(L, "dev");
    take_owner(L, p);
}

static void take_config(lua_State *L, struct config *c)
{
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    c->drain = take_number(L, "drain");
    c->log_level = (enum log_level)take_choice(L, "log_level", levels);
    lua_getfield(L, -1, "pools");
    uint32_t count = (uint32_t)luaL_len(L, -1);
    c->pools = alloc_zero(count * sizeof *c->pools);
    for (; c->pool_count < count; lua_pop(L, 1)) {
        lua_rawgeti(L, -1, (lua_Integer)c->pool_count + 1);
        take_pool(L, &c->pools[c->pool_count++]);
    }
    lua_pop(L, 1);
    take_accounts(L, c);
}

static void push_context(lua_State *L)
{
    const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    int ours = fds && pid && atol(pid) == (long)getpid();
    char *cwd = getcwd(NULL, 0);
    lua_newtable(L);
    lua_pushinteger(L, sysconf(_SC_NPROCESSORS_ONLN));
    lua_setfield(L, -2, "cores");
    lua_pushstring(L, cwd ? cwd : "/");
    lua_setfield(L, -2, "cwd");
    lua_pushinteger(L, ours ? atol(fds) : 0);
    lua_setfield(L, -2, "listen_fds");
    free(cwd);
}

struct request {
    struct config *config;
    int argc;
    char **argv;
    char **text; /* message or help */
    int *is_usage;
};

static void call_module(lua_State *L, const char *function)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moonpool.config");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, function);
    lua_remove(L, -2);
}

static int load_protected(lua_State *L)
{
    struct request *r = lua_touserdata(L, 1);
    call_module(L, "load");
    lua_createtable(L, r->argc, 0);
    for (int i = 0; i < r->argc; i++) {
        lua_pushstring(L, r->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    push_context(L);
    lua_call(L, 2, 3);
    if (lua_istable(L, -3)) {
        lua_pop(L, 2);
        take_config(L, r->config);
        return 0;
    }
    *r->is_usage = strcmp(luaL_checkstring(L, -1), "usage") == 0;
    *r->text = alloc_string(luaL_checkstring(L, -2));
    return 0;
}

static int help_protected(lua_State *L)
{
    struct request *r = lua_touserdata(L, 1);
    call_module(L, "help");
    lua_call(L, 0, 1);
    *r->text = alloc_string(luaL_checkstring(L, -1));
    return 0;
}

static int ask_lua(const char *library, lua_CFunction f, struct request *r)
{
    lua_State *L = script_open(library, NULL);
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, r);
    int status = lua_pcall(L, 1, 0, 0);
    if (status != LUA_OK)
        *r->text = alloc_string(luaL_tolstring(L, -1, NULL));
    script_close(L);
    return status == LUA_OK ? 0 : -1;
}

int config_load(struct config *c, const char *library, int argc, char **argv,
                char **message, int *is_usage)
{
    struct request r = {c, argc, argv, message, is_usage};
    *c = (struct config){0};
    *message = NULL;
    *is_usage = 0;
    if (ask_lua(library, load_protected, &r) == 0 && !*message)
        return 0;
    config_clear(c);
    return -1;
}

char *config_help(const char *library)
{
    char *text = NULL;
    struct request r = {.text = &text};
    if (ask_lua(library, help_protected, &r) == 0)
        return text;
    free(text);
    return NULL;
}

static void free_strings(char **list)
{
    for (char **s = list; s && *s; s++)
        free(*s);
    free(list);
}

void config_clear(struct config *c)
{
    for (uint32_t i = 0; i < c->pool_count; i++) {
        free(c->pools[i].name);
        free(c->pools[i].app);
        free_strings(c->pools[i].listen);
        free_strings(c->pools[i].env);
    }
    free(c->pools);
    free(c->user);
    *c = (struct config){0};
}
