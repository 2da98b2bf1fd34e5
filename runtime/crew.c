/*
 * Each worker has a place: a number in its pool, with channels and a scoreboard cell that
 * stay when its process changes. A process that dies is replaced at once, or, if it did
 * not even live for a moment, after a pause that doubles each time.
 *
 * One place is vacant. When a worker is tired (it has served max_requests, say) another
 * with its number starts there, and only when that is ready the tired one retires; then
 * its place is the vacant one. So there are never fewer workers than there should be, and
 * a script that cannot be loaded any more costs nothing.
 */
#include "crew.h"

#include "alloc.h"
#include "log.h"
#include "parcel.h"
#include "process.h"
#include "pulse.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* A life shorter than this was a failure; the pause after it grows from MIN to MAX. */
#define LIFE_MIN 1.0
#define PAUSE_MIN 0.1
#define PAUSE_MAX 10.0
#define KILL_MARGIN 1.0 /* after the drain limit, for a worker to see it by itself */

struct place {
    struct crew *crew;
    struct pool_worker *worker;
    ev_child child;
    struct timer restart; /* or, of the vacant one, to try again */
    struct timer limit;   /* once it has been told to leave */
    double started, pause;
    int vacant;             /* nobody works here */
    int tired;              /* somebody else is wanted, with its number */
    int leaves;             /* to be vacant */
    int retires;            /* it was told to; else to stop */
    int killed;             /* from here */
    struct place *replaces; /* the tired one, until this one is ready */
};

static void crew_each(struct crew *c, void (*f)(struct place *p))
{
    for (uint32_t i = 0; i < c->pool.count; i++)
        f(&c->places[i]);
}

static void crew_relieve(struct crew *c);
static void place_vacate(struct place *p);

/* -- what there is to know ----------------------------------------------------------- */

uint32_t crew_count(const struct crew *c, enum worker_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->pool.count; i++)
        n += c->pool.workers[i].state == state;
    return n;
}

int crew_is_gone(const struct crew *c)
{
    return crew_count(c, WORKER_DOWN) == c->pool.count;
}

int crew_resumes(const struct crew *c)
{
    int all = 1;
    for (uint32_t i = 0; i < c->pool.count; i++)
        all &= c->pool.workers[i].resumes || c->places[i].vacant;
    return all;
}

uint32_t crew_connections(const struct crew *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->pool.count; i++)
        n += atomic_load(&c->pool.workers[i].cell->open);
    return n;
}

uint32_t crew_pinned(const struct crew *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->pool.count; i++)
        n += atomic_load(&c->pool.workers[i].cell->pinned);
    return n;
}

uint32_t crew_settled(const struct crew *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->pool.count; i++) {
        const struct scoreboard_cell *cell = c->pool.workers[i].cell;
        uint32_t pinned = atomic_load(&cell->pinned);
        n += pinned && pinned == atomic_load(&cell->open);
    }
    return n;
}

/* -- the end ------------------------------------------------------------------------- */

static void place_kill(struct place *p)
{
    timer_stop(&p->crew->context->loop->clock, &p->restart);
    if (p->worker->state == WORKER_DOWN) /* its pid may be another's by now */
        return;
    p->killed = 1;
    kill(p->worker->pid, SIGKILL);
}

void crew_kill(struct crew *c)
{
    c->phase = CREW_LEAVING;
    crew_each(c, place_kill);
}

/* Who retires with pinned connections may take its time, who does not stop may not. */
static void on_limit(void *arg)
{
    struct place *p = arg;
    struct clock *clock = &p->crew->context->loop->clock;
    if (!p->retires || !atomic_load(&p->worker->cell->pinned)) {
        log_warn("%s/%u, pid %d, is killed: the drain limit is over",
                 p->crew->settings.name, p->worker->number, (int)p->worker->pid);
        p->crew->was_cut = 1;
        place_kill(p);
    }
    timer_start(clock, &p->limit, clock->now + KILL_MARGIN);
}

static void place_leave(struct place *p, int retires, double drain)
{
    struct loop *l = p->crew->context->loop;
    p->retires = retires;
    timer_stop(&l->clock, &p->restart);
    if (p->worker->state != WORKER_DOWN)
        timer_start(&l->clock, &p->limit, loop_now(l) + drain + KILL_MARGIN);
}

/* A worker that has not come to loading its script has nothing to give back. */
static void place_retire(struct place *p, enum parcel_why why, int gives_states,
                         double drain)
{
    place_leave(p, 1, drain);
    pool_take_back(p->worker);
    if (p->worker->state != WORKER_DOWN)
        pool_tell_retire(p->worker, why, gives_states, drain);
}

void crew_stop(struct crew *c, double drain)
{
    c->phase = CREW_LEAVING;
    for (uint32_t i = 0; i < c->pool.count; i++) {
        place_leave(&c->places[i], 0, drain);
        if (c->pool.workers[i].state != WORKER_DOWN)
            pool_tell_stop(&c->pool.workers[i]);
    }
}

void crew_retire(struct crew *c, int gives_states, double drain)
{
    c->phase = CREW_LEAVING;
    for (uint32_t i = 0; i < c->pool.count; i++)
        place_retire(&c->places[i], PARCEL_RELOAD, gives_states, drain);
}

/* -- workers' lives ------------------------------------------------------------------ */

static struct place *place_of(const struct crew *c, const struct pool_worker *w)
{
    return &c->places[w - c->pool.workers];
}

static void crew_fail(struct crew *c, const char *why)
{
    if (c->failed || c->phase != CREW_STARTING)
        return;
    c->failed = 1;
    crew_kill(c);
    c->callbacks->on_failed(c, why, c->arg);
}

/* The tired one may go now. */
static void place_relieve(struct place *p)
{
    struct crew *c = p->crew;
    struct place *tired = p->replaces;
    log_info("%s/%u is relieved by pid %d", c->settings.name, p->worker->number,
             (int)p->worker->pid);
    p->replaces = NULL;
    tired->leaves = 1;
    place_retire(tired, PARCEL_RECYCLE, crew_resumes(c), c->config->drain);
    if (tired->worker->state == WORKER_DOWN)
        place_vacate(tired);
}

static void on_worker_ready(struct pool_worker *w, void *arg)
{
    struct crew *c = arg;
    struct place *p = place_of(c, w);
    if (c->phase == CREW_WORKING) {
        if (p->replaces)
            place_relieve(p);
        else
            log_info("%s/%u is ready again, pid %d", c->settings.name, w->number,
                     (int)w->pid);
        c->callbacks->on_slot(c, c->arg);
    }
    if (c->phase != CREW_STARTING || crew_count(c, WORKER_READY) < c->settings.workers)
        return;
    c->phase = CREW_WORKING;
    c->callbacks->on_ready(c, c->arg);
}

static void on_tired(struct pool_worker *w, void *arg)
{
    struct crew *c = arg;
    place_of(c, w)->tired = 1;
    crew_relieve(c);
}

static void on_worker_failed(struct pool_worker *w, const char *text, size_t len,
                             void *arg)
{
    struct crew *c = arg;
    if (c->phase == CREW_LEAVING)
        return;
    char *why = alloc_format("%s/%u cannot load its script: %.*s", c->settings.name,
                             w->number, (int)len, text);
    log_error("%s", why);
    crew_fail(c, why);
    free(why);
}

static void on_slot(struct pool *p, void *arg)
{
    struct crew *c = arg;
    (void)p;
    c->callbacks->on_slot(c, c->arg);
}

static void on_transfer(struct pool *p, struct transfer *t, void *arg)
{
    struct crew *c = arg;
    (void)p;
    c->moved += c->phase == CREW_LEAVING && !t->is_new;
    c->callbacks->on_transfer(c, t, c->arg);
}

static void on_publish(const struct wire_header *h, const char *text, size_t len,
                       void *arg)
{
    struct crew *c = arg;
    c->callbacks->on_publish(h, text, len, c->arg);
}

static void on_replay(struct pool_worker *w, const struct wire_header *h,
                      const char *topic, size_t len, void *arg)
{
    struct crew *c = arg;
    c->callbacks->on_replay(w, h, topic, len, c->arg);
}

static const struct pool_callbacks pool_callbacks = {
    on_worker_ready, on_worker_failed, on_tired,  on_slot,
    on_transfer,     on_publish,       on_replay,
};

/* What it was at, and what has become of its connections, where that is known. */
static void log_death(const struct place *p, const char *how, uint32_t open,
                      const struct holds_outcome *o)
{
    const char *line = p->worker->cell->stuck;
    char outcome[96] = "";
    if (p->worker->journal >= 0)
        snprintf(outcome, sizeof outcome,
                 ": %" PRIu32 " saved, %" PRIu32 " cut, %" PRIu32 " lost", o->on, o->cut,
                 o->lost);
    log_error("%s/%u, pid %d, %s%s%s%s%.*s with %u connections%s", p->crew->settings.name,
              p->worker->number, p->child.rpid, how, *o->blamed ? " at " : "", o->blamed,
              *line ? " in " : "", SCOREBOARD_TEXT, line, open, outcome);
}

/* Not what it was told to do; but to be killed leaves something to be told of. */
static void log_end(const struct place *p, int status, enum worker_state before,
                    uint32_t open, const struct holds_outcome *o)
{
    char how[64];
    if (p->killed && p->worker->journal < 0)
        return;
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "died of signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else if (WEXITSTATUS(status) && before != WORKER_STOPPING)
        snprintf(how, sizeof how, "exited with %d", WEXITSTATUS(status));
    else
        return;
    log_death(p, how, open, o);
}

static void place_set_pause(struct place *p, int failed)
{
    p->pause = !failed ? 0 : p->pause ? p->pause * 2 : PAUSE_MIN;
    if (p->pause > PAUSE_MAX)
        p->pause = PAUSE_MAX;
}

static void place_restart_later(struct place *p, int unready)
{
    struct loop *l = p->crew->context->loop;
    double now = loop_now(l);
    place_set_pause(p, unready || now - p->started < LIFE_MIN);
    if (p->pause)
        log_warn("%s/%u is started again in %g s", p->crew->settings.name,
                 p->worker->number, p->pause);
    timer_start(&l->clock, &p->restart, now + p->pause);
}

static void crew_fail_of_death(struct crew *c, const struct pool_worker *w)
{
    if (c->failed) /* of what it has said */
        return;
    char *why =
        alloc_format("%s/%u died before it was ready", c->settings.name, w->number);
    log_error("%s", why);
    crew_fail(c, why);
    free(why);
}

/* The script cannot be loaded any more: whoever was tired goes on. */
static void place_give_up(struct place *p)
{
    struct loop *l = p->crew->context->loop;
    place_set_pause(p, 1);
    log_warn("%s/%u goes on without relief, for %g s", p->crew->settings.name,
             p->worker->number, p->pause);
    p->replaces->tired = 1;
    p->replaces = NULL;
    p->vacant = 1;
    timer_start(&l->clock, &p->restart, loop_now(l) + p->pause);
}

/* Of a crew that starts, only one that was ready is started again. */
static void place_follow(struct place *p, int unready)
{
    if (p->replaces)
        place_give_up(p);
    else if (!p->leaves && !(unready && p->crew->phase == CREW_STARTING))
        place_restart_later(p, unready);
}

/* Nobody comes after the one that has gone: what was queued for it is the others'. */
static void place_clear(struct place *p)
{
    timer_stop(&p->crew->context->loop->clock, &p->limit);
    pool_take_back(p->worker);
    if (p->leaves)
        place_vacate(p);
}

/* To those who want to know, after its last words: bus.lua. */
static void publish_gone(const struct place *p)
{
    static const char topic[] = "moonpool.gone";
    enum { TOPIC_LEN = sizeof topic - 1 };
    struct crew *c = p->crew;
    const struct pool_worker *w = p->worker;
    struct wire_header h = {WIRE_PUBLISH, TOPIC_LEN, wire_topic_bit(topic, TOPIC_LEN)};
    char text[TOPIC_LEN + 40];
    int len = snprintf(text, sizeof text, "%s%" PRIu32 ".%" PRIu64, topic, w->number,
                       atomic_load(&w->cell->generation));
    c->callbacks->on_publish(&h, text, (size_t)len, c->arg);
}

static void on_child(struct ev_loop *ev, ev_child *child, int revents)
{
    struct place *p = child->data;
    struct crew *c = p->crew;
    enum worker_state before = p->worker->state;
    int unready = before == WORKER_STARTING;
    uint32_t open = atomic_load(&p->worker->cell->open);
    (void)revents;
    ev_child_stop(ev, child);
    c->was_cut |= c->phase == CREW_LEAVING && child->rstatus != 0;
    /* It may hear that the script could not be loaded. */
    struct holds_outcome outcome = pool_died(p->worker);
    log_end(p, child->rstatus, before, open, &outcome);
    publish_gone(p);
    if (c->phase != CREW_LEAVING)
        place_follow(p, unready);
    if (unready && c->phase == CREW_STARTING)
        crew_fail_of_death(c, p->worker);
    if (c->phase == CREW_LEAVING || p->leaves || p->vacant)
        place_clear(p);
    if (c->phase == CREW_LEAVING && crew_is_gone(c))
        c->callbacks->on_gone(c, c->arg);
}

static char *pool_names(const struct config *c)
{
    char *names = alloc_string(c->pools[0].name);
    for (uint32_t i = 1; i < c->pool_count; i++) {
        char *more = alloc_format("%s, %s", names, c->pools[i].name);
        free(names);
        names = more;
    }
    return names;
}

/* The arguments of the worker's program: wire.h. */
static char **place_arguments(const struct place *p, uint64_t generation)
{
    const struct crew *c = p->crew;
    const struct pool_config *s = &c->settings;
    struct wire_settings settings = {.pool = s->name,
                                     .pools = pool_names(c->config),
                                     .workers = s->workers,
                                     .app = s->app,
                                     .lua = (char *)c->context->library,
                                     .number = p->worker->number,
                                     .cell = p->worker->cell_index,
                                     .generation = generation,
                                     .log_level = c->config->log_level,
                                     .read_limit = s->read_limit,
                                     .write_limit = s->write_limit,
                                     .state_limit = s->state_limit,
                                     .max_requests = s->max_requests,
                                     .memory_limit = s->memory_limit,
                                     .memory_soft_limit = s->memory_soft_limit,
                                     .idle_timeout = s->idle_timeout,
                                     .handler_timeout = s->handler_timeout,
                                     .drain = c->config->drain,
                                     .dev = (uint32_t)s->dev,
                                     .survive = (uint32_t)s->survive};
    char **argv = wire_settings_write(&settings, c->context->program);
    free(settings.pools);
    return argv;
}

static pid_t place_start_process(struct place *p)
{
    const struct crew *c = p->crew;
    struct pool_worker *w = p->worker;
    uint64_t generation = ++c->lives[w->number - 1];
    char **argv = place_arguments(p, generation);
    atomic_store(&w->cell->generation, generation);
    pid_t pid = process_start(&(struct process_options){
        .program = c->context->program,
        .argv = argv,
        .env = c->settings.env,
        .fds = {w->far_control, w->far_bus, c->context->board->fd, w->journal},
        .user = c->config->user,
        .uid = c->config->uid,
        .gid = c->config->gid});
    wire_settings_free_args(argv);
    return pid;
}

static void place_watch(struct place *p, pid_t pid)
{
    ev_child_set(&p->child, pid, 0);
    ev_child_start(p->crew->context->loop->ev, &p->child);
}

static void place_start(struct place *p)
{
    struct loop *l = p->crew->context->loop;
    pid_t pid = place_start_process(p);
    p->started = loop_now(l);
    p->killed = p->tired = 0;
    if (pid < 0) {
        log_error("cannot start a worker: %s", strerror(errno));
        place_restart_later(p, 1);
        return;
    }
    pool_started(p->worker, pid);
    place_watch(p, pid);
}

void crew_start(struct crew *c)
{
    for (uint32_t i = 0; i < c->settings.workers; i++)
        place_start(&c->places[i]);
}

/* -- relief -------------------------------------------------------------------------- */

static struct place *find_place(struct crew *c, int (*is)(const struct place *p))
{
    for (uint32_t i = 0; i < c->pool.count; i++)
        if (is(&c->places[i]))
            return &c->places[i];
    return NULL;
}

static int is_vacant(const struct place *p)
{
    return p->vacant && !p->restart.place;
}

static int is_tired(const struct place *p)
{
    return p->tired && p->worker->state == WORKER_READY;
}

/* One after the other: there is one vacant place. */
static void crew_relieve(struct crew *c)
{
    struct place *vacant = find_place(c, is_vacant), *tired = find_place(c, is_tired);
    if (c->phase != CREW_WORKING || !vacant || !tired)
        return;
    tired->tired = 0;
    vacant->vacant = 0;
    vacant->replaces = tired;
    vacant->worker->number = tired->worker->number;
    place_start(vacant);
}

static void place_vacate(struct place *p)
{
    p->leaves = 0;
    p->vacant = 1;
    crew_relieve(p->crew);
}

/* -- balance ------------------------------------------------------------------------- */

/* How many more than its share a worker may have. */
static uint32_t tolerance(uint32_t share)
{
    return share / 20 > 2 ? share / 20 : 2;
}

void crew_balance(struct crew *c)
{
    uint32_t sum = 0, open = 0;
    for (uint32_t i = 0; i < c->pool.count; i++)
        if (pool_is_open(&c->pool.workers[i])) {
            sum += pool_used(&c->pool.workers[i]);
            open++;
        }
    for (uint32_t i = 0; i < c->pool.count; i++) {
        struct pool_worker *w = &c->pool.workers[i];
        uint32_t share = open ? sum / open : 0, used = pool_used(w);
        pool_settle(w);
        if (pool_is_open(w) && used > share + tolerance(share))
            pool_tell_give(w, used - share);
    }
}

/* -- opening and closing ------------------------------------------------------------- */

static void on_restart(void *arg)
{
    struct place *p = arg;
    if (p->vacant)
        crew_relieve(p->crew);
    else
        place_start(p);
}

static void place_init(struct place *p, struct crew *c, struct pool_worker *w)
{
    *p = (struct place){.crew = c, .worker = w};
    p->vacant = w->number > c->settings.workers;
    timer_init(&p->restart, on_restart, p);
    timer_init(&p->limit, on_limit, p);
    ev_child_init(&p->child, on_child, 0, 0);
    p->child.data = p;
}

static struct crew *crew_new(const struct crew_context *context,
                             const struct pool_config *settings, uint64_t *lives,
                             const struct crew_callbacks *callbacks, void *arg)
{
    struct crew *c = alloc_zero(sizeof *c);
    c->context = context;
    c->callbacks = callbacks;
    c->arg = arg;
    c->settings = *settings;
    c->lives = lives;
    return c;
}

/* Its pool is open. */
static void crew_furnish(struct crew *c, struct config *config)
{
    c->config = config_retain(config);
    c->pulse = pulse_open(&c->pool);
    c->places = alloc_array(NULL, c->pool.count, sizeof *c->places);
    for (uint32_t i = 0; i < c->pool.count; i++)
        place_init(&c->places[i], c, &c->pool.workers[i]);
}

struct crew *crew_open(const struct crew_context *context, struct config *config,
                       const struct pool_config *settings, uint32_t id, uint64_t *lives,
                       const struct crew_callbacks *callbacks, void *arg)
{
    struct crew *c = crew_new(context, settings, lives, callbacks, arg);
    if (pool_open(&c->pool, context->loop, &c->settings, context->board, id,
                  &pool_callbacks, c) < 0) {
        free(c);
        return NULL;
    }
    crew_furnish(c, config);
    return c;
}

static void place_close(struct place *p)
{
    timer_stop(&p->crew->context->loop->clock, &p->restart);
    timer_stop(&p->crew->context->loop->clock, &p->limit);
    ev_child_stop(p->crew->context->loop->ev, &p->child);
}

void crew_close(struct crew *c)
{
    if (!c)
        return;
    crew_each(c, place_close);
    pulse_close(c->pulse);
    pool_close(&c->pool);
    config_release(c->config);
    free(c->places);
    loop_free_later(c->context->loop, c);
}

/* -- an upgrade ---------------------------------------------------------------------- */

static void timer_save(const struct timer *t, const char *name, struct baton *b)
{
    if (t->place)
        baton_put_seconds(b, name, t->at);
}

static void timer_load(struct clock *clock, struct timer *t, const char *name,
                       const struct baton *b)
{
    double at = baton_seconds(b, name);
    if (at > 0)
        timer_start(clock, t, at);
}

static void place_save(const struct place *p, struct baton *b)
{
    timer_save(&p->restart, "restart", b);
    timer_save(&p->limit, "limit", b);
    baton_put_seconds(b, "started", p->started);
    baton_put_seconds(b, "pause", p->pause);
    baton_put_number(b, "vacant", (uint64_t)p->vacant);
    baton_put_number(b, "tired", (uint64_t)p->tired);
    baton_put_number(b, "leaves", (uint64_t)p->leaves);
    baton_put_number(b, "retires", (uint64_t)p->retires);
    baton_put_number(b, "killed", (uint64_t)p->killed);
    if (p->replaces)
        baton_put_number(b, "replaces", (uint64_t)(p->replaces - p->crew->places) + 1);
}

static void place_load(struct place *p, const struct baton *b)
{
    struct loop *l = p->crew->context->loop;
    timer_load(&l->clock, &p->restart, "restart", b);
    timer_load(&l->clock, &p->limit, "limit", b);
    p->started = baton_seconds(b, "started");
    p->pause = baton_seconds(b, "pause");
    p->vacant = baton_number(b, "vacant") != 0;
    p->tired = baton_number(b, "tired") != 0;
    p->leaves = baton_number(b, "leaves") != 0;
    p->retires = baton_number(b, "retires") != 0;
    p->killed = baton_number(b, "killed") != 0;
    uint64_t replaces = baton_number(b, "replaces");
    p->replaces = replaces ? &p->crew->places[replaces - 1] : NULL;
    if (p->worker->pid)
        place_watch(p, p->worker->pid);
}

void crew_save(const struct crew *c, struct baton *b)
{
    baton_put_number(b, "workers", c->settings.workers);
    baton_put_number(b, "survive", (uint64_t)c->settings.survive);
    baton_put_number(b, "phase", c->phase);
    baton_put_number(b, "failed", (uint64_t)c->failed);
    baton_put_number(b, "was_cut", (uint64_t)c->was_cut);
    baton_put_number(b, "moved", c->moved);
    pool_save(&c->pool, b);
    for (uint32_t i = 0; i < c->pool.count; i++) {
        baton_begin(b, "place");
        place_save(&c->places[i], b);
        baton_end(b);
    }
}

struct crew *crew_load(const struct crew_context *context, struct config *config,
                       const struct pool_config *settings, uint64_t *lives,
                       const struct crew_callbacks *callbacks, void *arg, struct baton *b)
{
    struct crew *c = crew_new(context, settings, lives, callbacks, arg);
    uint32_t i = 0;
    c->settings.workers = (uint32_t)baton_number(b, "workers");
    c->settings.survive = (int)baton_number(b, "survive");
    c->phase = (enum crew_phase)baton_number(b, "phase");
    c->failed = baton_number(b, "failed") != 0;
    c->was_cut = baton_number(b, "was_cut") != 0;
    c->moved = baton_number(b, "moved");
    pool_load(&c->pool, context->loop, &c->settings, context->board, &pool_callbacks, c,
              b);
    crew_furnish(c, config);
    for (; baton_enter(b, "place"); baton_leave(b))
        place_load(&c->places[i++], b);
    return c;
}
