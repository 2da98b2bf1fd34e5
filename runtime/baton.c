/*
 * The descriptors keep their numbers. They come without close-on-exec, and get it when
 * they are taken, so what has none in the end was not wanted.
 */
#include "baton.h"

#include "alloc.h"
#include "buf.h"
#include "fd.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEPTH = 16, NAME = 12 };

static const char magic[] = "moonpool baton 1"; /* another number: another form */
static const char variable[] = "MOONPOOL_BATON";

struct item { /* followed by its data */
    char name[NAME];
    uint32_t size;
};

struct level { /* offsets of an item's data, and where the next baton_enter looks */
    size_t start, end, next;
};

struct baton {
    struct buf bytes;
    struct level levels[DEPTH];
    int depth;
    int *fds;
    size_t fd_count, fd_size;
};

/* -- writing ------------------------------------------------------------------------- */

struct baton *baton_new(void)
{
    struct baton *b = alloc_zero(sizeof *b);
    buf_append(&b->bytes, magic, sizeof magic);
    return b;
}

void baton_put(struct baton *b, const char *name, const void *data, size_t len)
{
    struct item item = {.size = (uint32_t)len};
    assert(strlen(name) < NAME && len <= UINT32_MAX);
    memcpy(item.name, name, strlen(name));
    buf_append(&b->bytes, &item, sizeof item);
    buf_append(&b->bytes, data, len);
}

void baton_put_text(struct baton *b, const char *name, const char *text)
{
    if (text)
        baton_put(b, name, text, strlen(text));
}

void baton_put_number(struct baton *b, const char *name, uint64_t n)
{
    baton_put(b, name, &n, sizeof n);
}

void baton_put_seconds(struct baton *b, const char *name, double seconds)
{
    baton_put(b, name, &seconds, sizeof seconds);
}

void baton_put_fd(struct baton *b, const char *name, int fd)
{
    if (fd < 0)
        return;
    if (b->fd_count == b->fd_size) {
        b->fd_size = b->fd_size ? b->fd_size * 2 : 64;
        b->fds = alloc_array(b->fds, b->fd_size, sizeof *b->fds);
    }
    b->fds[b->fd_count++] = fd;
    baton_put_number(b, name, (uint64_t)fd);
}

void baton_begin(struct baton *b, const char *name)
{
    assert(b->depth + 1 < DEPTH);
    baton_put(b, name, NULL, 0);
    b->levels[++b->depth].start = buf_len(&b->bytes);
}

void baton_end(struct baton *b)
{
    size_t start = b->levels[b->depth--].start;
    uint32_t size = (uint32_t)(buf_len(&b->bytes) - start);
    memcpy(buf_head(&b->bytes) + start - sizeof size, &size, sizeof size);
}

int baton_store(const struct baton *b)
{
    return fd_store("moonpool baton", buf_head(&b->bytes), buf_len(&b->bytes));
}

/* -- passing ------------------------------------------------------------------------- */

static void baton_set_cloexec(const struct baton *b, int on)
{
    for (size_t i = 0; i < b->fd_count; i++)
        fd_set_cloexec(b->fds[i], on);
}

static void exec_with(const struct baton *b, int fd, const char *program,
                      char *const *argv)
{
    char number[16];
    snprintf(number, sizeof number, "%d", fd);
    setenv(variable, number, 1);
    fd_set_cloexec(fd, 0);
    baton_set_cloexec(b, 0);
    execv(program, argv);
    baton_set_cloexec(b, 1);
    unsetenv(variable);
}

int baton_exec(struct baton *b, const char *program, char *const *argv)
{
    baton_put(b, "fds", b->fds, b->fd_count * sizeof *b->fds);
    int fd = baton_store(b);
    if (fd < 0)
        return -1;
    exec_with(b, fd, program, argv);
    fd_close(&fd);
    return -1;
}

/* -- reading ------------------------------------------------------------------------- */

static int is_baton(const struct buf *bytes)
{
    return buf_len(bytes) >= sizeof magic &&
           memcmp(buf_head(bytes), magic, sizeof magic) == 0;
}

struct baton *baton_open(int fd)
{
    struct baton *b = alloc_zero(sizeof *b);
    if (buf_load(&b->bytes, fd) < 0 || !is_baton(&b->bytes)) {
        baton_free(b);
        return NULL;
    }
    b->levels[0] = (struct level){sizeof magic, buf_len(&b->bytes), sizeof magic};
    return b;
}

struct baton *baton_inherit(void)
{
    const char *number = getenv(variable);
    int fd = number ? atoi(number) : -1;
    struct baton *b = fd > STDERR_FILENO ? baton_open(fd) : NULL;
    unsetenv(variable);
    if (b)
        fd_close(&fd);
    return b;
}

/* The offset of the data of the first such item from at on, within the level; 0: none. */
static size_t find(const struct baton *b, const char *name, size_t at, struct item *item)
{
    size_t end = b->levels[b->depth].end;
    for (; end - at >= sizeof *item; at += item->size) {
        memcpy(item, buf_head(&b->bytes) + at, sizeof *item);
        at += sizeof *item;
        if (item->size > end - at)
            return 0;
        if (strncmp(item->name, name, NAME) == 0)
            return at;
    }
    return 0;
}

const char *baton_get(const struct baton *b, const char *name, size_t *len)
{
    struct item item;
    size_t at = find(b, name, b->levels[b->depth].start, &item);
    *len = at ? item.size : 0;
    return at ? buf_head(&b->bytes) + at : NULL;
}

char *baton_text(const struct baton *b, const char *name)
{
    size_t len;
    const char *text = baton_get(b, name, &len);
    return text ? alloc_format("%.*s", (int)len, text) : NULL;
}

/* Leaves value as it is where there is none of that size. */
static void get_value(const struct baton *b, const char *name, void *value, size_t size)
{
    size_t len;
    const char *data = baton_get(b, name, &len);
    if (len == size)
        memcpy(value, data, size);
}

uint64_t baton_number(const struct baton *b, const char *name)
{
    uint64_t n = 0;
    get_value(b, name, &n, sizeof n);
    return n;
}

double baton_seconds(const struct baton *b, const char *name)
{
    double seconds = 0;
    get_value(b, name, &seconds, sizeof seconds);
    return seconds;
}

static int is_taken(int fd)
{
    return fcntl(fd, F_GETFD) != 0; /* it has close-on-exec, or is not open */
}

int baton_fd(const struct baton *b, const char *name)
{
    uint64_t n = UINT64_MAX;
    get_value(b, name, &n, sizeof n);
    int fd = (int)n;
    return is_taken(fd) || fd_set_cloexec(fd, 1) < 0 ? -1 : fd;
}

int baton_enter(struct baton *b, const char *name)
{
    struct level *l = &b->levels[b->depth];
    struct item item;
    size_t at = b->depth + 1 < DEPTH ? find(b, name, l->next, &item) : 0;
    l->next = at ? at + item.size : l->start;
    if (at)
        b->levels[++b->depth] = (struct level){at, at + item.size, at};
    return at != 0;
}

void baton_leave(struct baton *b)
{
    b->depth--;
}

/* -- the end ------------------------------------------------------------------------- */

static void close_untaken(const struct baton *b)
{
    size_t len;
    const char *fds = baton_get(b, "fds", &len);
    for (int fd; len >= sizeof fd; len -= sizeof fd, fds += sizeof fd) {
        memcpy(&fd, fds, sizeof fd);
        if (!is_taken(fd))
            close(fd);
    }
}

void baton_free(struct baton *b)
{
    if (!b)
        return;
    b->depth = 0;
    if (b->levels[0].end) /* it was read */
        close_untaken(b);
    free(b->fds);
    buf_release(&b->bytes);
    free(b);
}
