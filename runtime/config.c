#include "config.h"

#include "alloc.h"
#include "lua_pack.h"
#include "script.h"

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
    p->memory_soft_limit = (uint64_t)take_number(L, "memory_soft_limit");
    p->state_limit = (uint32_t)take_number(L, "state_limit");
    p->max_requests = (uint32_t)take_number(L, "max_requests");
    p->dev = take_boolean(L, "dev");
    p->survive = take_boolean(L, "survive");
    take_owner(L, p);
}

static void take_config(lua_State *L, struct config *c)
{
    static const char *const levels[] = {"debug", "info", "warn", "error", NULL};
    c->drain = take_number(L, "drain");
    c->control = take_string(L, "control");
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

/* -- asking Lua ---------------------------------------------------------------------- */

int config_inherited(void)
{
    const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID");
    int ours = fds && pid && atol(pid) == (long)getpid();
    return ours ? atoi(fds) : 0;
}

static void push_context(lua_State *L, int inherited)
{
    char *cwd = getcwd(NULL, 0);
    lua_newtable(L);
    lua_pushinteger(L, sysconf(_SC_NPROCESSORS_ONLN));
    lua_setfield(L, -2, "cores");
    lua_pushstring(L, cwd ? cwd : "/");
    lua_setfield(L, -2, "cwd");
    lua_pushinteger(L, inherited);
    lua_setfield(L, -2, "listen_fds");
    free(cwd);
}

struct request {
    struct config *config;
    int inherited, argc;
    char **argv;
    const char *data; /* config_read */
    size_t len;
    char **text; /* message or help */
    int *is_usage;
    struct buf *packed; /* config_write */
};

static void call_module(lua_State *L, const char *function)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moonpool.config");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, function);
    lua_remove(L, -2);
}

/* Pushes what config.load returns: the table; or nil, a message and its kind. */
static void call_load(lua_State *L, const struct request *r)
{
    call_module(L, "load");
    lua_createtable(L, r->argc, 0);
    for (int i = 0; i < r->argc; i++) {
        lua_pushstring(L, r->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    push_context(L, r->inherited);
    lua_call(L, 2, 3);
}

static int load_protected(lua_State *L)
{
    struct request *r = lua_touserdata(L, 1);
    call_load(L, r);
    if (lua_istable(L, -3)) {
        lua_pop(L, 2);
        take_config(L, r->config);
        return 0;
    }
    *r->is_usage = strcmp(luaL_checkstring(L, -1), "usage") == 0;
    *r->text = alloc_string(luaL_checkstring(L, -2));
    return 0;
}

/* The table, or the message. */
static int write_protected(lua_State *L)
{
    struct request *r = lua_touserdata(L, 1);
    call_load(L, r);
    int value = lua_istable(L, -3) ? -3 : -2;
    if (lua_pack(L, value, "config", r->packed, UINT32_MAX / 2) < 0)
        return lua_error(L);
    return 0;
}

static int read_protected(lua_State *L)
{
    struct request *r = lua_touserdata(L, 1);
    if (lua_unpack(L, r->data, r->len) < 0)
        return luaL_error(L, "the configuration has not arrived");
    if (lua_type(L, -1) == LUA_TSTRING)
        *r->text = alloc_string(lua_tostring(L, -1));
    else
        take_config(L, r->config);
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

static int ask(lua_State *L, lua_CFunction f, struct request *r)
{
    lua_pushcfunction(L, f);
    lua_pushlightuserdata(L, r);
    int status = lua_pcall(L, 1, 0, 0);
    if (status != LUA_OK)
        *r->text = alloc_string(luaL_tolstring(L, -1, NULL));
    script_close(L);
    return status == LUA_OK ? 0 : -1;
}

static struct config *config_new(void)
{
    struct config *c = alloc_zero(sizeof *c);
    c->users = 1;
    return c;
}

/* Where there is no message, there is a config. */
static struct config *config_if(struct config *c, const char *message)
{
    if (!message)
        return c;
    config_release(c);
    return NULL;
}

struct config *config_load(const char *library, int argc, char **argv, char **message,
                           int *is_usage)
{
    struct config *c = config_new();
    struct request r = {.config = c,
                        .inherited = config_inherited(),
                        .argc = argc,
                        .argv = argv,
                        .text = message,
                        .is_usage = is_usage};
    *message = NULL;
    *is_usage = 0;
    ask(script_open(library, NULL), load_protected, &r);
    return config_if(c, *message);
}

int config_write(const char *library, int inherited, int argc, char **argv,
                 struct buf *out)
{
    char *text = NULL;
    struct request r = {
        .inherited = inherited, .argc = argc, .argv = argv, .text = &text, .packed = out};
    int done = ask(script_open(library, NULL), write_protected, &r);
    free(text);
    return done;
}

struct config *config_read(const char *data, size_t len, char **message)
{
    struct config *c = config_new();
    struct request r = {.config = c, .data = data, .len = len, .text = message};
    *message = NULL;
    ask(script_open_bare(), read_protected, &r);
    return config_if(c, *message);
}

char *config_help(const char *library)
{
    char *text = NULL;
    struct request r = {.text = &text};
    if (ask(script_open(library, NULL), help_protected, &r) == 0)
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

struct config *config_retain(struct config *c)
{
    c->users++;
    return c;
}

void config_release(struct config *c)
{
    if (!c || --c->users)
        return;
    for (uint32_t i = 0; i < c->pool_count; i++) {
        free(c->pools[i].name);
        free(c->pools[i].app);
        free_strings(c->pools[i].listen);
        free_strings(c->pools[i].env);
    }
    free(c->pools);
    free(c->user);
    free(c->control);
    free(c);
}
