/*
 * The life of the whole, in phases:
 *
 *   STARTING  until all workers have loaded their script; one that cannot ends it all
 *   SERVING   clients are taken
 *   STOPPING  none are; workers finish what they have; DRAIN seconds, then SIGKILL
 *
 * To start is to reload from nothing. A reload, while the others go on:
 *
 *   the configuration is read again, in a process of its own (config_child.c);
 *   for each service, what it is to listen on is opened and a new crew starts;
 *   once every worker of these is ready, all services change to them (service_commit),
 *   and the crews before give back what can move, to the new ones, and finish the rest.
 *
 * What goes wrong before the change leaves everything as it was. A reload that is asked
 * for before another's change follows it, since nobody can say which files that one has
 * read already; whoever has asked for either hears of the last.
 *
 * An upgrade replaces the program, and then reloads. The new program is asked whether it
 * can go on with what is there and with the configuration (successor.c); only then does
 * it begin, by execve(2), in this very process, with all that is open and with the
 * workers, who notice nothing. What is asked for meanwhile follows.
 */
#include "supervisor.h"

#include "alloc.h"
#include "control.h"
#include "endpoint.h"
#include "log.h"
#include "notify.h"
#include "process.h"
#include "service.h"
#include "successor.h"
#include "title.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Scoreboard cells: for that many generations at a time, and some. */
enum { GENERATIONS = 4, CELLS_MORE = 60 };

#define PROGRESS_SECONDS 0.2
#define STOP_MARGIN 2.0 /* seconds after the drain limit, for the end of it all */

enum phase { STARTING, SERVING, STOPPING };

struct supervisor {
    struct crew_context context;
    struct scoreboard board;
    struct config_source *source;
    struct config *config;
    enum phase phase;
    int exit_code;
    uint32_t service_count;
    struct service **services;
    struct control *control; /* or NULL */
    struct notify *notify;   /* or NULL */
    ev_signal term, interrupt, hangup, usr1, usr2;

    /* of a reload, or the start */
    struct config_child *reading;   /* or NULL */
    struct config *next;            /* that crews are being prepared for; or NULL */
    int failed;                     /* so have they, or it */
    int again;                      /* another is to follow */
    struct loop_job decide;         /* on what they have come to */
    struct timer progress;          /* of the crews that leave */
    struct service_leaving leaving; /* as it was said last */

    /* of an upgrade */
    struct successor *successor; /* that is being asked; or NULL */
    struct buf
        agreed;  /* its configuration, once it is to begin when the loop has stopped */
    int upgrade; /* one is to follow */
};

/* Something is under way, and what is asked for follows it. */
static int supervisor_is_busy(const struct supervisor *s)
{
    return s->phase == STARTING || s->reading || s->next || s->successor ||
           buf_len(&s->agreed);
}

/* Those that are watched here, and by libev. how: as for sigprocmask(2) */
static void mask_signals(int how)
{
    static const int watched[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        sigaddset(&set, watched[i]);
    sigprocmask(how, &set, NULL);
}

static void supervisor_each(struct supervisor *s, void (*f)(struct service *v))
{
    for (uint32_t i = 0; i < s->service_count; i++)
        f(s->services[i]);
}

static int supervisor_all(const struct supervisor *s, int (*is)(const struct service *v))
{
    for (uint32_t i = 0; i < s->service_count; i++)
        if (!is(s->services[i]))
            return 0;
    return 1;
}

static uint32_t count_workers(const struct config *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->pool_count; i++)
        n += c->pools[i].workers;
    return n;
}

/* -- what systemctl status shows ----------------------------------------------------- */

static const char *supervisor_doing(const struct supervisor *s)
{
    if (s->phase == STARTING)
        return "starting";
    if (s->successor)
        return "upgrading";
    if (s->reading || s->next)
        return "reloading";
    return s->failed ? "serving, after a reload that has failed" : "serving";
}

static void supervisor_describe(char *status, size_t size, void *arg)
{
    const struct supervisor *s = arg;
    uint32_t ready = 0, connections = 0;
    for (uint32_t i = 0; i < s->service_count; i++) {
        ready += service_ready(s->services[i]);
        connections += service_connections(s->services[i]);
    }
    if (s->phase == STOPPING)
        snprintf(status, size, "stopping: %u connections left", connections);
    else
        snprintf(status, size, "%s: %u of %u workers, %u connections",
                 supervisor_doing(s), ready, count_workers(s->config), connections);
}

/* -- stopping ------------------------------------------------------------------------ */

static int supervisor_is_done(const struct supervisor *s)
{
    return s->phase == STOPPING && supervisor_all(s, service_is_gone);
}

static void supervisor_stop_if_done(struct supervisor *s)
{
    if (!supervisor_is_done(s))
        return;
    for (uint32_t i = 0; i < s->service_count; i++)
        s->exit_code |= service_was_cut(s->services[i]);
    loop_stop(s->context.loop);
}

/* A reload that is under way comes to nothing. */
static void supervisor_begin_stop(struct supervisor *s, double seconds)
{
    struct clock *clock = &s->context.loop->clock;
    s->phase = STOPPING;
    notify_stopping(s->notify, seconds);
    title_set("moonpool: supervisor (stopping)");
    config_child_stop(s->reading);
    s->reading = NULL;
    successor_stop(s->successor);
    s->successor = NULL;
    timer_stop(clock, &s->progress);
    control_say(s->control, CONTROL_FAILED, "the server stops");
}

static void supervisor_stop(struct supervisor *s, const char *why)
{
    log_info("%s: stopping, for at most %g s", why, s->config->drain);
    supervisor_begin_stop(s, s->config->drain + STOP_MARGIN);
    supervisor_each(s, service_stop);
    supervisor_stop_if_done(s);
}

static void supervisor_stop_now(struct supervisor *s, int exit_code)
{
    supervisor_begin_stop(s, 0);
    s->exit_code = exit_code;
    supervisor_each(s, service_kill);
    supervisor_stop_if_done(s);
}

/* -- reloading ----------------------------------------------------------------------- */

static void supervisor_reload(struct supervisor *s);
static void supervisor_upgrade(struct supervisor *s);

/* An upgrade reloads too, if it does not fail. */
static void supervisor_again(struct supervisor *s)
{
    if (s->upgrade) {
        s->upgrade = 0;
        supervisor_upgrade(s);
    } else if (s->again) {
        s->again = 0;
        supervisor_reload(s);
    }
}

/* Everything is as it was before. why: or NULL, where it has been said. */
static void reload_fail(struct supervisor *s, const char *why)
{
    static const char sentence[] = "the reload has failed, everything goes on as before";
    if (why)
        log_error("%s: %s", sentence, why);
    else
        log_error("%s", sentence);
    supervisor_each(s, service_abandon);
    config_release(s->next);
    s->next = NULL;
    s->failed = 1;
    notify_ready(s->notify);
    control_say(s->control, CONTROL_PROBLEM, why ? why : "");
    if (!s->again && !s->upgrade)
        control_say(s->control, CONTROL_FAILED, sentence);
    supervisor_again(s);
}

static int prepare_all(struct supervisor *s, struct config *config, char *why,
                       size_t size)
{
    s->failed = 0;
    s->next = config;
    for (uint32_t i = 0; i < s->service_count; i++) {
        const struct pool_config *pool = &config->pools[i];
        int n = snprintf(why, size, "%s: ", pool->name);
        if (service_prepare(s->services[i], config, pool, why + n, size - (size_t)n) < 0)
            return -1;
    }
    return 0;
}

/* What a reload cannot change, by name; or NULL. */
static const char *find_fixed(const struct config *now, const struct config *next)
{
    int same_pools = now->pool_count == next->pool_count;
    for (uint32_t i = 0; same_pools && i < now->pool_count; i++)
        same_pools = strcmp(now->pools[i].name, next->pools[i].name) == 0;
    if (!same_pools)
        return "pools: a reload can neither add nor remove nor rename any; "
               "that takes a restart";
    if (strcmp(now->control ? now->control : "", next->control ? next->control : ""))
        return "control: a reload cannot change it; that takes a restart";
    return NULL;
}

static void on_config(struct config *config, const char *why, void *arg)
{
    struct supervisor *s = arg;
    char sentence[1024];
    s->reading = NULL;
    s->next = config;
    if (config)
        why = find_fixed(s->config, config);
    if (!why && prepare_all(s, config, sentence, sizeof sentence) < 0)
        why = sentence;
    if (why) {
        reload_fail(s, why);
        return;
    }
    control_say(s->control, CONTROL_PROGRESS, "new workers start");
}

static void supervisor_reload(struct supervisor *s)
{
    if (supervisor_is_busy(s)) {
        s->again = 1;
        return;
    }
    s->reading = config_child_start(s->context.loop, s->source, on_config, s);
    notify_reloading(s->notify);
    if (!s->reading)
        reload_fail(s, strerror(errno));
}

/* -- crews that leave ---------------------------------------------------------------- */

static struct service_leaving supervisor_leaving(const struct supervisor *s)
{
    struct service_leaving sum = {0};
    for (uint32_t i = 0; i < s->service_count; i++) {
        struct service_leaving one = service_leaving(s->services[i]);
        sum.workers += one.workers;
        sum.settled += one.settled;
        sum.connections += one.connections;
        sum.pinned += one.pinned;
        sum.moved += one.moved;
    }
    return sum;
}

static void say_progress(struct supervisor *s, const struct service_leaving *now)
{
    char text[128];
    if (now->moved == s->leaving.moved && now->connections == s->leaving.connections)
        return;
    s->leaving = *now;
    snprintf(text, sizeof text, "%" PRIu64 " connections moved, %u left", now->moved,
             now->connections);
    control_say(s->control, CONTROL_PROGRESS, text);
}

static void say_done(struct supervisor *s, const struct service_leaving *now)
{
    char text[192];
    int n = snprintf(text, sizeof text, "reloaded: %" PRIu64 " connections moved",
                     now->moved);
    if (now->workers)
        snprintf(text + n, sizeof text - (size_t)n,
                 "; %u that are pinned stay with %u workers", now->pinned, now->workers);
    log_info("%s", text);
    control_say(s->control, CONTROL_DONE, text);
}

/* Until all earlier workers have gone, or have only what is pinned to them. */
static void on_progress(void *arg)
{
    struct supervisor *s = arg;
    struct clock *clock = &s->context.loop->clock;
    struct service_leaving now = supervisor_leaving(s);
    if (supervisor_is_busy(s)) /* with another, which will tell */
        return;
    if (now.workers == now.settled) {
        timer_stop(clock, &s->progress);
        say_done(s, &now);
        return;
    }
    say_progress(s, &now);
    timer_start(clock, &s->progress, clock->now + PROGRESS_SECONDS);
}

/* -- the change ---------------------------------------------------------------------- */

static void supervisor_change(struct supervisor *s)
{
    config_release(s->config);
    s->config = s->next;
    s->next = NULL;
    log_threshold(s->config->log_level);
    supervisor_each(s, service_commit);
    char text[64];
    snprintf(text, sizeof text, "ready: %u workers", count_workers(s->config));
    log_info("%s", text);
    notify_ready(s->notify);
    control_say(s->control, CONTROL_PROGRESS, text);
}

static void supervisor_decide(void *arg)
{
    struct supervisor *s = arg;
    if (s->phase == STOPPING || !s->next)
        return;
    if (s->failed && s->phase == STARTING)
        supervisor_stop_now(s, 1);
    else if (s->failed)
        reload_fail(s, NULL);
    else if (supervisor_all(s, service_is_prepared)) {
        int is_reload = s->phase == SERVING;
        s->phase = SERVING;
        supervisor_change(s);
        supervisor_again(s);
        if (is_reload && !supervisor_is_busy(s)) {
            s->leaving = (struct service_leaving){0};
            on_progress(s);
        }
    }
}

/* Crews are not changed from within their callbacks. */
static void on_prepared(struct service *v, void *arg)
{
    struct supervisor *s = arg;
    (void)v;
    loop_soon(s->context.loop, &s->decide);
}

static void on_failed(struct service *v, const char *why, void *arg)
{
    struct supervisor *s = arg;
    (void)v;
    s->failed = 1;
    control_say(s->control, CONTROL_PROBLEM, why);
    loop_soon(s->context.loop, &s->decide);
}

static void on_gone(struct service *v, void *arg)
{
    struct supervisor *s = arg;
    (void)v;
    if (s->phase == STOPPING)
        supervisor_stop_if_done(s);
    else if (s->progress.place)
        on_progress(s);
}

static void on_handoff(struct transfer *t, void *arg)
{
    struct supervisor *s = arg;
    if (t->pool <= s->service_count) {
        service_transfer(s->services[t->pool - 1], t);
        return;
    }
    log_error("a connection was handed to a pool that there is not");
    transfer_free(t);
}

static const struct service_callbacks service_callbacks = {on_prepared, on_failed,
                                                           on_gone, on_handoff};

/* -- upgrading ----------------------------------------------------------------------- */

/* What is asked for meanwhile is a reload, which follows anyway. */
static struct baton *supervisor_save(const struct supervisor *s)
{
    struct baton *b = baton_new();
    baton_put_text(b, "version", MOONPOOL_VERSION);
    baton_put_number(b, "wire", WIRE_VERSION);
    baton_put_number(b, "cell", sizeof(struct scoreboard_cell));
    baton_put_number(b, "inherited", (uint64_t)s->source->inherited);
    baton_put_fd(b, "scoreboard", s->board.fd);
    baton_put(b, "config", buf_head(&s->agreed), buf_len(&s->agreed));
    if (s->control) {
        baton_begin(b, "control");
        control_save(s->control, b);
        baton_end(b);
    }
    for (uint32_t i = 0; i < s->service_count; i++) {
        baton_begin(b, "pool");
        baton_put_text(b, "name", s->config->pools[i].name);
        service_save(s->services[i], b);
        baton_end(b);
    }
    return b;
}

/* Who has asked for it hears so at once, even if a reload follows. */
static void upgrade_fail(struct supervisor *s, const char *why)
{
    static const char sentence[] = "the upgrade has failed, everything goes on as before";
    log_error("%s: %s", sentence, why);
    control_say(s->control, CONTROL_PROBLEM, why);
    if (!s->upgrade)
        control_say(s->control, CONTROL_FAILED, sentence);
    supervisor_again(s);
}

static void upgrade_fail_of(struct supervisor *s, int error)
{
    char *why = alloc_format("%s: %s", s->source->successor, strerror(error));
    upgrade_fail(s, why);
    free(why);
}

static void on_answer(const char *config, size_t len, const char *why, void *arg)
{
    struct supervisor *s = arg;
    s->successor = NULL;
    if (why) {
        upgrade_fail(s, why);
        return;
    }
    buf_append(&s->agreed, config, len);
    loop_stop(s->context.loop); /* supervisor_exec */
}

static void supervisor_upgrade(struct supervisor *s)
{
    if (supervisor_is_busy(s)) {
        s->upgrade = 1;
        return;
    }
    struct config_source source = *s->source;
    source.program = source.successor;
    struct baton *b = supervisor_save(s);
    s->successor = successor_ask(s->context.loop, &source, b, on_answer, s);
    int error = errno;
    baton_free(b);
    if (!s->successor)
        upgrade_fail_of(s, error);
}

/* PROGRAM serve ARGUMENT..., as this one was started. Returns an errno, if at all. */
static int supervisor_pass(const struct supervisor *s)
{
    const struct config_source *source = s->source;
    const char **argv = alloc_zero(((size_t)source->argc + 3) * sizeof *argv);
    struct baton *b = supervisor_save(s);
    argv[0] = source->successor;
    argv[1] = "serve";
    for (int i = 0; i < source->argc; i++)
        argv[2 + i] = source->argv[i];
    baton_exec(b, source->successor, (char *const *)argv);
    int error = errno;
    baton_free(b);
    free(argv);
    return error;
}

/*
 * Signals that come from here on wait, through execve(2), until somebody watches them.
 * Those that have come before are told in one more turn; one of them may be the end of it
 * all.
 */
static void supervisor_exec(struct supervisor *s)
{
    int error = 0;
    mask_signals(SIG_BLOCK);
    loop_turn(s->context.loop);
    if (s->phase == SERVING)
        error = supervisor_pass(s);
    buf_release(&s->agreed);
    mask_signals(SIG_UNBLOCK);
    if (error)
        upgrade_fail_of(s, error);
}

/* -- signals and commands ------------------------------------------------------------ */

static void on_stop_signal(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct supervisor *s = w->data;
    const char *name = w->signum == SIGINT ? "SIGINT" : "SIGTERM";
    (void)ev, (void)revents;
    if (s->phase == SERVING) {
        supervisor_stop(s, name);
        return;
    }
    log_info("%s: stopping at once", name);
    supervisor_stop_now(s, 1);
}

static void on_hangup(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct supervisor *s = w->data;
    (void)ev, (void)revents;
    if (s->phase == STOPPING)
        return;
    log_info("SIGHUP: reloading");
    supervisor_reload(s);
}

static void on_usr1(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct supervisor *s = w->data;
    (void)ev, (void)revents;
    log_info("SIGUSR1: log files are opened anew");
    supervisor_each(s, service_reopen);
}

static void on_usr2(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct supervisor *s = w->data;
    (void)ev, (void)revents;
    if (s->phase == STOPPING)
        return;
    log_info("SIGUSR2: upgrading");
    supervisor_upgrade(s);
}

static void on_command(const char *command, void *arg)
{
    struct supervisor *s = arg;
    int is_reload = strcmp(command, "reload") == 0;
    if (!is_reload && strcmp(command, "upgrade") != 0)
        control_say(s->control, CONTROL_FAILED, "unknown command");
    else if (s->phase == STOPPING)
        control_say(s->control, CONTROL_FAILED, "the server stops");
    else if (is_reload) {
        log_info("moonpool reload: reloading");
        supervisor_reload(s);
    } else {
        log_info("moonpool upgrade: upgrading");
        supervisor_upgrade(s);
    }
}

/* -- starting ------------------------------------------------------------------------ */

static int supervisor_open_control(struct supervisor *s)
{
    char why[512];
    if (!s->config->control)
        return 0;
    s->control =
        control_open(s->context.loop, s->config->control, on_command, s, why, sizeof why);
    if (s->control)
        return 0;
    log_error("control: cannot listen on %s", why);
    return -1;
}

static void supervisor_open_services(struct supervisor *s)
{
    unsigned long fd_limit = process_raise_fd_limit();
    s->services = alloc_zero(s->config->pool_count * sizeof *s->services);
    for (; s->service_count < s->config->pool_count; s->service_count++)
        s->services[s->service_count] = service_open(&s->context, s->service_count + 1,
                                                     fd_limit, &service_callbacks, s);
}

static int supervisor_open(struct supervisor *s)
{
    char why[1024];
    size_t cells = (size_t)count_workers(s->config) * GENERATIONS + CELLS_MORE;
    if (scoreboard_create(&s->board, cells) < 0) {
        log_error("cannot make the scoreboard: %s", strerror(errno));
        return -1;
    }
    supervisor_open_services(s);
    if (supervisor_open_control(s) < 0)
        return -1;
    if (prepare_all(s, config_retain(s->config), why, sizeof why) < 0) {
        log_error("%s", why);
        return -1;
    }
    endpoint_end_passing();
    return 0;
}

static void supervisor_watch(struct supervisor *s, ev_signal *w, int number,
                             void (*f)(struct ev_loop *, ev_signal *, int))
{
    ev_signal_init(w, f, number);
    w->data = s;
    ev_signal_start(s->context.loop->ev, w);
}

static void supervisor_watch_all(struct supervisor *s)
{
    supervisor_watch(s, &s->term, SIGTERM, on_stop_signal);
    supervisor_watch(s, &s->interrupt, SIGINT, on_stop_signal);
    supervisor_watch(s, &s->hangup, SIGHUP, on_hangup);
    supervisor_watch(s, &s->usr1, SIGUSR1, on_usr1);
    supervisor_watch(s, &s->usr2, SIGUSR2, on_usr2);
    timer_init(&s->progress, on_progress, s);
    s->decide = (struct loop_job){.run = supervisor_decide, .arg = s};
    mask_signals(SIG_UNBLOCK);
}

static void supervisor_close(struct supervisor *s)
{
    struct loop *l = s->context.loop;
    control_close(s->control);
    notify_close(s->notify);
    supervisor_each(s, service_close);
    free(s->services);
    config_release(s->next);
    config_release(s->config);
    scoreboard_close(&s->board);
    ev_signal_stop(l->ev, &s->term);
    ev_signal_stop(l->ev, &s->interrupt);
    ev_signal_stop(l->ev, &s->hangup);
    ev_signal_stop(l->ev, &s->usr1);
    ev_signal_stop(l->ev, &s->usr2);
    loop_free(l);
}

static void supervisor_begin(struct supervisor *s, struct config_source *source,
                             const char *library)
{
    signal(SIGPIPE, SIG_IGN);
    *s = (struct supervisor){.source = source, .board = {.fd = -1}};
    s->context = (struct crew_context){
        .board = &s->board, .program = source->program, .library = library};
    s->context.loop = loop_new(LOOP_DEFAULT);
    if (!s->context.loop)
        log_fatal(1, "cannot make an event loop: %s", strerror(errno));
    supervisor_watch_all(s);
    title_set("moonpool: supervisor");
    s->notify = notify_open(s->context.loop, supervisor_describe, s);
}

static int supervisor_serve(struct supervisor *s)
{
    while (!supervisor_is_done(s)) {
        loop_run(s->context.loop);
        if (buf_len(&s->agreed))
            supervisor_exec(s);
    }
    supervisor_close(s);
    return s->exit_code;
}

int supervisor_run(struct config *config, struct config_source *source,
                   const char *library)
{
    struct supervisor s;
    supervisor_begin(&s, source, library);
    s.config = config;
    if (supervisor_open(&s) < 0) /* crews that have started are ended */
        supervisor_stop_now(&s, 1);
    return supervisor_serve(&s);
}

/* -- going on where another program has stopped -------------------------------------- */

/* What find_fixed wants to know of the configuration that b's program had. */
static struct config *outline(struct baton *b)
{
    struct config *c = alloc_zero(sizeof *c);
    c->users = 1;
    for (; baton_enter(b, "control"); baton_leave(b))
        c->control = baton_text(b, "path");
    for (; baton_enter(b, "pool"); baton_leave(b)) {
        c->pools = alloc_array(c->pools, c->pool_count + 1, sizeof *c->pools);
        c->pools[c->pool_count++] = (struct pool_config){.name = baton_text(b, "name")};
    }
    return c;
}

const char *supervisor_refuse(struct baton *b, const struct config *config)
{
    if (baton_number(b, "wire") != WIRE_VERSION ||
        baton_number(b, "cell") != sizeof(struct scoreboard_cell))
        return "moonpool " MOONPOOL_VERSION " cannot speak with the workers that there "
               "are: that takes a restart";
    struct config *before = outline(b);
    const char *why = find_fixed(before, config);
    config_release(before);
    return why;
}

static void supervisor_load(struct supervisor *s, struct baton *b)
{
    size_t len;
    char *why = NULL;
    const char *config = baton_get(b, "config", &len);
    s->config = config_read(config, len, &why);
    if (!s->config || scoreboard_attach(&s->board, baton_fd(b, "scoreboard")) < 0)
        log_fatal(1, "cannot go on: %s", why ? why : strerror(errno));
    log_threshold(s->config->log_level);
    s->source->inherited = (int)baton_number(b, "inherited");
    supervisor_open_services(s);
    for (; baton_enter(b, "control"); baton_leave(b))
        s->control = control_load(s->context.loop, on_command, s, b);
    for (uint32_t i = 0; baton_enter(b, "pool"); i++, baton_leave(b))
        service_load(s->services[i], s->config, &s->config->pools[i], b);
}

static void supervisor_say_upgraded(struct supervisor *s, const struct baton *b)
{
    char *before = baton_text(b, "version");
    char *text = alloc_format("upgraded: moonpool %s, it was %s", MOONPOOL_VERSION,
                              before ? before : "another");
    log_info("%s", text);
    control_say(s->control, CONTROL_PROGRESS, text);
    free(before);
    free(text);
}

int supervisor_go_on(struct baton *b, struct config_source *source, const char *library)
{
    struct supervisor s;
    supervisor_begin(&s, source, library);
    supervisor_load(&s, b);
    s.phase = SERVING;
    supervisor_say_upgraded(&s, b);
    baton_free(b);
    supervisor_reload(&s);
    return supervisor_serve(&s);
}
