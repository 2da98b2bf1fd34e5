/*
 * peer: the process at the other end of a channel, watched by a loop.
 *
 * on_message is called once per message; the message and its descriptors are the
 * callee's only for that call, so a callee that keeps a descriptor takes it with
 * fd_take(). on_room is called once after peer_send said that the channel is full.
 * on_gone is called once and is the last callback. Any of them may close the peer; none
 * is called before peer_open has returned.
 */
#ifndef MOONPOOL_PEER_H
#define MOONPOOL_PEER_H

#include "baton.h"
#include "channel.h"
#include "loop.h"
#include "wire.h"

struct peer;

struct peer_callbacks {
    void (*on_message)(struct peer *p, struct channel_message *m, void *arg);
    void (*on_room)(struct peer *p, void *arg); /* or NULL */
    void (*on_gone)(struct peer *p, void *arg); /* or NULL */
};

/* Takes over end. queue_limit: bytes that peer_post may keep waiting. */
struct peer *peer_open(struct loop *l, int end, size_t queue_limit,
                       const struct peer_callbacks *callbacks, void *arg);
void peer_drain(struct peer *p); /* sends what waits, however long that takes */
void peer_close(struct peer *p);

/* The end and what waits for room, into the item that is open; peer_load is peer_open. */
void peer_save(const struct peer *p, struct baton *b);
struct peer *peer_load(struct loop *l, struct baton *b, size_t queue_limit,
                       const struct peer_callbacks *callbacks, void *arg);

/*
 * As channel_send: 1 sent, 0 full (on_room will tell), -1 gone. Neither waits in line nor
 * overtakes what does.
 */
int peer_send(struct peer *p, const struct wire_header *h, const void *text, size_t len,
              const int *fds, int fd_count);

/*
 * Sends, or keeps a copy until there is room, in order. Returns 1; 0 if more than
 * queue_limit bytes wait already, then it is not sent; -1 gone.
 */
int peer_post(struct peer *p, const struct wire_header *h, const void *text, size_t len);

size_t peer_queued(const struct peer *p); /* channel_queued */

void peer_receive(struct peer *p); /* handles at once what has arrived */
void peer_pause(struct peer *p);   /* leaves what comes to whoever has the end next, */
void peer_resume(struct peer *p);  /* or to this one, later */

#endif
