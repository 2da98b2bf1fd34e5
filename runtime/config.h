/*
 * config: what the supervisor is to do, from the command line and the config file. Both
 * are understood by lua/moonpool/config.lua, in a Lua state that is gone afterwards.
 */
#ifndef MOONPOOL_CONFIG_H
#define MOONPOOL_CONFIG_H

#include "log.h"

#include <stdint.h>
#include <sys/types.h>

enum config_policy { POLICY_LEAST_LOADED, POLICY_ROUND_ROBIN, POLICY_FIRST_FREE };

struct pool_config {
    char *name;
    char *app;     /* absolute path */
    char **listen; /* addresses, NULL at the end */
    char **env;    /* "NAME=value", NULL at the end */
    uint32_t workers;
    uint32_t concurrency; /* connections that a worker holds at a time */
    enum config_policy policy;
    int backlog;
    mode_t socket_mode;
    uid_t socket_uid; /* -1: unchanged */
    gid_t socket_gid;
    double idle_timeout; /* seconds */
    double handler_timeout, stuck_timeout, load_timeout;
    uint32_t read_limit; /* bytes */
    uint32_t write_limit;
    uint64_t memory_limit; /* bytes; 0: none */
    int dev;               /* boolean */
};

struct config {
    char *user; /* NULL: unchanged */
    uid_t uid;
    gid_t gid;
    double drain; /* seconds */
    enum log_level log_level;
    uint32_t pool_count;
    struct pool_config *pools;
};

/*
 * Reads the arguments after the command word. Returns 0, or -1 and in *message what is
 * wrong, a line for each problem, to be freed; *is_usage tells whether it is the command
 * line. library is the directory of the Lua library.
 */
int config_load(struct config *c, const char *library, int argc, char **argv,
                char **message, int *is_usage);
void config_clear(struct config *c);

/* Describes the flags; to be freed. NULL if the library cannot be loaded. */
char *config_help(const char *library);

#endif
