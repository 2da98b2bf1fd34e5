/*
 * The worker's life: load the script, say that it is ready, serve what comes through the
 * control channel, and on WIRE_STOP finish what is open.
 *
 * On WIRE_RETIRE (or SIGTERM) others go on with what is open: each connection that rests,
 * now or once it has done what it is at, goes back through the control channel, in one
 * message that is either sent or not. So a worker killed at any instant has either still
 * the connection or has passed it on; nobody has to confirm anything, since the channel
 * is the supervisor's too and outlives the worker. What cannot move ends here. In the same
 * way goes what a script hands to others.
 *
 * It must not outlive its supervisor, whatever kills that. The end of the control channel
 * tells it, and the kernel does too (PR_SET_PDEATHSIG), for the case that a handler keeps
 * the loop from hearing anything; from then on it has half a second.
 */
#include "worker.h"

#include "alloc.h"
#include "core.h"
#include "fd.h"
#include "handler.h"
#include "journal.h"
#include "log.h"
#include "lua_memory.h"
#include "lua_pace.h"
#include "outbox.h"
#include "parcel.h"
#include "peer.h"
#include "scoreboard.h"
#include "script.h"
#include "title.h"
#include "watchdog.h"
#include "wire.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    QUEUE_LIMIT = 4 << 20, /* bytes of messages that wait for the supervisor */
    TOPIC_BITS = 64,
    EXPLANATION = 128,
    REPORT_SECONDS = 1,
    COLLECT_SECONDS = 10,
    EXIT_FAILED = 1,
    EXIT_CUT = 2, /* told to stop, but not all connections came to their end */
};

struct worker {
    struct wire_settings settings;
    struct loop *loop;
    struct scoreboard board;
    struct scoreboard_cell *cell;
    struct peer *control, *bus;
    lua_State *L;
    struct core *core;
    struct handler *handler;
    struct lua_pace pace;
    enum { SERVING, RETIRING, STOPPING } phase;
    uint32_t gives;      /* connections, to others; all of them while it retires */
    enum parcel_why why; /* it gives them */
    int gives_states;    /* those with a state too */
    struct outbox outbox;
    struct lua_conn_places places;
    int cut, is_over; /* is_over: so is the drain limit */
    struct timer drain, report;
    ev_signal term;
    uint32_t topics[TOPIC_BITS]; /* subscribed topics of each bit */
    uint32_t left; /* requests and connections until it is tired; 0: it never is, or is */
    size_t soft_limit;      /* likewise, what Lua may have in use */
    double collects_at;     /* when it may look once more how much of that is garbage */
    struct journal journal; /* of a pool that survives */
    struct loop_job tell_ends;
    struct wire_held *ends; /* connections that the supervisor need not hold any more */
    size_t end_count, end_size;
};

/* -- stopping ------------------------------------------------------------------------ */

/* Past the limit only pinned connections are waited for. */
static void worker_stop_if_done(struct worker *w)
{
    uint32_t open = atomic_load(&w->cell->open), pinned = atomic_load(&w->cell->pinned);
    if (w->phase != SERVING && (open == 0 || (w->is_over && pinned == 0))) {
        w->cut |= open != 0;
        loop_stop(w->loop);
    }
}

static void worker_leave(struct worker *w, const char *how, double limit)
{
    atomic_store(&w->cell->draining, 1);
    title_set("moonpool: worker %s/%u (%s)", w->settings.pool, w->settings.number, how);
    timer_start(&w->loop->clock, &w->drain, loop_now(w->loop) + limit);
}

static void worker_stop(struct worker *w, double limit)
{
    if (w->phase == STOPPING)
        return;
    w->phase = STOPPING;
    w->gives = 0;
    conns_watch_rest(&w->core->conns.conns, NULL, NULL);
    lua_http_stop(w->core->http);
    lua_websockets_stop(w->core->websockets);
    worker_leave(w, "stopping", limit);
    worker_stop_if_done(w);
}

static void on_drain_limit(void *arg)
{
    struct worker *w = arg;
    uint32_t open = atomic_load(&w->cell->open), pinned = atomic_load(&w->cell->pinned);
    if (w->phase == STOPPING)
        pinned = 0;
    log_warn("the drain limit is over: %u connections are closed", open - pinned);
    w->is_over = 1;
    w->cut = 1;
    if (pinned)
        conns_cut(&w->core->conns.conns);
    else
        loop_stop(w->loop);
}

/* -- giving connections back --------------------------------------------------------- */

/* What is not sent stays, until there is room or it rests once more. */
static void on_rest(struct conn *c, void *arg)
{
    struct worker *w = arg;
    struct parcel p;
    if (!w->gives || !conn_pack(c, &p) || (p.has_state && !w->gives_states))
        return;
    p.why = w->why;
    if (!outbox_give(&w->outbox, c, &p))
        return;
    if (w->phase == SERVING && --w->gives == 0)
        conns_watch_rest(&w->core->conns.conns, NULL, NULL);
}

static void on_room(struct peer *p, void *arg)
{
    struct worker *w = arg;
    (void)p;
    outbox_has_room(&w->outbox);
    if (w->gives)
        conns_watch_rest(&w->core->conns.conns, on_rest, w);
}

/* In place of what it was to give before. */
static void worker_give(struct worker *w, uint32_t count, enum parcel_why why,
                        int gives_states)
{
    w->gives = count;
    w->why = why;
    w->gives_states = gives_states;
    conns_watch_rest(&w->core->conns.conns, count ? on_rest : NULL, w);
}

static void worker_retire(struct worker *w, enum parcel_why why, int gives_states,
                          double limit)
{
    if (w->phase != SERVING)
        return;
    w->phase = RETIRING;
    worker_give(w, UINT32_MAX, why, gives_states);
    worker_leave(w, "retiring", limit);
    worker_stop_if_done(w);
}

static void on_term(struct ev_loop *ev, ev_signal *signal, int revents)
{
    struct worker *w = signal->data;
    (void)ev, (void)revents;
    if (w->phase != SERVING) /* it may be at its very end */
        return;
    peer_pause(w->control); /* what is still queued is for the successor */
    worker_retire(w, PARCEL_RECYCLE, handler_can_resume(w->handler), w->settings.drain);
}

/* When the time is up, SIGALRM's default action ends the process. */
static void start_last_half_second(int unused)
{
    struct itimerval limit = {.it_value = {.tv_usec = 500000}};
    (void)unused;
    signal(SIGALRM, SIG_DFL);
    setitimer(ITIMER_REAL, &limit, NULL);
}

static void die_with_supervisor(void)
{
    signal(SIGRTMIN, start_last_half_second);
    prctl(PR_SET_PDEATHSIG, SIGRTMIN);
}

static void on_supervisor_gone(struct peer *p, void *arg)
{
    struct worker *w = arg;
    (void)p;
    log_error("the supervisor is gone");
    start_last_half_second(0);
    worker_stop(w, 0.4);
}

/* -- connections --------------------------------------------------------------------- */

static void worker_tell(struct worker *w, enum wire_type type, uint64_t total,
                        const char *text)
{
    struct wire_header h = {type, (uint32_t)getpid(), total};
    peer_post(w->control, &h, text, text ? strnlen(text, WIRE_PUBLISH_MAX) : 0);
}

static void worker_is_tired(struct worker *w)
{
    w->left = 0;
    w->soft_limit = 0;
    worker_tell(w, WIRE_TIRED, 0, NULL);
}

static void worker_has_served(struct worker *w)
{
    if (w->left && --w->left == 0)
        worker_is_tired(w);
}

static void worker_received(struct worker *w, uint64_t number)
{
    if (scoreboard_receive(w->cell, number))
        worker_tell(w, WIRE_SLOT, 0, NULL);
}

static void on_connection_end(void *arg)
{
    struct worker *w = arg;
    scoreboard_count(&w->cell->served);
    worker_has_served(w);
    if (scoreboard_give_back(w->cell))
        worker_tell(w, WIRE_SLOT, 0, NULL);
    worker_stop_if_done(w);
}

static void on_handler_error(void *arg)
{
    struct worker *w = arg;
    scoreboard_count(&w->cell->errors);
}

static void on_request(void *arg)
{
    struct worker *w = arg;
    scoreboard_count(&w->cell->requests);
    worker_has_served(w);
}

static const struct handler_callbacks handler_callbacks = {on_connection_end,
                                                           on_handler_error};
static const struct lua_http_callbacks http_callbacks = {on_request, on_handler_error};

/* The parcel of a connection that has been moved, read into *big if it came beside it. */
static int read_parcel(struct parcel *p, const struct channel_message *m,
                       const char *text, size_t len, struct buf *big)
{
    if (m->fd_count != 2)
        return m->fd_count == 1 ? parcel_read(p, text, len) : -1;
    if (parcel_load(m->fds[1], big) < 0)
        return -1;
    return parcel_read(p, buf_head(big), buf_len(big));
}

/* The sender's number of it, of which the journal keeps the low bits. */
static struct journal_record *worker_begin(struct worker *w, uint32_t held,
                                           uint64_t number, const struct tcp_tally *tally,
                                           const struct journal_entry *e)
{
    return w->journal.map && held && held < JOURNAL_RECORDS
               ? journal_begin(&w->journal, held, (uint32_t)number, tally, e)
               : NULL;
}

static void worker_go_on(struct worker *w, int fd, const struct parcel *p,
                         const struct wire_header *h)
{
    struct journal_entry e = {.fate = p->is_cut ? JOURNAL_IS_CUT : JOURNAL_GOES_ON,
                              .has_state = p->has_state,
                              .crashes = (uint8_t)p->crashes,
                              .counted = (uint8_t)p->counted,
                              .input = {p->input, p->input_len},
                              .unsent = {p->unsent, p->unsent_len},
                              .state = {p->state, p->state_len}};
    struct tcp_tally tally = {0};
    if (w->journal.map && tcp_tally(fd, &tally) < 0)
        tally.taken = e.input.len;
    handler_take(w->handler,
                 &(struct arrival){
                     .fd = fd,
                     .parcel = p,
                     .record = worker_begin(w, h->number, h->total + 1, &tally, &e)});
}

static void worker_take_over(struct worker *w, struct channel_message *m,
                             const struct wire_header *h, const char *text, size_t len)
{
    struct parcel p;
    struct buf big = {0};
    atomic_fetch_add(&w->cell->open, 1);
    if (read_parcel(&p, m, text, len, &big) == 0)
        worker_go_on(w, fd_take(&m->fds[0]), &p, h);
    else {
        log_error("a connection that was moved has come without what belongs to it");
        on_connection_end(w);
    }
    worker_received(w, h->total + 1);
    buf_release(&big);
}

/* As which descriptor the supervisor holds the i-th of a message; 0: it does not. */
static uint32_t held_as(const char *text, size_t len, int i)
{
    uint32_t held = 0;
    if (len >= ((size_t)i + 1) * sizeof held)
        memcpy(&held, text + (size_t)i * sizeof held, sizeof held);
    return held;
}

/*
 * Counted before they are served, so that none is ever counted too little. Of these the
 * journal need not know anything to begin with, so they are received at once.
 */
static void worker_take(struct worker *w, struct channel_message *m,
                        const struct wire_header *h, const char *text, size_t len)
{
    static const struct tcp_tally nothing;
    static const struct journal_entry anew = {.fate = JOURNAL_GOES_ON};
    int count = m->fd_count;
    atomic_fetch_add(&w->cell->open, (uint32_t)count);
    worker_received(w, h->total + h->number);
    for (int i = 0; i < count; i++)
        handler_take(w->handler,
                     &(struct arrival){.fd = fd_take(&m->fds[i]),
                                       .record = worker_begin(w, held_as(text, len, i),
                                                              h->total + (uint64_t)i + 1,
                                                              &nothing, &anew)});
}

/* -- connections that the supervisor holds too --------------------------------------- */

static void on_record_end(uint32_t index, uint32_t number, void *arg)
{
    struct worker *w = arg;
    if (w->end_count == w->end_size) {
        w->end_size = w->end_size ? w->end_size * 2 : 64;
        w->ends = alloc_array(w->ends, w->end_size, sizeof *w->ends);
    }
    w->ends[w->end_count++] = (struct wire_held){index, number};
    loop_last(w->loop, &w->tell_ends);
}

static void tell_ends(void *arg)
{
    struct worker *w = arg;
    for (size_t i = 0; i < w->end_count; i += WIRE_HELD_MAX) {
        size_t count =
            w->end_count - i < WIRE_HELD_MAX ? w->end_count - i : WIRE_HELD_MAX;
        struct wire_header h = {.type = WIRE_ENDED, .number = (uint32_t)count};
        peer_post(w->control, &h, w->ends + i, count * sizeof *w->ends);
    }
    w->end_count = 0;
}

/* To Lua it is a message to this worker: lua/moonpool/log_file.lua. */
static void worker_reopen(struct worker *w)
{
    static const char topic[] = "moonpool.reopen";
    lua_bus_deliver(w->core->bus, topic, sizeof topic - 1, "", 0, 0);
}

static enum parcel_why worker_why(const struct wire_header *h)
{
    uint32_t why = h->number & ~(uint32_t)WIRE_STATES;
    return why < PARCEL_WHYS ? (enum parcel_why)why : PARCEL_RELOAD;
}

static void on_control(struct peer *p, struct channel_message *m, void *arg)
{
    struct worker *w = arg;
    struct wire_header h;
    const char *text;
    size_t len;
    (void)p;
    if (wire_parse(m->data, m->len, &h, &text, &len) < 0)
        return;
    if (h.type == WIRE_CONNECTIONS)
        worker_take(w, m, &h, text, len);
    else if (h.type == WIRE_MOVED)
        worker_take_over(w, m, &h, text, len);
    else if (h.type == WIRE_STOP)
        worker_stop(w, w->settings.drain);
    else if (h.type == WIRE_RETIRE)
        worker_retire(w, worker_why(&h), (h.number & WIRE_STATES) != 0,
                      (double)h.total / 1000);
    else if (h.type == WIRE_GIVE && w->phase == SERVING)
        worker_give(w, h.number, PARCEL_BALANCE, handler_can_resume(w->handler));
    else if (h.type == WIRE_REOPEN)
        worker_reopen(w);
}

/* -- messages between workers -------------------------------------------------------- */

static void on_bus(struct peer *p, struct channel_message *m, void *arg)
{
    struct worker *w = arg;
    struct wire_header h;
    const char *text;
    size_t len;
    (void)p;
    struct lua_bus *bus = w->core->bus;
    if (wire_parse(m->data, m->len, &h, &text, &len) < 0)
        return;
    if (h.type == WIRE_PUBLISH && h.number <= len)
        lua_bus_deliver(bus, text, h.number, text + h.number, len - h.number, h.total);
    else if (h.type == WIRE_REPLAY)
        lua_bus_replay(bus, h.number, h.total, text, len, 1);
    else if (h.type == WIRE_REPLAYED)
        lua_bus_replay(bus, h.number, h.total, NULL, 0, len == 0);
}

static uint64_t bus_position(void *arg)
{
    struct worker *w = arg;
    return atomic_load(&w->cell->published);
}

static int bus_replay(const char *topic, size_t len, uint64_t since, uint32_t request,
                      void *arg)
{
    struct worker *w = arg;
    struct wire_header h = {WIRE_REPLAY, request, since};
    return peer_post(w->bus, &h, topic, len);
}

static int bus_send(const char *topic, size_t topic_len, const char *text, size_t len,
                    void *arg)
{
    struct worker *w = arg;
    char message[WIRE_PUBLISH_MAX];
    struct wire_header h = {WIRE_PUBLISH, (uint32_t)topic_len,
                            wire_topic_bit(topic, topic_len)};
    memcpy(message, topic, topic_len);
    memcpy(message + topic_len, text, len);
    return peer_post(w->bus, &h, message, topic_len + len);
}

static void bus_listen(const char *topic, size_t len, int on, void *arg)
{
    struct worker *w = arg;
    uint64_t bit = wire_topic_bit(topic, len);
    uint32_t *count = &w->topics[__builtin_ctzll(bit)];
    if (on && (*count)++ == 0)
        atomic_fetch_or(&w->cell->topics, bit);
    else if (!on && --*count == 0)
        atomic_fetch_and(&w->cell->topics, ~bit);
}

static const struct peer_callbacks control_callbacks = {on_control, on_room,
                                                        on_supervisor_gone};
static const struct peer_callbacks peer_bus_callbacks = {.on_message = on_bus};
static const struct lua_bus_callbacks bus_callbacks = {bus_send, bus_listen, bus_position,
                                                       bus_replay};

/* -- starting ------------------------------------------------------------------------ */

static int collect_garbage(lua_State *L)
{
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}

/*
 * Garbage does not count, so it is collected where there seems to be too much in use: at
 * once, which takes 4 ms with 30 MB of tables and 45 ms with 300 MB, so not each second.
 */
static int worker_has_too_much(struct worker *w)
{
    double now = w->loop->clock.now;
    if (!w->soft_limit || lua_memory_used(w->L) <= w->soft_limit || now < w->collects_at)
        return 0;
    w->collects_at = now + COLLECT_SECONDS;
    tasks_protect(w->core->tasks, collect_garbage, NULL);
    return lua_memory_used(w->L) > w->soft_limit;
}

/* Whoever takes its place would be as tired from the beginning. */
static void worker_set_soft_limit(struct worker *w)
{
    w->soft_limit = w->settings.memory_soft_limit;
    if (!worker_has_too_much(w))
        return;
    log_warn("memory_soft_limit is ignored: the script alone has %zu bytes in use, and "
             "it is %zu",
             lua_memory_used(w->L), w->soft_limit);
    w->soft_limit = 0;
}

static void on_report(void *arg)
{
    struct worker *w = arg;
    struct clock *clock = &w->loop->clock;
    atomic_store(&w->cell->lua_bytes, lua_memory_used(w->L));
    if (worker_has_too_much(w)) {
        log_info("%zu bytes of Lua's are in use (memory_soft_limit)",
                 lua_memory_used(w->L));
        worker_is_tired(w);
    }
    timer_start(clock, &w->report, clock->now + REPORT_SECONDS);
    worker_stop_if_done(w); /* one may have been unpinned */
}

static int open_core(lua_State *L)
{
    struct worker *w = lua_touserdata(L, 1);
    struct conn_limits limits = {.read = w->settings.read_limit,
                                 .write = w->settings.write_limit,
                                 .state = w->settings.state_limit,
                                 .idle = w->settings.idle_timeout};
    struct core_worker self = {w->settings.pool, w->settings.number,
                               w->settings.generation, (int)w->settings.dev};
    struct census census = {w->board.cells, (uint32_t)w->board.count, w->settings.cell};
    w->core = core_open(L, w->loop, &limits, &census, &self);
    w->core->conns.conns.journal = &w->journal;
    w->core->conns.places = &w->places;
    tasks_show(w->core->tasks, &w->cell->serving);
    tasks_on_failure(w->core->tasks, on_handler_error, w);
    return 0;
}

/* The script's value is at index 2. */
static int open_handler(lua_State *L)
{
    struct worker *w = lua_touserdata(L, 1);
    lua_settop(L, 2);
    w->handler = handler_new(L, &w->core->conns, &handler_callbacks, w);
    return 0;
}

/* Leaves a message on the stack if it fails. */
static int worker_load(struct worker *w)
{
    lua_pushcfunction(w->L, open_core);
    lua_pushlightuserdata(w->L, w);
    if (script_call(w->L, 1, 0) != LUA_OK)
        return -1;
    lua_bus_connect(w->core->bus, &bus_callbacks, w);
    lua_http_set_callbacks(w->core->http, &http_callbacks, w);
    lua_pushcfunction(w->L, open_handler);
    lua_pushlightuserdata(w->L, w);
    if (script_run(w->L, w->settings.app) != LUA_OK)
        return -1;
    return lua_pcall(w->L, 2, 0, 0) == LUA_OK ? 0 : -1;
}

static int worker_failed(struct worker *w)
{
    char why[EXPLANATION];
    const char *text = lua_type(w->L, -1) == LUA_TSTRING ? lua_tostring(w->L, -1)
                                                         : "an error without a text";
    if (strcmp(text, "not enough memory") == 0 &&
        lua_memory_explain(w->L, why, sizeof why))
        text = why;
    worker_tell(w, WIRE_FAILED, 0, text);
    return EXIT_FAILED;
}

/* Not all workers at the same time. */
static uint32_t with_jitter(uint32_t n)
{
    return n + arc4random_uniform(n / 10 + 1);
}

static int worker_serve(struct worker *w)
{
    w->left = with_jitter(w->settings.max_requests);
    if (watchdog_set(w->settings.handler_timeout) < 0)
        log_warn("there is no timer for handler_timeout: %s", strerror(errno));
    worker_set_soft_limit(w);
    on_report(w);
    lua_pace_start(&w->pace, w->core->tasks);
    worker_tell(w, WIRE_READY, (uint64_t)handler_can_resume(w->handler), NULL);
    loop_run(w->loop);
    lua_pace_stop(&w->pace);
    tasks_end(w->core->tasks); /* what they have to say finds Lua as it was */
    handler_free(w->handler);
    return w->cut ? EXIT_CUT : 0;
}

static void on_handoff(struct conn *c, uint32_t pool, uint32_t number, void *arg)
{
    struct worker *w = arg;
    outbox_hand(&w->outbox, c, &(struct outbox_place){pool, number});
}

static void worker_open_outbox(struct worker *w)
{
    outbox_open(&w->outbox, w->loop, w->control, &w->board, atomic_load(&w->cell->pool));
    w->places = (struct lua_conn_places){.pools = w->settings.pools,
                                         .pool = w->settings.pool,
                                         .workers = w->settings.workers,
                                         .hand = on_handoff,
                                         .arg = w};
}

static void worker_open_journal(struct worker *w)
{
    if (!w->settings.survive)
        return;
    if (journal_attach(&w->journal, WIRE_JOURNAL_FD) < 0)
        log_fatal(EXIT_FAILED, "cannot map the journal: %s", strerror(errno));
    w->journal.on_end = on_record_end;
    w->journal.arg = w;
    w->tell_ends = (struct loop_job){.run = tell_ends, .arg = w};
}

static void worker_open(struct worker *w)
{
    w->loop = loop_new(LOOP_OWN);
    if (!w->loop)
        log_fatal(EXIT_FAILED, "cannot make an event loop: %s", strerror(errno));
    if (scoreboard_attach(&w->board, WIRE_SCOREBOARD_FD) < 0)
        log_fatal(EXIT_FAILED, "cannot map the scoreboard: %s", strerror(errno));
    w->cell = &w->board.cells[w->settings.cell];
    w->loop->heartbeat = &w->cell->heartbeat;
    atomic_store(&w->cell->heartbeat, 1);
    atomic_store(&w->cell->serving, 0);
    memset(w->cell->stuck, 0, sizeof w->cell->stuck);
    watchdog_note_stuck(w->cell->stuck, sizeof w->cell->stuck);
    atomic_store(&w->cell->topics, 0);
    atomic_store(&w->cell->draining, 0);
    worker_open_journal(w);
    w->control = peer_open(w->loop, WIRE_CONTROL_FD, QUEUE_LIMIT, &control_callbacks, w);
    w->bus = peer_open(w->loop, WIRE_BUS_FD, QUEUE_LIMIT, &peer_bus_callbacks, w);
    worker_open_outbox(w);
    timer_init(&w->drain, on_drain_limit, w);
    timer_init(&w->report, on_report, w);
    ev_signal_init(&w->term, on_term, SIGTERM);
    w->term.data = w;
    ev_signal_start(w->loop->ev, &w->term);
    w->L = script_open(w->settings.lua, w->settings.app);
    lua_memory_limit(w->L, w->settings.memory_limit);
    lua_pace_set_step(w->L);
}

static void worker_close(struct worker *w)
{
    script_close(w->L);
    peer_drain(w->control); /* the supervisor is to hear all that was said */
    peer_drain(w->bus);
    outbox_close(&w->outbox);
    timer_stop(&w->loop->clock, &w->drain);
    timer_stop(&w->loop->clock, &w->report);
    ev_signal_stop(w->loop->ev, &w->term);
    peer_close(w->control);
    peer_close(w->bus);
    loop_free(w->loop);
    scoreboard_close(&w->board);
    journal_detach(&w->journal);
    free(w->ends);
    wire_settings_clear(&w->settings);
}

int worker_run(int argc, char **argv)
{
    struct worker w = {0};
    die_with_supervisor();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); /* a terminal sends it to all; the supervisor decides */
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN); /* who sends it to all means the supervisor: WIRE_REOPEN */
    for (int fd = WIRE_CONTROL_FD; fd <= WIRE_JOURNAL_FD; fd++)
        fd_set_cloexec(fd, 1);
    if (wire_settings_read(&w.settings, argc, argv) < 0)
        log_fatal(EXIT_FAILED, "this worker is of another version than its supervisor");
    log_name("%s/%u", w.settings.pool, w.settings.number);
    log_threshold((enum log_level)w.settings.log_level);
    title_set("moonpool: worker %s/%u", w.settings.pool, w.settings.number);
    worker_open(&w);
    int code = worker_load(&w) == 0 ? worker_serve(&w) : worker_failed(&w);
    worker_close(&w);
    return code;
}
