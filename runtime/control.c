#include "control.h"

#include "alloc.h"
#include "conn.h"
#include "endpoint.h"
#include "fd.h"
#include "listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { COMMAND_MAX = 1000, OUTPUT_MAX = 1 << 20, CLIENTS_MAX = 64 };

struct client {
    struct control *control;
    struct conn *conn;
    int listens; /* it has given a command */
    struct client *next;
};

struct control {
    struct endpoint endpoint;
    struct listener *listener;
    struct conns conns;
    struct client *clients;
    int count;
    void (*on_command)(const char *command, void *arg);
    void *arg;
};

/* -- clients ------------------------------------------------------------------------- */

static void client_close(struct client *client)
{
    struct control *c = client->control;
    struct client **at = &c->clients;
    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    c->count--;
    conn_close(client->conn);
    loop_free_later(c->conns.loop, client);
}

/* What a client says after its command is thrown away. */
static void client_take_line(struct client *client, char *end)
{
    struct buf *in = conn_input(client->conn);
    char command[COMMAND_MAX + 1];
    size_t len = (size_t)(end - buf_head(in));
    memcpy(command, buf_head(in), len);
    command[len] = 0;
    buf_skip(in, buf_len(in));
    if (client->listens)
        return;
    client->listens = 1;
    client->control->on_command(command, client->control->arg);
}

static void on_input(struct conn *conn, void *arg)
{
    struct client *client = arg;
    struct buf *in = conn_input(conn);
    int filled = conn_fill(conn);
    if (filled < 0) {
        client_close(client);
        return;
    }
    conn_want_input(conn, 1);
    char *end = buf_len(in) ? memchr(buf_head(in), '\n', buf_len(in)) : NULL;
    if (end)
        client_take_line(client, end);
}

static void on_room(struct conn *conn, void *arg)
{
    (void)conn, (void)arg;
}

static const struct conn_callbacks conn_callbacks = {on_input, on_room, NULL, NULL};

static void client_open(struct control *c, int fd, int listens)
{
    struct conn *conn = c->count < CLIENTS_MAX ? conn_open(&c->conns, fd) : NULL;
    if (!conn) {
        fd_close(&fd);
        return;
    }
    struct client *client = alloc(sizeof *client);
    *client = (struct client){
        .control = c, .conn = conn, .listens = listens, .next = c->clients};
    c->clients = client;
    c->count++;
    conn_set_owner(conn, &conn_callbacks, client);
    conn_want_input(conn, 1);
}

static void on_ready(struct listener *l, void *arg)
{
    int fd;
    while ((fd = listener_accept(l)) >= 0)
        client_open(arg, fd, 0);
}

/* -- saying -------------------------------------------------------------------------- */

static void client_say(struct client *client, char mark, const char *text)
{
    for (size_t n; *text; text += n + (text[n] == '\n')) {
        n = strcspn(text, "\n");
        if (conn_room(client->conn) < n + 2)
            return; /* it does not read */
        conn_put(client->conn, &mark, 1);
        conn_put(client->conn, text, n);
        conn_put(client->conn, "\n", 1);
    }
}

void control_say(struct control *c, enum control_mark mark, const char *text)
{
    struct client *next;
    for (struct client *client = c ? c->clients : NULL; client; client = next) {
        next = client->next;
        if (!client->listens)
            continue;
        client_say(client, (char)mark, text);
        if (mark == CONTROL_DONE || mark == CONTROL_FAILED)
            client_close(client);
    }
}

/* -- opening and closing ------------------------------------------------------------- */

static void control_listen(struct control *c, struct loop *l,
                           void (*on_command)(const char *command, void *arg), void *arg)
{
    static const struct listener_callbacks callbacks = {on_ready};
    static const struct conn_limits limits = {.read = COMMAND_MAX, .write = OUTPUT_MAX};
    conns_open(&c->conns, l, &limits);
    c->on_command = on_command;
    c->arg = arg;
    c->listener = listener_open(l, c->endpoint.fd, &callbacks, c);
}

struct control *control_open(struct loop *l, const char *path,
                             void (*on_command)(const char *command, void *arg),
                             void *arg, char *why, size_t size)
{
    struct endpoint_options options = {
        .backlog = CLIENTS_MAX, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1};
    struct control *c = alloc_zero(sizeof *c);
    char *address = alloc_format("unix:%s", path);
    int opened = endpoint_open(address, &options, &c->endpoint, 1, why, size);
    free(address);
    if (opened < 0) {
        free(c);
        return NULL;
    }
    control_listen(c, l, on_command, arg);
    return c;
}

/* What a client does not read, or has said only in part, is lost. */
void control_save(struct control *c, struct baton *b)
{
    endpoint_save(&c->endpoint, b);
    for (struct client *client = c->clients; client; client = client->next) {
        conn_flush(client->conn);
        baton_begin(b, "client");
        baton_put_fd(b, "fd", conn_fd(client->conn));
        baton_put_number(b, "listens", (uint64_t)client->listens);
        baton_end(b);
    }
}

struct control *control_load(struct loop *l, void (*on_command)(const char *, void *arg),
                             void *arg, struct baton *b)
{
    struct control *c = alloc_zero(sizeof *c);
    endpoint_load(&c->endpoint, b);
    control_listen(c, l, on_command, arg);
    for (; baton_enter(b, "client"); baton_leave(b))
        client_open(c, baton_fd(b, "fd"), (int)baton_number(b, "listens"));
    return c;
}

void control_close(struct control *c)
{
    if (!c)
        return;
    listener_close(c->listener);
    endpoint_close(&c->endpoint);
    while (c->clients) {
        conn_flush(c->clients->conn);
        client_close(c->clients);
    }
    conns_end(&c->conns);
    loop_free_later(c->conns.loop, c);
}

/* -- the other side ------------------------------------------------------------------ */

static int control_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fd_close(&fd);
    return fd;
}

/* -1 until the last line. */
static int print_line(const char *line)
{
    int is_wrong = *line == CONTROL_PROBLEM || *line == CONTROL_FAILED;
    fputs(line + 1, is_wrong ? stderr : stdout);
    fflush(stdout);
    if (*line == CONTROL_DONE)
        return 0;
    return *line == CONTROL_FAILED ? 1 : -1;
}

static int print_lines(FILE *f)
{
    char *line = NULL;
    size_t size = 0;
    int how = -1;
    while (how < 0 && getline(&line, &size, f) > 0)
        how = print_line(line);
    free(line);
    if (how < 0)
        fputs("the server has gone away\n", stderr);
    return how < 0 ? 1 : how;
}

int control_ask(const char *path, const char *command)
{
    int fd = control_connect(path);
    if (fd < 0)
        return -1;
    FILE *f = fdopen(fd, "r");
    dprintf(fd, "%s\n", command);
    int how = print_lines(f);
    fclose(f);
    return how;
}
