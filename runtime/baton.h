/*
 * baton: what a program passes to the one that takes its place by execve(2), in the same
 * process: named items, some of which are made of items, and open descriptors.
 *
 * Who reads asks for what it knows by name. What it does not know is passed over, and
 * what is not there is 0: so items may come and go without the two programs being of one
 * version.
 */
#ifndef MOONPOOL_BATON_H
#define MOONPOOL_BATON_H

#include <stddef.h>
#include <stdint.h>

struct baton;

struct baton *baton_new(void);
void baton_free(
    struct baton *b); /* closes what came with it and was not taken; or NULL */

/* -- writing: names are up to 11 characters -- */

void baton_put(struct baton *b, const char *name, const void *data, size_t len);
void baton_put_text(struct baton *b, const char *name, const char *text); /* or NULL */
void baton_put_number(struct baton *b, const char *name, uint64_t n);
void baton_put_seconds(struct baton *b, const char *name, double seconds);
void baton_put_fd(struct baton *b, const char *name, int fd); /* stays the caller's */
/* What is put from here on is in an item of that name, until baton_end. */
void baton_begin(struct baton *b, const char *name);
void baton_end(struct baton *b);

/* All that was put, in a file in memory, to be read with baton_open. -1 and errno. */
int baton_store(const struct baton *b);

/*
 * program goes on in this process, with the baton and its descriptors, for baton_inherit.
 * Returns -1 and errno if it cannot: then all is as before.
 */
int baton_exec(struct baton *b, const char *program, char *const *argv);

/* -- reading -- */

/* fd stays the caller's. NULL: that is none, or of a version which nobody here can read.
 */
struct baton *baton_open(int fd);
/* What this program was passed: once, later it is NULL. NULL: nothing, or as above. */
struct baton *baton_inherit(void);

const char *baton_get(const struct baton *b, const char *name, size_t *len); /* or NULL */
char *baton_text(const struct baton *b, const char *name); /* a copy, or NULL */
uint64_t baton_number(const struct baton *b, const char *name);
double baton_seconds(const struct baton *b, const char *name);
int baton_fd(const struct baton *b, const char *name); /* the caller's from now on; -1 */
/*
 * Goes into the next item of that name, where all is read until baton_leave: 1; or 0,
 * there is none any more, and the next search begins with the first.
 */
int baton_enter(struct baton *b, const char *name);
void baton_leave(struct baton *b);

#endif
