/*
 * main: the command line.
 */
#include "alloc.h"
#include "config.h"
#include "control.h"
#include "log.h"
#include "process.h"
#include "script.h"
#include "successor.h"
#include "supervisor.h"
#include "title.h"
#include "worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_STOPPED = 0, EXIT_CANNOT = 1, EXIT_WRONG = 2 };

static const char usage[] =
    "Usage: moonpool serve APP.lua [FLAG...]        serve an app\n"
    "       moonpool serve --config FILE [FLAG...]  serve the pools of a config file\n"
    "       moonpool check ...                      as serve, but only say what is "
    "wrong\n"
    "       moonpool reload --control PATH          load the apps of a server anew\n"
    "       moonpool reload ...                     the same, of one served with ...\n"
    "       moonpool upgrade ...                    likewise: the program itself, and "
    "then "
    "the apps\n"
    "       moonpool test [--watch] [--coverage] [PATH...]  run specs, with busted\n"
    "       moonpool new NAME                       make a project, with its spec\n"
    "       moonpool --help | --version\n";

static const char exits[] =
    "\nExit codes: 0 stopped as asked, or nothing wrong; 1 could not "
    "start, or\nconnections were cut, or not reloaded; 2 wrong command line or "
    "config file.\n";

struct program {
    char *path, *started_as, *library;
};

static void program_find(struct program *p, const char *argv0)
{
    p->path = process_program();
    p->started_as = process_started_as(argv0);
    p->library = script_find_library(p->path);
    if (!p->library)
        log_fatal(EXIT_CANNOT,
                  "%s: the Lua library is neither in ../lua nor in "
                  "../share/lua/5.4 beside it",
                  p->path);
}

static void program_clear(struct program *p)
{
    free(p->path);
    free(p->started_as);
    free(p->library);
}

static int help(const struct program *p)
{
    char *flags = config_help(p->library);
    printf("%s\nFlags (and, with \"_\" for \"-\", keys of a config file):\n%s%s", usage,
           flags ? flags : "", exits);
    free(flags);
    return EXIT_STOPPED;
}

static int version(void)
{
    puts("moonpool " MOONPOOL_VERSION);
    return EXIT_STOPPED;
}

static int wrong_config(char *message, int is_usage)
{
    fprintf(stderr, "%s\n", message);
    if (is_usage)
        fputs("Try moonpool --help.\n", stderr);
    free(message);
    return EXIT_WRONG;
}

static void describe(const struct config *c)
{
    for (uint32_t i = 0; i < c->pool_count; i++) {
        const struct pool_config *p = &c->pools[i];
        printf("%s: %s, %u workers\n", p->name, p->app, p->workers);
    }
    puts("nothing wrong");
}

/* A reload reads them again; a title is written where they are. */
static char **copy_arguments(int argc, char **argv)
{
    char **copy = alloc_zero(((size_t)argc + 1) * sizeof *copy);
    for (int i = 0; i < argc; i++)
        copy[i] = alloc_string(argv[i]);
    return copy;
}

static void free_arguments(char **argv)
{
    for (char **arg = argv; *arg; arg++)
        free(*arg);
    free(argv);
}

/* Without a config: where another program has stopped. */
static int run_supervisor(const struct program *p, struct config *config,
                          struct baton *baton, int argc, char **argv)
{
    struct config_source source = {.program = p->path,
                                   .successor = p->started_as,
                                   .inherited = config_inherited(),
                                   .argc = argc,
                                   .argv = copy_arguments(argc, argv)};
    int code = config ? supervisor_run(config, &source, p->library)
                      : supervisor_go_on(baton, &source, p->library);
    free_arguments(source.argv);
    return code;
}

static int serve(const struct program *p, int argc, char **argv, int check_only)
{
    char *message;
    int is_usage;
    struct baton *baton = check_only ? NULL : baton_inherit();
    if (baton)
        return run_supervisor(p, NULL, baton, argc, argv);
    struct config *config = config_load(p->library, argc, argv, &message, &is_usage);
    if (!config)
        return wrong_config(message, is_usage);
    log_threshold(config->log_level);
    if (!check_only)
        return run_supervisor(p, config, NULL, argc, argv);
    describe(config);
    config_release(config);
    return EXIT_STOPPED;
}

static int command_at(const char *path, const char *command)
{
    int how = control_ask(path, command);
    if (how < 0)
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return how == 0 ? EXIT_STOPPED : EXIT_CANNOT;
}

/* command: "reload" or "upgrade", to a server that was started with these arguments. */
static int tell(const struct program *p, const char *command, int argc, char **argv)
{
    char *message;
    int is_usage;
    if (argc == 2 && strcmp(argv[0], "--control") == 0)
        return command_at(argv[1], command);
    struct config *config = config_load(p->library, argc, argv, &message, &is_usage);
    if (!config)
        return wrong_config(message, is_usage);
    int code = EXIT_WRONG;
    if (config->control)
        code = command_at(config->control, command);
    else
        fprintf(stderr,
                "there is no control socket: serve with --control PATH, or use %s\n",
                strcmp(command, "reload") == 0 ? "SIGHUP" : "SIGUSR2");
    config_release(config);
    return code;
}

/* What is written in Lua alone, for stock Lua: lua/moonpool/command.lua. */
static int run_lua(const struct program *p, int argc, char **argv)
{
    char *script = alloc_format("%s/moonpool/command.lua", p->library);
    char **args = alloc_zero(((size_t)argc + 5) * sizeof *args);
    char *first[] = {"lua5.4", script, p->path, p->library};
    memcpy(args, first, sizeof first);
    memcpy(args + 4, argv, (size_t)argc * sizeof *args);
    execvp(args[0], args);
    fprintf(stderr, "lua5.4: %s\n", strerror(errno));
    free(args);
    free(script);
    return EXIT_CANNOT;
}

static int run(const struct program *p, int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return help(p);
    if (strcmp(command, "help") == 0)
        return help(p);
    if (strcmp(command, "--version") == 0)
        return version();
    if (strcmp(command, "serve") == 0)
        return serve(p, argc - 2, argv + 2, 0);
    if (strcmp(command, "check") == 0)
        return serve(p, argc - 2, argv + 2, 1);
    if (strcmp(command, "reload") == 0 || strcmp(command, "upgrade") == 0)
        return tell(p, command, argc - 2, argv + 2);
    if (strcmp(command, "test") == 0 || strcmp(command, "new") == 0)
        return run_lua(p, argc - 1, argv + 1);
    if (strcmp(command, "config") == 0 && argc > 2)
        return config_child_run(p->library, argc - 2, argv + 2);
    if (strcmp(command, "successor") == 0 && argc > 2)
        return successor_answer(p->library, argc - 2, argv + 2, supervisor_refuse);
    if (*command)
        fprintf(stderr, "moonpool: unknown command \"%s\"\n", command);
    fputs(usage, stderr);
    return EXIT_WRONG;
}

int main(int argc, char **argv)
{
    title_init(argc, argv);
    if (argc > 1 && strcmp(argv[1], "worker") == 0) /* only the supervisor says this */
        return worker_run(argc - 2, argv + 2);
    struct program p;
    program_find(&p, argc > 0 ? argv[0] : "");
    int code = run(&p, argc, argv);
    program_clear(&p);
    return code;
}
