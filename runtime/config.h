/*
 * config: what the supervisor is to do, from the command line and the config file. Both
 * are understood by lua/moonpool/config.lua, in a Lua state that is gone afterwards.
 */
#ifndef MOONPOOL_CONFIG_H
#define MOONPOOL_CONFIG_H

#include "buf.h"
#include "log.h"

#include <stddef.h>
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
    uint32_t state_limit;
    uint32_t max_requests; /* 0: none */
    uint64_t memory_limit; /* bytes; 0: none */
    uint64_t memory_soft_limit;
    int dev;     /* boolean */
    int survive; /* boolean: connections do, when their worker dies */
};

struct config {
    uint32_t users; /* it is freed with the last, config_release */
    char *user;     /* NULL: unchanged */
    uid_t uid;
    gid_t gid;
    double drain;  /* seconds */
    char *control; /* path of the control socket; NULL: none */
    enum log_level log_level;
    uint32_t pool_count;
    struct pool_config *pools;
};

/*
 * Reads the arguments after the command word. Returns what its first user then has; or
 * NULL and in *message what is wrong, a line for each problem, to be freed; *is_usage
 * tells whether it is the command line. library is the directory of the Lua library.
 */
struct config *config_load(const char *library, int argc, char **argv, char **message,
                           int *is_usage);
struct config *config_retain(struct config *c);
void config_release(struct config *c); /* or NULL */

/*
 * The same in two steps, so that what the file does is done in another process. The first
 * appends what the second reads: 0 or -1. inherited: sockets that systemd has passed.
 */
int config_write(const char *library, int inherited, int argc, char **argv,
                 struct buf *out);
struct config *config_read(const char *data, size_t len, char **message);
int config_inherited(void); /* by this process (sd_listen_fds(3)) */

/* Describes the flags; to be freed. NULL if the library cannot be loaded. */
char *config_help(const char *library);

#endif
