/*
 * ws: reads and writes the frames of the WebSocket protocol (RFC 6455 5) as a server, with
 * no Lua, no descriptor and no allocation. The bytes stay the caller's.
 *
 * Debian's libwslay does the same, but its context keeps where it stands in a frame, in a
 * message and in UTF-8 to itself: a connection could not go on in another process but
 * between two messages. Here that is a struct ws_reader, which can be copied as it is.
 */
#ifndef MOONPOOL_WS_H
#define MOONPOOL_WS_H

#include <stddef.h>
#include <stdint.h>

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};

enum ws_code { /* RFC 6455 7.4.1 */
               WS_NORMAL = 1000,
               WS_GOING_AWAY = 1001,
               WS_PROTOCOL_ERROR = 1002,
               WS_NO_CODE = 1005,  /* never sent: a Close frame without one */
               WS_ABNORMAL = 1006, /* never sent: the end came without a Close frame */
               WS_BAD_DATA = 1007,
               WS_TOO_BIG = 1009,
               WS_FAILED = 1011,
};

enum { WS_HEAD_MAX = 10, WS_CONTROL_MAX = 125, WS_REASON_MAX = WS_CONTROL_MAX - 2 };

struct ws_limits {
    uint32_t frame, message; /* bytes of payload, as it comes */
    int deflate;             /* RSV1 may be set: permessage-deflate (RFC 7692) */
};

/* Where UTF-8 stands: zeroed, between two characters. */
struct ws_utf8 {
    uint8_t need;      /* bytes of this one still to come */
    uint8_t low, high; /* of which the next is within these; 0, 0: any continuation */
};

/* Zeroed, it is before the first frame. */
struct ws_reader {
    uint32_t left;     /* of the payload of the frame that has begun */
    uint32_t total;    /* of the message that has begun */
    uint8_t mask[4];   /* of the next byte and those after it */
    uint8_t in_frame;  /* one of data has begun, and its head is done with */
    uint8_t is_last;   /* that one is the message's last */
    uint8_t message;   /* the opcode of the one that has begun, or 0 */
    uint8_t is_packed; /* it is compressed, so its text cannot be checked here */
    struct ws_utf8 utf8;
};

enum ws_kind {
    WS_MORE,    /* no more can be said before more bytes are there */
    WS_PIECE,   /* some of a message: data, len */
    WS_END,     /* the last of a message, likewise */
    WS_CONTROL, /* a control frame; opcode, and for Close its code and reason */
    WS_REFUSED, /* code and why, a sentence: the connection is to be failed (7.1.7) */
};

struct ws_event {
    enum ws_kind kind;
    int opcode; /* of the message, or of the control frame */
    char *data; /* where it came, unmasked */
    size_t len;
    int code;
    const char *why;
};

/*
 * Looks at what has come since the last call and returns how many of these bytes it is
 * done with; the next call begins behind them. Payloads are unmasked in place. Text is
 * checked as it comes, whatever its cuts.
 */
size_t ws_read(struct ws_reader *r, const struct ws_limits *limits, char *data,
               size_t len, struct ws_event *e);
/* Whether the next frame is one of control, as far as its first byte can tell. */
int ws_is_control(const struct ws_reader *r, const char *data, size_t len);

/* The head of a whole message in one frame, or of a control frame: its bytes. */
size_t ws_head(char head[WS_HEAD_MAX], enum ws_opcode opcode, int is_packed, size_t len);
/* The payload of a Close frame; a reason of more than WS_REASON_MAX bytes is cut. */
size_t ws_close_payload(char out[WS_CONTROL_MAX], int code, const char *reason);
int ws_is_code(int code); /* whether it may be sent (RFC 6455 7.4) */

int ws_utf8_is_valid(const char *data, size_t len); /* all of it, to its end */

#endif
