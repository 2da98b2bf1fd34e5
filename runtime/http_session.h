/*
 * http_session: HTTP/1.1 over a conn, one request after the other (RFC 9112), without
 * Lua.
 *
 * A site has conns, each of which is idle or has a session: from the first byte of a
 * request to the last of its answer, or longer if the next is there by then.
 *
 * on_request is called when a head is whole. From then until http_session_done the
 * request is its owner's: what it says, its body piece by piece, and the answer to it.
 * on_answered is called once the answer is complete, or has failed, also for what was
 * refused without on_request; it must not end anything. on_leave is called once for each
 * conn, after all that its sessions had to tell; one with a request ends only after done
 * or upgrade.
 */
#ifndef MOONPOOL_HTTP_SESSION_H
#define MOONPOOL_HTTP_SESSION_H

#include "conn.h"
#include "http.h"
#include "http_fields.h"

#include <time.h>

struct http_session;

struct http_session_callbacks { /* arg is the site's */
    void (*on_request)(struct http_session *s, void *arg);
    void (*on_ready)(struct http_session *s, void *arg); /* once, after want_* */
    void (*on_answered)(struct http_session *s, void *arg);
    void (*on_leave)(void *arg);
};

struct http_settings {
    double keep_alive; /* seconds between two requests */
    double head_time;  /* seconds from the first byte of a head to its last */
    double idle_time;  /* seconds that content or an answer may stand still */
    double min_rate;   /* bytes of content a second, once idle_time has passed; 0: none */
    uint64_t body;     /* bytes of a request's content at most */
    uint32_t requests; /* on one connection; 0: no limit */
    uint32_t per_address; /* connections, in the whole pool (conn_admit); 0: no limit */
    struct http_limits head;
};

struct http_outcome { /* of a request, in on_answered */
    int status;       /* 0: none was sent */
    uint64_t bytes;   /* of the answer's content */
    double seconds;   /* since its first byte came */
};

/* What sites share. Zeroed but for the first two. */
struct http_service {
    struct loop *loop;
    const struct http_session_callbacks *callbacks;
    int stopping;
    struct http_site *sites;
    struct http_session *first;
    struct http_session *spare;
    int spare_count;
    time_t date_at;
    char date[40];
    int line_status; /* of the last status line, which ends with the date */
    size_t line_len;
    char line[128];
};

/* Who waits for a request is let go, the others after the one they are in. */
void http_service_stop(struct http_service *v);
void http_service_end(struct http_service *v); /* all conns, whatever they are at */

struct http_site {
    struct http_settings settings; /* this and arg are set before it is opened */
    void *arg;
    /* private */
    struct http_service *service;
    struct conn_queue idle;
    struct http_site *next;
};

void http_site_open(struct http_site *site, struct http_service *v, struct conns *conns);
void http_site_close(struct http_site *site);                /* all conns have left */
void http_site_take(struct http_site *site, struct conn *c); /* takes over c */
/* Likewise, but only to refuse what it has asked for elsewhere. */
void http_site_refuse(struct http_site *site, struct conn *c, int status,
                      const char *reason);

/* -- the request -- */

const struct http_request *http_session_request(const struct http_session *s);
const char *http_session_text(const struct http_session *s); /* what its spans are of */
struct conn *http_session_conn(const struct http_session *s);
/* What the owner has of the request; NULL at first. */
void http_session_set_exchange(struct http_session *s, void *exchange);
void *http_session_exchange(const struct http_session *s);

/*
 * The content, decoded: 1 *data and *len are the next piece, valid until any other call,
 * to be skipped when it is done with; 2 that was all; 0 wait (want_input); -1 failed:
 * http_session_error is EMSGSIZE for too much, EBADMSG for a wrong chunk, ETIMEDOUT, 0
 * when the client has ended early, or the conn's. A client that waits to be asked is
 * asked for it (RFC 9110 10.1.1).
 */
int http_session_body(struct http_session *s, const char **data, size_t *len);
void http_session_limit_body(struct http_session *s, uint64_t bytes); /* this one's */
void http_session_body_skip(struct http_session *s, size_t n);
/* Whether the content is known to end with the next n bytes. */
int http_session_body_ends(const struct http_session *s, size_t n);
int http_session_error(const struct http_session *s);
int http_session_body_failed(const struct http_session *s);
/* The trailer section, once the content is over (http_fields.h). */
const struct buf *http_session_trailers(const struct http_session *s);

void http_session_want_input(struct http_session *s, int on);
void http_session_want_room(struct http_session *s, int on);
void http_session_want_drained(struct http_session *s, int on);

/* -- the answer -- */

struct http_answer {
    int status;
    const struct http_fields *fields; /* none of length or connection */
    int64_t length;                   /* of the content; -1: it is not known beforehand */
    int close;
};

void http_session_begin(struct http_session *s, const struct http_answer *a);
int http_session_has_begun(const struct http_session *s);
/* Returns how many of n bytes were taken, 0 wait (want_room), -1 failed: as conn_write.
 */
ssize_t http_session_write(struct http_session *s, const void *data, size_t n);

/* As conn_sendfile, of an answer whose length is known; 0 wait (want_drained). */
int http_session_sendfile(struct http_session *s, int file, off_t *offset, size_t *left);
uint64_t http_session_unsent(const struct http_session *s); /* of a length, by now */
/* To be sent behind the content, if that goes in chunks and the client wants them. */
void http_session_put_trailers(struct http_session *s, const struct buf *fields);

/*
 * The request is over. One without an answer gets an empty 200, or, if it has failed, an
 * error's: 413, 400 or 408 if its content was at fault, else failed, which is the status.
 * May end the session. Content that nobody has read is skipped if it is short, else the
 * session ends.
 */
void http_session_done(struct http_session *s, int failed);
/* An answer that says what is wrong with the request, in place of begin and done. */
void http_session_refuse(struct http_session *s, int status, const char *reason);

/*
 * Goes over to another protocol: 101 (RFC 9110 15.2.2) with Upgrade: protocol and fields,
 * or for CONNECT, with NULL, 200 (9.3.6). The session ends, without on_answered, and the
 * conn, with what the client has sent since, is the caller's. Not while there is content
 * that has not been read.
 */
int http_session_may_upgrade(const struct http_session *s);
struct conn *http_session_upgrade(struct http_session *s, const char *protocol,
                                  const struct http_fields *fields);

struct http_outcome http_session_outcome(const struct http_session *s);

#endif
