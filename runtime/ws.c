#include "ws.h"

#include <string.h>

enum { FIN = 0x80, RSV1 = 0x40, RSV23 = 0x30, OPCODE = 0x0f, CONTROL = 0x08 };
enum { MASKED = 0x80, LENGTH = 0x7f, LENGTH_16 = 126, LENGTH_64 = 127 };

/* -- UTF-8 --------------------------------------------------------------------------- */

/* The first byte of a character that is not ASCII (RFC 3629 4). */
static struct ws_utf8 utf8_begin(uint8_t b)
{
    if (b >= 0xc2 && b <= 0xdf)
        return (struct ws_utf8){1, 0x80, 0xbf};
    if (b >= 0xe0 && b <= 0xef)
        return (struct ws_utf8){2, b == 0xe0 ? 0xa0 : 0x80, b == 0xed ? 0x9f : 0xbf};
    if (b >= 0xf0 && b <= 0xf4)
        return (struct ws_utf8){3, b == 0xf0 ? 0x90 : 0x80, b == 0xf4 ? 0x8f : 0xbf};
    return (struct ws_utf8){0};
}

static int utf8_step(struct ws_utf8 *u, uint8_t b)
{
    if (u->need) {
        if (b < u->low || b > u->high)
            return -1;
        *u = (struct ws_utf8){(uint8_t)(u->need - 1), 0x80, 0xbf};
    } else if (b >= 0x80) {
        *u = utf8_begin(b);
        return u->need ? 0 : -1;
    }
    return 0;
}

static uint64_t load_8(const char *data)
{
    uint64_t eight;
    memcpy(&eight, data, sizeof eight);
    return eight;
}

static int is_ascii_8(uint64_t eight)
{
    return !(eight & 0x8080808080808080u);
}

/* At least 8 bytes, the last of which may be looked at twice. No branches, so that it
 * becomes vector instructions. */
static int is_ascii(const char *data, size_t len)
{
    uint64_t all = load_8(data + len - 8);
    for (size_t i = 0; i < len / 8; i++)
        all |= load_8(data + 8 * i);
    return is_ascii_8(all);
}

/* Goes on over these bytes: 0, or -1 where they cannot be UTF-8 (RFC 3629 4). */
static int utf8_feed(struct ws_utf8 *u, const char *data, size_t len)
{
    if (!u->need && len >= 8 && is_ascii(data, len))
        return 0;
    for (size_t i = 0; i < len;) {
        if (!u->need && len - i >= 8 && is_ascii_8(load_8(data + i))) {
            i += 8;
            continue;
        }
        if (utf8_step(u, (uint8_t)data[i++]) < 0)
            return -1;
    }
    return 0;
}

int ws_utf8_is_valid(const char *data, size_t len)
{
    struct ws_utf8 u = {0};
    return utf8_feed(&u, data, len) == 0 && !u.need;
}

/* -- masks (RFC 6455 5.3) ------------------------------------------------------------ */

/* next: the mask's bytes for data[0] and those after it. */
static void unmask(uint8_t next[4], char *data, size_t len)
{
    char mask[8];
    memcpy(mask, next, 4);
    memcpy(mask + 4, next, 4);
    uint64_t mask_8 = load_8(mask);
    for (size_t i = 0; i < len / 8; i++) {
        uint64_t eight = load_8(data + 8 * i) ^ mask_8;
        memcpy(data + 8 * i, &eight, sizeof eight);
    }
    for (size_t i = len - len % 8; i < len; i++)
        data[i] = (char)(data[i] ^ mask[i % 4]);
    memcpy(next, mask + len % 4, 4);
}

/* -- frames -------------------------------------------------------------------------- */

/* A frame's head (RFC 6455 5.2), as much of it as there is. */
struct head {
    uint8_t first, opcode;
    uint64_t length;
    size_t len; /* of the head */
};

static size_t refuse(struct ws_event *e, int code, const char *why)
{
    e->kind = WS_REFUSED;
    e->code = code;
    e->why = why;
    return 0;
}

static int is_control(uint8_t first)
{
    return first & CONTROL;
}

/* What is wrong with the first byte, or NULL. */
static const char *first_fault(const struct ws_reader *r, int deflate, uint8_t first)
{
    int opcode = first & OPCODE;
    if (opcode > WS_PONG || (opcode > WS_BINARY && opcode < WS_CLOSE))
        return "an opcode that is reserved";
    if (first & RSV23)
        return "a reserved bit is set";
    if (first & RSV1 && (!deflate || (opcode != WS_TEXT && opcode != WS_BINARY)))
        return "the reserved bit 1 is set";
    if (is_control(first))
        return first & FIN ? NULL : "a control frame is fragmented";
    if (opcode == WS_CONTINUATION)
        return r->message ? NULL : "a continuation of no message";
    return r->message ? "a message within another" : NULL;
}

/* Likewise of the second. */
static const char *second_fault(uint8_t first, uint8_t second)
{
    if (!(second & MASKED))
        return "a frame that is not masked";
    if (is_control(first) && (second & LENGTH) > WS_CONTROL_MAX)
        return "a control frame is too long";
    return NULL;
}

static uint64_t big_endian(const char *data, size_t n)
{
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++)
        value = value << 8 | (uint8_t)data[i];
    return value;
}

/* How many bytes the length has behind the second byte. */
static size_t length_size(uint8_t second)
{
    uint8_t length = second & LENGTH;
    return length == LENGTH_16 ? 2 : length == LENGTH_64 ? 8 : 0;
}

/* It has "the minimal number of bytes", and its highest bit is 0. */
static const char *length_fault(uint64_t length, size_t size)
{
    if (length >> 63)
        return "a length of more than 63 bits";
    if ((size == 2 && length < LENGTH_16) || (size == 8 && length <= UINT16_MAX))
        return "a length that is longer than it need be";
    return NULL;
}

/* 1 it is there, but for its mask; 0 more is needed; -1 it is wrong: *why. */
static int read_head(const struct ws_reader *r, int deflate, const char *data, size_t len,
                     struct head *h, const char **why)
{
    *why = NULL;
    if (len >= 1)
        *why = first_fault(r, deflate, (uint8_t)data[0]);
    if (!*why && len >= 2)
        *why = second_fault((uint8_t)data[0], (uint8_t)data[1]);
    if (*why || len < 2)
        return *why ? -1 : 0;
    size_t size = length_size((uint8_t)data[1]);
    if (len < 2 + size)
        return 0;
    h->first = (uint8_t)data[0];
    h->opcode = h->first & OPCODE;
    h->length = size ? big_endian(data + 2, size) : (uint8_t)data[1] & LENGTH;
    h->len = 2 + size + sizeof r->mask;
    *why = length_fault(h->length, size);
    return *why ? -1 : 1;
}

/* -- Close ---------------------------------------------------------------------------- */

/* RFC 6455 7.4.2, and those that IANA has registered since. */
int ws_is_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

size_t ws_close_payload(char out[WS_CONTROL_MAX], int code, const char *reason)
{
    size_t len = strlen(reason);
    if (len > WS_REASON_MAX)
        len = WS_REASON_MAX;
    while (len && !ws_utf8_is_valid(reason, len)) /* not in the middle of a character */
        len--;
    out[0] = (char)(code >> 8);
    out[1] = (char)code;
    memcpy(out + 2, reason, len);
    return 2 + len;
}

/* RFC 6455 5.5.1 */
static void take_close(struct ws_event *e)
{
    e->code = WS_NO_CODE;
    if (!e->len)
        return;
    if (e->len == 1) {
        refuse(e, WS_PROTOCOL_ERROR, "half a close code");
        return;
    }
    e->code = (int)big_endian(e->data, 2);
    e->data += 2;
    e->len -= 2;
    if (!ws_is_code(e->code))
        refuse(e, WS_PROTOCOL_ERROR, "a close code that must not be sent");
    else if (!ws_utf8_is_valid(e->data, e->len))
        refuse(e, WS_BAD_DATA, "a close reason that is not UTF-8");
}

/* -- reading ------------------------------------------------------------------------- */

/* It is done with as a whole: there are not many bytes. */
static size_t take_control(const struct head *h, char *data, size_t len,
                           struct ws_event *e)
{
    uint8_t mask[4];
    size_t all = h->len + (size_t)h->length;
    if (len < all)
        return 0;
    memcpy(mask, data + h->len - sizeof mask, sizeof mask);
    *e =
        (struct ws_event){WS_CONTROL, h->opcode, data + h->len, (size_t)h->length, 0, ""};
    unmask(mask, e->data, e->len);
    if (h->opcode == WS_CLOSE)
        take_close(e);
    return all;
}

/* Some of a data frame's payload, whatever there is. */
static size_t take_payload(struct ws_reader *r, char *data, size_t len,
                           struct ws_event *e)
{
    size_t n = len < r->left ? len : r->left;
    int is_end = n == r->left && r->is_last;
    if (!n && r->left)
        return 0;
    unmask(r->mask, data, n);
    r->left -= (uint32_t)n;
    r->in_frame = r->left != 0;
    *e = (struct ws_event){is_end ? WS_END : WS_PIECE, r->message, data, n, 0, NULL};
    if (r->message == WS_TEXT && !r->is_packed &&
        (utf8_feed(&r->utf8, data, n) < 0 || (is_end && r->utf8.need)))
        refuse(e, WS_BAD_DATA, "text that is not UTF-8");
    if (is_end)
        r->message = 0;
    return n;
}

static void begin_frame(struct ws_reader *r, const struct head *h, const char *mask)
{
    if (h->opcode != WS_CONTINUATION) {
        r->message = h->opcode;
        r->is_packed = (h->first & RSV1) != 0;
        r->total = 0;
        r->utf8 = (struct ws_utf8){0};
    }
    memcpy(r->mask, mask, sizeof r->mask);
    r->left = (uint32_t)h->length; /* which size_fault has seen */
    r->total += r->left;
    r->in_frame = 1;
    r->is_last = (h->first & FIN) != 0;
}

static const char *size_fault(const struct ws_reader *r, const struct ws_limits *limits,
                              const struct head *h)
{
    uint32_t before = h->opcode == WS_CONTINUATION ? r->total : 0;
    if (h->length > limits->frame)
        return "a frame that is too long";
    if (before > limits->message || h->length > limits->message - before)
        return "a message that is too long";
    return NULL;
}

static size_t read_frame(struct ws_reader *r, const struct ws_limits *limits, char *data,
                         size_t len, struct ws_event *e)
{
    struct head h;
    const char *why;
    int some = read_head(r, limits->deflate, data, len, &h, &why);
    if (some < 0)
        return refuse(e, WS_PROTOCOL_ERROR, why);
    if (some == 0)
        return 0;
    if (is_control(h.first))
        return take_control(&h, data, len, e);
    why = size_fault(r, limits, &h);
    if (why)
        return refuse(e, WS_TOO_BIG, why);
    if (len < h.len)
        return 0;
    begin_frame(r, &h, data + h.len - sizeof r->mask);
    return h.len + take_payload(r, data + h.len, len - h.len, e);
}

size_t ws_read(struct ws_reader *r, const struct ws_limits *limits, char *data,
               size_t len, struct ws_event *e)
{
    *e = (struct ws_event){.kind = WS_MORE};
    return r->in_frame ? take_payload(r, data, len, e)
                       : read_frame(r, limits, data, len, e);
}

int ws_is_control(const struct ws_reader *r, const char *data, size_t len)
{
    return !r->in_frame && len && is_control((uint8_t)data[0]);
}

/* -- writing ------------------------------------------------------------------------- */

static void put_big_endian(char *out, uint64_t value, size_t n)
{
    for (size_t i = n; i-- > 0; value >>= 8)
        out[i] = (char)value;
}

size_t ws_head(char head[WS_HEAD_MAX], enum ws_opcode opcode, int is_packed, size_t len)
{
    size_t size = len < LENGTH_16 ? 0 : len <= UINT16_MAX ? 2 : 8;
    head[0] = (char)(FIN | (is_packed ? RSV1 : 0) | opcode);
    head[1] = (char)(size == 0 ? len : size == 2 ? (size_t)LENGTH_16 : (size_t)LENGTH_64);
    put_big_endian(head + 2, len, size);
    return 2 + size;
}
