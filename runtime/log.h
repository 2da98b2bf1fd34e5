/*
 * log: one line per event to standard error, each in a single write(2), so that the
 * lines of many processes do not mix:
 *
 *   2026-01-31T12:00:00.123Z hello/1[4711] error: app.lua:3: attempt to ...
 *
 * Further lines of a message (a traceback) are indented. A line that cannot be
 * written is lost: logging never fails and never sets errno.
 */
#ifndef MOONPOOL_LOG_H
#define MOONPOOL_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_name(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_threshold(enum log_level least); /* what is below it is not written */
int log_level_parse(const char *name,
                    enum log_level *level); /* 0, or -1: no such level */

void log_write(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

/* The start is wrong: "moonpool: sentence" to standard error, then exit with code. */
void log_fatal(int code, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

#endif
