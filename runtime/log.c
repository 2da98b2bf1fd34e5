/*
 * The name and the threshold are the process's own, set once at its start; they are
 * the only variables here.
 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 16384 };

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static char process_name[64] = "moonpool";
static enum log_level threshold = LOG_INFO;

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

void log_name(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(process_name, sizeof process_name, format, args);
    va_end(args);
}

void log_threshold(enum log_level least)
{
    threshold = least;
}

int log_level_parse(const char *name, enum log_level *level)
{
    for (enum log_level l = LOG_DEBUG; l <= LOG_ERROR; l++)
        if (strcmp(name, level_names[l]) == 0) {
            *level = l;
            return 0;
        }
    return -1;
}

static void line_put(struct line *l, char c)
{
    if (l->len < sizeof l->text - 1) /* the last byte is the newline's */
        l->text[l->len++] = c;
}

/* Control bytes could forge lines or drive a terminal: they are shown as "?". */
static void line_message(struct line *l, const char *message)
{
    for (const char *c = message; *c; c++) {
        if (*c == '\n' && !c[1])
            break;
        int plain = (unsigned char)*c >= ' ' || *c == '\t' || *c == '\n';
        line_put(l, plain && *c != 0x7f ? *c : '?');
        if (*c == '\n')
            for (int i = 0; i < 4; i++)
                line_put(l, ' ');
    }
}

static void line_prefix(struct line *l, enum log_level level)
{
    struct timespec now;
    struct tm utc;
    char stamp[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    l->len = (size_t)snprintf(l->text, sizeof l->text, "%s.%03ldZ %s[%d] %s: ", stamp,
                              now.tv_nsec / 1000000, process_name, (int)getpid(),
                              level_names[level]);
}

static void line_write(struct line *l)
{
    l->text[l->len++] = '\n';
    ssize_t n;
    do
        n = write(STDERR_FILENO, l->text, l->len);
    while (n < 0 && errno == EINTR);
}

void log_write(enum log_level level, const char *format, ...)
{
    if (level < threshold)
        return;
    int saved = errno;
    char message[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct line l;
    line_prefix(&l, level);
    line_message(&l, message);
    line_write(&l);
    errno = saved;
}

void log_fatal(int code, const char *format, ...)
{
    va_list args;
    fputs("moonpool: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(code);
}
