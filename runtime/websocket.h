/*
 * websocket: messages over a conn (RFC 6455), without Lua. Pings are answered, whoever
 * receives or not; one is sent to a client that is silent, and one that stays silent is let
 * go. Who closes need not wait for the client's answer.
 *
 * It always has a checkpoint, which is all that another process needs to go on: where the
 * reader stands, with what it has of a message that is not whole; a label, a state and a
 * mark, which are the owner's.
 */
#ifndef MOONPOOL_WEBSOCKET_H
#define MOONPOOL_WEBSOCKET_H

#include "conn.h"
#include "ws.h"
#include "ws_deflate.h"

struct websocket;

/* Those of a process. */
struct websockets {
    struct conns *conns;
    const struct websocket_callbacks *callbacks;
    /* private */
    struct websocket *first;
    struct conn_queue closing;
    struct ws_deflate *deflate; /* NULL until it is needed */
    struct buf packed, stash;   /* of one message at a time */
};

struct websocket_callbacks {
    void (*on_input)(void *arg); /* websocket_receive has something to say */
    void (*on_room)(void *arg);
    int (*may_move)(void *arg); /* while websocket_receive waits */
    /* It has been moved, and is not the owner's any more. */
    void (*on_moved)(void *arg, enum parcel_why why);
    void (*on_leave)(void *site_arg); /* one less has that site */
};

struct websocket_settings {
    double idle;      /* seconds without a byte until a ping is sent; twice: it is cut */
    uint32_t message; /* bytes that one may have, as it came and decompressed */
    int redeliver;    /* after a crash, what the owner was given is given again */
};

struct websocket_site {
    struct websocket_settings settings; /* this and arg are set before it is opened */
    void *arg;
    /* private */
    struct websockets *all;
    struct conn_queue idle;
};

void websockets_open(struct websockets *all);
void websockets_end(struct websockets *all);
void websockets_stop(struct websockets *all); /* closes each, as going away */

void websocket_site_open(struct websocket_site *site, struct websockets *all);
void websocket_site_close(struct websocket_site *site); /* all have left */

/* Takes over c, after the handshake. deflate: that was agreed on. */
struct websocket *websocket_open(struct websocket_site *site, struct conn *c, int deflate,
                                 void *arg);
/* Likewise, with the checkpoint that has come with c: NULL for bytes that are none, and c
 * is still the caller's. */
struct websocket *websocket_resume(struct websocket_site *site, struct conn *c,
                                   const char *data, size_t len, void *arg);
/* The label in such a checkpoint: 0, or -1 for bytes that are none. */
int websocket_label(const char *data, size_t len, const char **label, size_t *label_len);

/*
 * Sends a Close frame, unless that is over, and waits for the client's, at most some
 * seconds, by itself: the owner has no websocket any more.
 */
void websocket_close(struct websocket *w, int code, const char *reason);

struct websocket_message {
    enum ws_opcode opcode;
    const char *data; /* until any other call */
    size_t len;
};

/* 1 the next message; 0 none now: on_input tells; -1 none will come any more. */
int websocket_receive(struct websocket *w, struct websocket_message *m);
/* Before the first of these calls: what came before is done with. The checkpoint holds. */
void websocket_ask(struct websocket *w);
void websocket_forget(struct websocket *w); /* nobody waits for on_input */
/*
 * Why none will come: the code of the Close frame that was received, or sent if that was
 * first, with its reason; and 0 if the client has closed, else an errno: EPROTO what it
 * sent was wrong, ECONNRESET it has gone without a word, ECANCELED we have closed.
 */
int websocket_end(const struct websocket *w, int *code, const char **reason);

int websocket_has_room(const struct websocket *w);
void websocket_want_room(struct websocket *w);
/* Takes the message, whether there is room or not: 0, or -1 it is over. */
int websocket_send(struct websocket *w, enum ws_opcode opcode, const char *data,
                   size_t len);
/* A frame that is ready, for many: 1; 0 and nothing is sent, as there is no room; -1. */
int websocket_put(struct websocket *w, const char *frame, size_t len);

void websocket_set_label(struct websocket *w, const char *data, size_t len);
/* Where to append the state's bytes, and then say so. */
struct buf *websocket_begin_state(struct websocket *w);
void websocket_end_state(struct websocket *w);
/* That state, as it came or was said last. */
const char *websocket_state(const struct websocket *w, size_t *len);

/* The client takes no more: it is over, without a Close frame. */
void websocket_cut(struct websocket *w);

/* A number, which is kept at once where it can be; 0 at first. */
void websocket_set_mark(struct websocket *w, uint64_t mark);
uint64_t websocket_mark(const struct websocket *w);

struct conn *websocket_conn(const struct websocket *w); /* NULL: it is over */

#endif
