/*
 * title: what ps(1) shows for this process.
 */
#ifndef MOONPOOL_TITLE_H
#define MOONPOOL_TITLE_H

/* Once, first thing in main: moves the environment away from where titles go. */
void title_init(int argc, char **argv);

void title_set(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
