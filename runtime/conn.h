/*
 * conn: a stream with buffers on both sides, watched by a loop: a socket, or an end of a
 * pipe. Input is read when its owner asks; output is written with the loop's next jobs,
 * so what is written in one turn leaves in one system call.
 *
 * Callbacks come once per conn_want_*, never before the call that asked has returned, and
 * not after conn_close. A conn may be closed from any callback.
 *
 * The owner stops at conn_close; the conn then sends what is left, lingers until the
 * client has seen it, closes, and tells whoever asked with conn_on_end.
 */
#ifndef MOONPOOL_CONN_H
#define MOONPOOL_CONN_H

#include "address.h"
#include "buf.h"
#include "census.h"
#include "journal.h"
#include "loop.h"
#include "parcel.h"

#include <sys/types.h>

struct conn;

struct conn_limits {
    uint32_t read;  /* bytes of input held at most: the longest line */
    uint32_t write; /* bytes of output held before a writer has to wait */
    uint32_t state; /* bytes that a checkpoint may have */
    double idle;    /* seconds without a byte in either direction; 0: no limit */
};

/*
 * Conns that have the same patience, in the order in which a byte of them has moved, in
 * either direction. Each conn is in one queue: that of all who are open, with limits.idle,
 * until its owner has it join another.
 */
struct conn_queue {
    struct conns *all;
    double patience; /* seconds; INFINITY: no limit */
    void (*expired)(struct conn *c,
                    void *arg); /* no byte for so long; arg: the owner's */
    struct conn *first, **end;
    struct timer timer;
    struct conn_queue *next;
};

/* All conns of a loop: what they share, and their queues. */
struct conns {
    struct loop *loop;
    struct conn_limits limits;
    struct census census;    /* zeroed: nobody is counted */
    struct journal *journal; /* NULL: they end with the process */
    struct conn_queue open, flushing, lingering;
    struct conn_queue *queues;
    struct conn_work *spare;
    size_t spare_bytes;                         /* of all of them */
    void (*on_rest)(struct conn *c, void *arg); /* conns_watch_rest */
    void *rest_arg;
};

void conns_open(struct conns *all, struct loop *loop, const struct conn_limits *limits);
void conns_end(struct conns *all); /* closes each now, whatever is unsent */
struct conn *conns_first(const struct conns *all);
struct conn *conn_next(const struct conn *c);

struct conn_callbacks {
    void (*on_input)(struct conn *c, void *arg); /* conn_fill has something to say */
    void (*on_room)(struct conn *c, void *arg);  /* output has drained, or failed */
    /* Each may be NULL. It rests: may somebody else go on with it? */
    int (*may_move)(struct conn *c, void *arg);
    /* Somebody does. The conn is not the owner's any more, as after conn_close. */
    void (*on_moved)(struct conn *c, enum parcel_why why, void *arg);
};

/*
 * Takes over fd, a non-blocking stream. NULL and errno: EINVAL for what cannot be waited
 * for (a regular file); then fd is still the caller's.
 */
struct conn *conn_open(struct conns *all, int fd);
void conn_connecting(struct conn *c); /* not yet connected: on_room tells, connect(2) */
void conn_set_owner(struct conn *c, const struct conn_callbacks *callbacks, void *arg);

/* Who is told of the end of conns; it is borrowed until then. */
struct conn_end {
    void (*fn)(void *arg);
    void *arg;
};

void conn_on_end(struct conn *c, const struct conn_end *end);

/* -- time -- */

void conn_queue_open(struct conn_queue *q, struct conns *all, double patience,
                     void (*expired)(struct conn *c, void *arg));
void conn_queue_close(struct conn_queue *q); /* it is empty */
/* Its time begins anew; NULL: with limits.idle. */
void conn_join(struct conn *c, struct conn_queue *q);

/* -- input -- */

/* What was read, until conn_want_input; skip what is done with. */
struct buf *conn_input(struct conn *c);

/*
 * Reads once. Returns 1 more input; 0 none now, or not in this turn of the loop; -1 none
 * will come any more: conn_error is the errno, or 0 for the end of the stream. ENOBUFS:
 * limits.read bytes are held already (the conn goes on).
 */
int conn_fill(struct conn *c);
void conn_want_input(struct conn *c, int on);
int conn_error(const struct conn *c);
int conn_is_at_end(const struct conn *c);

/* -- output -- */

/* What fails here fails for good: conn_error is the errno (0: it was conn_shutdown). */

/* Returns how many of n bytes were taken, fewer when limits.write is reached; -1 failed.
 */
ssize_t conn_write(struct conn *c, const void *data, size_t n);
/* Takes all of it, whatever the limit; if the conn has failed it is lost. */
void conn_put(struct conn *c, const void *data, size_t n);
/* The same, for who writes it in place: where n bytes may be, and how many there are. */
char *conn_prepare(struct conn *c, size_t n);
void conn_prepared(struct conn *c, size_t n);
size_t conn_room(const struct conn *c); /* bytes until limits.write is held */
/* Bytes that the other end has not taken yet, here and in the kernel (SIOCOUTQ). */
size_t conn_untaken(const struct conn *c);
int conn_flush(struct conn *c); /* writes now: 1 all is out, 0 some waits, -1 failed */
void conn_want_room(struct conn *c, int on); /* on_room once limits.write / 2 is left */
void conn_want_drained(struct conn *c, int on); /* on_room once nothing is left */

/*
 * Sends up to *left bytes of file from *offset after all earlier output and moves both
 * on: by sendfile(2), or, where they are few, held with the rest of the output. Returns 1
 * done: all is on its way or the file has ended; 0 wait for conn_want_drained; -1 failed.
 */
int conn_sendfile(struct conn *c, int file, off_t *offset, size_t *left);

void conn_fail(struct conn *c, int error); /* as if it had failed by itself */
void conn_shutdown(struct conn *c); /* no more output: the client reads to its end */
int conn_is_shut(const struct conn *c);
void conn_linger(struct conn *c); /* conn_close shall, even if nothing is unread yet */
void conn_silent(struct conn *c); /* the client sends no more: conn_close need not ask */
void conn_close(struct conn *c);

/* -- addresses: 0, or -1 and errno -- */

int conn_peer(const struct conn *c, struct address *a);
int conn_sock(const struct conn *c, struct address *a);

/*
 * Counts c, from now to its very end, among the connections that whoever has the client's
 * address (address_holder) has with all workers of the pool: 1, or 0 and it is not
 * counted, where there are most of them already. Who has no address is not counted: 1.
 */
int conn_admit(struct conn *c, uint32_t most);

/* -- descriptors, over unix sockets (SCM_RIGHTS, unix(7)) -- */

/*
 * Sends a copy of fd along with data, after all earlier output: it arrives with the first
 * of these bytes. Returns the bytes sent, 0 wait for conn_want_drained, -1 failed.
 */
ssize_t conn_send_fd(struct conn *c, int fd, const void *data, size_t n);
int conn_take_fd(struct conn *c); /* the next one that came, owned by the caller; or -1 */
int conn_has_fds(const struct conn *c);    /* that have come, and nobody has taken */
int conn_passes_fds(const struct conn *c); /* whether it is a unix socket */

/*
 * -- moving: somebody else goes on with the connection, here or in another process --
 *
 * A conn rests while its owner waits for input, and all output is out.
 */

/* Calls fn for each conn that rests, and from now on comes to rest; NULL: no more. */
void conns_watch_rest(struct conns *all, void (*fn)(struct conn *c, void *arg),
                      void *arg);
/*
 * Whether it rests and may move: 1, and p is what goes along with a copy of its
 * descriptor, valid until anything is done with the conn.
 */
int conn_pack(struct conn *c, struct parcel *p);
/*
 * The same at its owner's wish, wherever it stands: what is unsent goes along too. It is
 * to leave, with what was written to conn_checkpoint or without a state. If the process is
 * killed before, it is as if it had not been.
 */
void conn_leave(struct conn *c, int has_state);
void conn_pack_all(const struct conn *c, struct parcel *p);
void conn_moved(struct conn *c, enum parcel_why why);      /* a copy is with somebody */
void conn_arrived(struct conn *c, const struct parcel *p); /* that somebody's conn */

/*
 * The checkpoint, bytes with which its script could go on: for whoever writes it to fill,
 * and to say that it holds, until it reads on or the checkpoint is forgotten.
 *
 * If the process is killed later the last one is still what others have (journal.h). What
 * was read since may have had an effect, so it is for the script to say what becomes of
 * it: the connection ends with the process, or it is read again, or others read on.
 */
enum conn_reread { CONN_ENDS, CONN_READS_AGAIN, CONN_READS_ON };

struct buf *conn_checkpoint(struct conn *c);
void conn_set_checkpoint(struct conn *c, enum conn_reread how);
void conn_read_on(struct conn *c);
void conn_use_read(struct conn *c); /* likewise, but the checkpoint goes on to hold */
void conn_forget_checkpoint(struct conn *c);
int conn_has_checkpoint(const struct conn *c);

void conn_survive(struct conn *c, struct journal_record *r); /* notes go there */
uint32_t conn_record(const struct conn *c); /* its number in the journal; 0: none */
void conn_busy(struct conn *c); /* what is done from now on is not to be done again */
void conn_name_work(struct conn *c, const char *name, size_t len); /* for the log */
void conn_pin(struct conn *c, int on); /* it is never to be moved */
void conns_cut(struct conns *all);     /* fails the clients that are not pinned */

/* -- the rest -- */

int conn_fd(const struct conn *c);        /* borrowed */
void *conn_end_arg(const struct conn *c); /* of conn_on_end; NULL without */
uint32_t conn_count(struct conn *c);      /* 1, 2, ...: for its owner's use */
/* Somebody else goes on with the same description: closing here must not end it. */
void conn_give(struct conn *c);

#endif
