#include "pool.h"

#include "alloc.h"
#include "census.h"
#include "fd.h"
#include "journal.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONTROL_QUEUE = 4096,
    BUS_QUEUE = 4 << 20, /* bytes that wait for one worker before it misses messages */
};

/* -- messages ------------------------------------------------------------------------ */

static int is_from(const struct pool_worker *w, const struct wire_header *h)
{
    return w->pid != 0 && h->number == (uint32_t)w->pid; /* not its predecessor */
}

/* Without its descriptors a message is nothing. What comes along takes the place of what
 * was held. */
static void on_moved(struct pool_worker *w, struct channel_message *m,
                     const struct wire_header *h, const char *text, size_t len)
{
    struct pool *p = w->pool;
    holds_release_any(&w->holds, h->number);
    if (m->fd_count < 1 || m->fd_count > 2) {
        log_error("%s: a connection that was moved has not come along", p->config->name);
        return;
    }
    struct transfer *t = transfer_new(m->fds, m->fd_count, text, len);
    if (h->type == WIRE_HANDOFF) {
        t->pool = (uint32_t)(h->total >> 32);
        t->worker = (uint32_t)h->total;
    }
    p->callbacks->on_transfer(p, t, p->arg);
}

static void on_ended(struct pool_worker *w, const struct wire_header *h, const char *text,
                     size_t len)
{
    struct wire_held held;
    for (uint32_t i = 0; i < h->number && len >= sizeof held; i++, len -= sizeof held) {
        memcpy(&held, text + i * sizeof held, sizeof held);
        holds_release(&w->holds, held.fd, held.number);
    }
}

static void on_control(struct peer *peer, struct channel_message *m, void *arg)
{
    struct pool_worker *w = arg;
    struct pool *p = w->pool;
    struct wire_header h;
    const char *text;
    size_t len;
    (void)peer;
    if (wire_parse(m->data, m->len, &h, &text, &len) < 0)
        return;
    if (h.type == WIRE_READY && is_from(w, &h) && w->state == WORKER_STARTING) {
        w->state = WORKER_READY;
        w->resumes = h.total == 1;
        p->callbacks->on_ready(w, p->arg);
    } else if (h.type == WIRE_FAILED && is_from(w, &h)) {
        p->callbacks->on_failed(w, text, len, p->arg);
    } else if (h.type == WIRE_TIRED && is_from(w, &h)) {
        p->callbacks->on_tired(w, p->arg);
    } else if (h.type == WIRE_SLOT) {
        p->callbacks->on_slot(p, p->arg);
    } else if (h.type == WIRE_MOVED || h.type == WIRE_HANDOFF) {
        on_moved(w, m, &h, text, len);
    } else if (h.type == WIRE_ENDED) {
        on_ended(w, &h, text, len);
    }
}

static void on_room(struct peer *peer, void *arg)
{
    struct pool_worker *w = arg;
    (void)peer;
    w->full = 0;
    w->pool->callbacks->on_slot(w->pool, w->pool->arg);
}

static void lose_message(struct pool_worker *w)
{
    uint64_t lost = atomic_fetch_add(&w->cell->lost_messages, 1) + 1;
    if ((lost & (lost - 1)) == 0) /* 1, 2, 4, 8 ...: enough to be seen */
        log_warn("%s/%u does not keep up: %llu messages lost", w->pool->config->name,
                 w->number, (unsigned long long)lost);
}

/*
 * The position first: a worker that begins to want a topic, and then looks for the
 * position, gets all that comes after it.
 */
void pool_publish(struct pool *p, uint64_t bit, const struct wire_header *h,
                  const char *text, size_t len)
{
    for (uint32_t i = 0; i < p->count; i++) {
        struct pool_worker *w = &p->workers[i];
        atomic_store(&w->cell->published, h->total);
        if (atomic_load(&w->cell->topics) & bit && peer_post(w->bus, h, text, len) == 0)
            lose_message(w);
    }
}

void pool_set_published(struct pool *p, uint64_t position)
{
    for (uint32_t i = 0; i < p->count; i++)
        atomic_store(&p->workers[i].cell->published, position);
}

int pool_replay(struct pool_worker *w, const struct wire_header *h, const char *text,
                size_t len)
{
    return peer_post(w->bus, h, text, len) > 0;
}

static void on_bus(struct peer *peer, struct channel_message *m, void *arg)
{
    struct pool_worker *w = arg;
    struct pool *p = w->pool;
    struct wire_header h;
    const char *text;
    size_t len;
    (void)peer;
    if (wire_parse(m->data, m->len, &h, &text, &len) < 0)
        return;
    if (h.type == WIRE_PUBLISH && h.number <= len)
        p->callbacks->on_publish(&h, text, len, p->arg);
    else if (h.type == WIRE_REPLAY)
        p->callbacks->on_replay(w, &h, text, len, p->arg);
}

static const struct peer_callbacks control_callbacks = {.on_message = on_control,
                                                        .on_room = on_room};
static const struct peer_callbacks bus_callbacks = {.on_message = on_bus};

/* -- opening and closing ------------------------------------------------------------- */

static int open_channel(struct loop *l, struct peer **near, int *far, size_t queue,
                        const struct peer_callbacks *callbacks, struct pool_worker *w)
{
    int ends[2];
    if (channel_pair(ends) < 0)
        return -1;
    *near = peer_open(l, ends[0], queue, callbacks, w);
    *far = ends[1];
    return 0;
}

static int worker_open(struct pool *p, struct pool_worker *w, uint32_t number,
                       uint32_t id)
{
    *w = (struct pool_worker){
        .pool = p, .number = number, .far_control = -1, .far_bus = -1, .journal = -1};
    int cell = scoreboard_take(p->board, id);
    if (cell < 0) {
        errno = EUSERS;
        return -1;
    }
    w->cell_index = (uint32_t)cell;
    w->cell = &p->board->cells[cell];
    if (p->config->survive && (w->journal = journal_create()) < 0)
        return -1;
    if (open_channel(p->loop, &w->control, &w->far_control, CONTROL_QUEUE,
                     &control_callbacks, w) < 0)
        return -1;
    return open_channel(p->loop, &w->bus, &w->far_bus, BUS_QUEUE, &bus_callbacks, w);
}

static void worker_close(struct pool_worker *w)
{
    peer_close(w->control);
    peer_close(w->bus);
    fd_close(&w->far_control);
    fd_close(&w->far_bus);
    for (int i = 0; i < w->batch.count; i++)
        fd_close(&w->batch.fds[i]);
    holds_clear(&w->holds);
    fd_close(&w->journal);
    if (w->cell)
        scoreboard_give(w->pool->board, w->cell_index);
}

static void peer_save_as(const char *name, const struct peer *p, struct baton *b)
{
    baton_begin(b, name);
    peer_save(p, b);
    baton_end(b);
}

static struct peer *peer_load_as(const char *name, struct pool_worker *w, size_t queue,
                                 const struct peer_callbacks *callbacks, struct baton *b)
{
    struct peer *p = NULL;
    for (; baton_enter(b, name); baton_leave(b))
        p = peer_load(w->pool->loop, b, queue, callbacks, w);
    return p;
}

/* Of a worker: whatever is open for it must be here. */
static void worker_save(const struct pool_worker *w, struct baton *b)
{
    baton_put_number(b, "number", w->number);
    baton_put_number(b, "cell", w->cell_index);
    baton_put_number(b, "state", w->state);
    baton_put_number(b, "pid", (uint64_t)w->pid);
    baton_put_number(b, "resumes", (uint64_t)w->resumes);
    baton_put_number(b, "sent", w->sent);
    peer_save_as("control", w->control, b);
    peer_save_as("bus", w->bus, b);
    baton_put_fd(b, "far_control", w->far_control);
    baton_put_fd(b, "far_bus", w->far_bus);
    baton_put_fd(b, "journal", w->journal);
    holds_save(&w->holds, b);
    for (int i = 0; i < w->batch.count; i++) {
        baton_begin(b, "client");
        baton_put_fd(b, "fd", w->batch.fds[i]);
        baton_end(b);
    }
}

static void worker_load(struct pool *p, struct pool_worker *w, struct baton *b)
{
    *w = (struct pool_worker){.pool = p,
                              .number = (uint32_t)baton_number(b, "number"),
                              .cell_index = (uint32_t)baton_number(b, "cell"),
                              .state = (enum worker_state)baton_number(b, "state"),
                              .pid = (pid_t)baton_number(b, "pid"),
                              .resumes = (int)baton_number(b, "resumes"),
                              .sent = baton_number(b, "sent")};
    w->cell = &p->board->cells[w->cell_index];
    w->control = peer_load_as("control", w, CONTROL_QUEUE, &control_callbacks, b);
    w->bus = peer_load_as("bus", w, BUS_QUEUE, &bus_callbacks, b);
    w->far_control = baton_fd(b, "far_control");
    w->far_bus = baton_fd(b, "far_bus");
    w->journal = baton_fd(b, "journal");
    holds_load(&w->holds, b);
    for (; baton_enter(b, "client"); baton_leave(b))
        pool_batch_add(w, baton_fd(b, "fd"));
}

void pool_save(const struct pool *p, struct baton *b)
{
    for (uint32_t i = 0; i < p->count; i++) {
        baton_begin(b, "worker");
        worker_save(&p->workers[i], b);
        baton_end(b);
    }
}

static void pool_init(struct pool *p, struct loop *l, const struct pool_config *config,
                      struct scoreboard *board, const struct pool_callbacks *callbacks,
                      void *arg)
{
    *p = (struct pool){
        .loop = l, .board = board, .config = config, .callbacks = callbacks, .arg = arg};
    p->workers = alloc_zero((config->workers + 1) * sizeof *p->workers);
}

void pool_load(struct pool *p, struct loop *l, const struct pool_config *config,
               struct scoreboard *board, const struct pool_callbacks *callbacks,
               void *arg, struct baton *b)
{
    pool_init(p, l, config, board, callbacks, arg);
    for (; baton_enter(b, "worker"); baton_leave(b))
        worker_load(p, &p->workers[p->count++], b);
}

int pool_open(struct pool *p, struct loop *l, const struct pool_config *config,
              struct scoreboard *board, uint32_t id,
              const struct pool_callbacks *callbacks, void *arg)
{
    pool_init(p, l, config, board, callbacks, arg);
    for (; p->count <= config->workers; p->count++)
        if (worker_open(p, &p->workers[p->count], p->count + 1, id) < 0) {
            int error = errno;
            p->count++;
            pool_close(p);
            errno = error;
            return -1;
        }
    return 0;
}

void pool_close(struct pool *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        worker_close(&p->workers[i]);
    free(p->workers);
    p->workers = NULL;
    p->count = 0;
}

/* -- slots --------------------------------------------------------------------------- */

uint32_t pool_used(const struct pool_worker *w)
{
    uint64_t received = atomic_load(&w->cell->received); /* before open: scoreboard.h */
    uint32_t open = atomic_load(&w->cell->open);
    return (uint32_t)(w->sent - received) + open + (uint32_t)w->batch.count;
}

int pool_is_open(const struct pool_worker *w)
{
    return w->state == WORKER_READY && !w->full && !atomic_load(&w->cell->draining);
}

void pool_ask_for_slots(struct pool *p)
{
    for (uint32_t i = 0; i < p->count; i++)
        scoreboard_ask(p->workers[i].cell);
}

/* -- connections --------------------------------------------------------------------- */

void pool_batch_add(struct pool_worker *w, int fd)
{
    w->batch.fds[w->batch.count++] = fd;
}

/* From now on the worker has it, and so has this, or not. */
static void worker_has(struct pool_worker *w, int fd)
{
    w->sent++;
    if (w->journal < 0)
        fd_close(&fd);
    else
        holds_add(&w->holds, fd, w->sent);
}

int pool_batch_send(struct pool_worker *w)
{
    struct batch *b = &w->batch;
    if (!b->count)
        return 1;
    struct wire_header h = {WIRE_CONNECTIONS, (uint32_t)b->count, w->sent};
    size_t held = w->journal < 0 ? 0 : (size_t)b->count * sizeof *b->fds;
    if (peer_send(w->control, &h, b->fds, held, b->fds, b->count) <= 0) {
        w->full = 1;
        return 0;
    }
    for (int i = 0; i < b->count; i++)
        worker_has(w, b->fds[i]);
    b->count = 0;
    return 1;
}

void pool_settle(struct pool_worker *w)
{
    holds_received(&w->holds, atomic_load(&w->cell->received));
}

int pool_send_transfer(struct pool_worker *w, struct transfer *t)
{
    uint32_t held = w->journal < 0 ? 0 : (uint32_t)t->fds[0];
    struct wire_header h = {WIRE_MOVED, held, w->sent};
    if (peer_send(w->control, &h, t->text, t->len, t->fds, t->fd_count) <= 0) {
        w->full = 1;
        return 0;
    }
    w->sent++;
    pool_settle(w);
    if (held)
        holds_add_transfer(&w->holds, t, w->sent);
    else
        transfer_free(t);
    return 1;
}

static void give_back_new(struct pool *p, int fd)
{
    struct transfer *t = transfer_new(&fd, 1, NULL, 0);
    t->is_new = 1;
    p->callbacks->on_transfer(p, t, p->arg);
}

static void take_back_new(struct pool_worker *w, struct channel_message *m,
                          const char *text, size_t len)
{
    for (int i = 0; i < m->fd_count; i++) {
        uint32_t held;
        if (len >= (size_t)(i + 1) * sizeof held) {
            memcpy(&held, text + (size_t)i * sizeof held, sizeof held);
            holds_release_any(&w->holds, held);
        }
        give_back_new(w->pool, fd_take(&m->fds[i]));
    }
}

static void take_back(struct pool_worker *w, struct channel_message *m)
{
    struct wire_header h;
    const char *text;
    size_t len;
    if (wire_parse(m->data, m->len, &h, &text, &len) < 0)
        return;
    if (h.type == WIRE_MOVED)
        on_moved(w, m, &h, text, len);
    else if (h.type == WIRE_CONNECTIONS)
        take_back_new(w, m, text, len);
}

/* Of each message that is queued, either the worker or this end gets all. */
void pool_take_back(struct pool_worker *w)
{
    struct channel_message *m = alloc(sizeof *m);
    int got;
    while ((got = channel_receive(w->far_control, m)) > 0 ||
           (got < 0 && errno == EBADMSG)) {
        if (got < 0)
            continue;
        take_back(w, m);
        channel_clear(m);
    }
    free(m);
    while (w->batch.count)
        give_back_new(w->pool, w->batch.fds[--w->batch.count]);
}

void pool_hold(struct pool *p, int on)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (on && p->workers[i].state != WORKER_DOWN)
            peer_pause(p->workers[i].control);
        else
            peer_resume(p->workers[i].control);
}

/* -- life ---------------------------------------------------------------------------- */

void pool_tell_stop(struct pool_worker *w)
{
    struct wire_header h = {.type = WIRE_STOP};
    w->state = WORKER_STOPPING;
    peer_post(w->control, &h, NULL, 0);
}

void pool_tell_retire(struct pool_worker *w, int why, int gives_states, double drain)
{
    struct wire_header h = {WIRE_RETIRE, (uint32_t)why, (uint64_t)(drain * 1000)};
    if (gives_states)
        h.number |= WIRE_STATES;
    w->state = WORKER_STOPPING;
    peer_post(w->control, &h, NULL, 0);
}

void pool_tell_give(struct pool_worker *w, uint32_t count)
{
    struct wire_header h = {WIRE_GIVE, count, w->sent};
    uint64_t beat = atomic_load(&w->cell->heartbeat);
    if (beat == w->gave_at)
        return;
    w->gave_at = beat;
    peer_post(w->control, &h, NULL, 0);
}

void pool_tell_reopen(struct pool_worker *w)
{
    struct wire_header h = {.type = WIRE_REOPEN, .total = w->sent};
    if (w->state != WORKER_DOWN)
        peer_post(w->control, &h, NULL, 0);
}

void pool_started(struct pool_worker *w, pid_t pid)
{
    w->pid = pid;
    w->state = WORKER_STARTING;
    atomic_store(&w->cell->pid, pid);
}

/*
 * The header of the first message that is still queued tells how many connections were
 * taken before it. The dead worker may not have come to writing that down itself.
 */
static uint64_t count_received(const struct pool_worker *w)
{
    struct wire_header h = {0};
    channel_peek(w->far_control, &h, sizeof h);
    int tells = h.type == WIRE_CONNECTIONS || h.type == WIRE_MOVED ||
                h.type == WIRE_GIVE || h.type == WIRE_REOPEN;
    return tells ? h.total : w->sent;
}

static void give_rescued(struct transfer *t, void *arg)
{
    struct pool *p = arg;
    p->callbacks->on_transfer(p, t, p->arg);
}

struct holds_outcome pool_died(struct pool_worker *w)
{
    struct holds_outcome outcome = {0};
    w->state = WORKER_DOWN;
    peer_resume(w->control); /* nothing holds back what it has left */
    peer_receive(w->bus);
    peer_receive(w->control);
    w->pid = 0;
    atomic_store(&w->cell->pid, 0);
    atomic_store(&w->cell->open, 0);
    atomic_store(&w->cell->pinned, 0);
    atomic_store(&w->cell->received, count_received(w));
    census_forget(w->cell);
    if (w->journal >= 0)
        outcome = holds_rescue(&w->holds, atomic_load(&w->cell->received), w->journal,
                               atomic_load(&w->cell->serving), give_rescued, w->pool);
    return outcome;
}
