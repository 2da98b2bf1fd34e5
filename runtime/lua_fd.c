#include "lua_fd.h"

#include "fd.h"
#include "lua_fail.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NAME "moonpool.fd"

struct lua_fd {
    int fd;
};

int *lua_fd_check(lua_State *L, int index)
{
    struct lua_fd *box = luaL_checkudata(L, index, NAME);
    luaL_argcheck(L, box->fd >= 0, index, "descriptor is closed");
    return &box->fd;
}

int *lua_fd_push(lua_State *L)
{
    struct lua_fd *box = lua_newuserdatauv(L, sizeof *box, 0);
    box->fd = -1;
    luaL_setmetatable(L, NAME);
    return &box->fd;
}

int lua_fd_of(lua_State *L, int index)
{
    struct lua_fd *box = luaL_testudata(L, index, NAME);
    if (box)
        return box->fd;
    luaL_Stream *file = luaL_testudata(L, index, LUA_FILEHANDLE);
    if (!file || !file->closef)
        return -1;
    fflush(file->f);
    return fileno(file->f);
}

/* O_NONBLOCK: a fifo would wait for its writer. */
static int open_to_read(const char *path)
{
    return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

static int open_in_place(lua_State *L, int index)
{
    const char *path = lua_tostring(L, index);
    int *fd = lua_fd_push(L);
    *fd = open_to_read(path);
    if (*fd < 0)
        return errno;
    lua_replace(L, index);
    lua_toclose(L, index);
    return 0;
}

static int check_regular(lua_State *L, int index, off_t *size)
{
    struct stat st;
    int fd = lua_fd_of(L, index);
    luaL_argcheck(L, fd >= 0, index, "path, open file or descriptor expected");
    if (fstat(fd, &st) < 0)
        return errno;
    *size = st.st_size;
    return S_ISREG(st.st_mode) ? 0 : S_ISDIR(st.st_mode) ? EISDIR : EINVAL;
}

int lua_fd_check_part(lua_State *L, int index, struct lua_fd_part *part)
{
    lua_Integer offset = luaL_optinteger(L, index + 1, 0);
    lua_Integer length = luaL_optinteger(L, index + 2, -1);
    off_t size = 0;
    luaL_argcheck(L, offset >= 0, index + 1, "negative offset");
    lua_settop(L, index);
    int error = lua_type(L, index) == LUA_TSTRING ? open_in_place(L, index) : 0;
    if (!error)
        error = check_regular(L, index, &size);
    size_t rest = size > offset ? (size_t)(size - offset) : 0;
    part->offset = (off_t)offset;
    part->left = length < 0 || (size_t)length > rest ? rest : (size_t)length;
    return error;
}

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFIFO:
        return "pipe";
    case S_IFSOCK:
        return "socket";
    case S_IFCHR:
        return "character device";
    case S_IFBLK:
        return "block device";
    default:
        return "other"; /* epoll, eventfd and the like */
    }
}

/* fd:kind() -> "file", "pipe", "socket" ... */
static int fd_kind(lua_State *L)
{
    struct stat st;
    if (fstat(*lua_fd_check(L, 1), &st) < 0)
        return lua_fail(L, errno);
    lua_pushstring(L, kind_name(st.st_mode));
    return 1;
}

/* fd:identity() -> device, inode: equal for two descriptors of the same thing */
static int fd_identity(lua_State *L)
{
    struct stat st;
    if (fstat(*lua_fd_check(L, 1), &st) < 0)
        return lua_fail(L, errno);
    lua_pushinteger(L, (lua_Integer)st.st_dev);
    lua_pushinteger(L, (lua_Integer)st.st_ino);
    return 2;
}

/*
 * A regular file takes everything. Anything else takes what it has room for at once, and
 * PIPE_BUF bytes at most: poll(2) promises no more, and so much is not mixed with what
 * others write (pipe(7)).
 */
static ssize_t write_now(int fd, const char *text, size_t len)
{
    struct pollfd room = {.fd = fd, .events = POLLOUT};
    struct stat st;
    ssize_t n;
    if (fstat(fd, &st) < 0)
        return -1;
    if (!S_ISREG(st.st_mode) && poll(&room, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    if (!S_ISREG(st.st_mode) && len > PIPE_BUF)
        len = PIPE_BUF;
    do
        n = write(fd, text, len);
    while (n < 0 && errno == EINTR);
    return n;
}

/* fd:write(text) -> how many bytes of it were taken | nil, message, code */
static int fd_write(lua_State *L)
{
    size_t len;
    int fd = *lua_fd_check(L, 1);
    const char *text = luaL_checklstring(L, 2, &len);
    ssize_t n = write_now(fd, text, len);
    if (n < 0)
        return lua_fail(L, errno);
    lua_pushinteger(L, n);
    return 1;
}

static void set_integer(lua_State *L, const char *key, int64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, key);
}

/*
 * Pushes what is equal for as long as a name stands for the same thing, and nobody has
 * changed it: its content, mode, owner or count of names.
 */
static void push_stamp(lua_State *L, const struct stat *st)
{
    int64_t all[] = {(int64_t)st->st_dev, (int64_t)st->st_ino, st->st_size,
                     st->st_mtim.tv_sec,  st->st_mtim.tv_nsec, st->st_ctim.tv_sec,
                     st->st_ctim.tv_nsec, (int64_t)st->st_mode};
    lua_pushlstring(L, (const char *)all, sizeof all);
}

/* fd:stat() -> { kind, size, mtime (seconds), mtime_ns (the fraction), device, inode,
 * stamp } */
static int fd_stat(lua_State *L)
{
    struct stat st;
    if (fstat(*lua_fd_check(L, 1), &st) < 0)
        return lua_fail(L, errno);
    lua_createtable(L, 0, 7);
    lua_pushstring(L, kind_name(st.st_mode));
    lua_setfield(L, -2, "kind");
    set_integer(L, "size", st.st_size);
    set_integer(L, "mtime", st.st_mtim.tv_sec);
    set_integer(L, "mtime_ns", st.st_mtim.tv_nsec);
    set_integer(L, "device", (int64_t)st.st_dev);
    set_integer(L, "inode", (int64_t)st.st_ino);
    push_stamp(L, &st);
    lua_setfield(L, -2, "stamp");
    return 1;
}

/* fd:stamp() -> string */
static int fd_stamp(lua_State *L)
{
    struct stat st;
    if (fstat(*lua_fd_check(L, 1), &st) < 0)
        return lua_fail(L, errno);
    push_stamp(L, &st);
    return 1;
}

/* fd:fileno() -> number, which is still this object's to close */
static int fd_fileno(lua_State *L)
{
    lua_pushinteger(L, *lua_fd_check(L, 1));
    return 1;
}

static int file_close(lua_State *L)
{
    luaL_Stream *file = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    return luaL_fileresult(L, fclose(file->f) == 0, NULL);
}

/* fd:file(mode = "r") -> a Lua file that now owns the descriptor */
static int fd_file(lua_State *L)
{
    int *fd = lua_fd_check(L, 1);
    const char *mode = luaL_optstring(L, 2, "r");
    luaL_Stream *file = lua_newuserdatauv(L, sizeof *file, 0);
    file->closef = NULL; /* not open yet */
    luaL_setmetatable(L, LUA_FILEHANDLE);
    file->f = fdopen(*fd, mode);
    if (!file->f)
        return lua_fail(L, errno);
    fd_take(fd);
    file->closef = file_close;
    return 1;
}

/* fd:close() -> true; also <close> and the collector's: may run twice */
static int fd_close_method(lua_State *L)
{
    struct lua_fd *box = luaL_checkudata(L, 1, NAME);
    fd_close(&box->fd);
    lua_pushboolean(L, 1);
    return 1;
}

static int fd_tostring(lua_State *L)
{
    struct lua_fd *box = luaL_checkudata(L, 1, NAME);
    if (box->fd < 0)
        lua_pushliteral(L, NAME " (closed)");
    else
        lua_pushfstring(L, NAME " (%d)", box->fd);
    return 1;
}

/* fd.pipe() -> reading end, writing end */
static int fd_pipe(lua_State *L)
{
    int *in = lua_fd_push(L), *out = lua_fd_push(L), ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return lua_fail(L, errno);
    *in = ends[0];
    *out = ends[1];
    return 2;
}

/* Non-blocking, because opening a fifo would wait for its writer. */
static int open_beneath(const char *directory, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = -1, tries = 16;
    int base = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (base < 0)
        return -1;
    do /* EAGAIN: something was renamed while the kernel looked */
        fd = (int)syscall(SYS_openat2, base, name, &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR) && --tries);
    fd_close(&base);
    return fd;
}

/* fd.open(directory, name) -> moonpool.fd, for reading, from within the directory */
static int fd_open(lua_State *L)
{
    size_t len;
    const char *directory = luaL_checkstring(L, 1), *name = luaL_checklstring(L, 2, &len);
    int *fd = lua_fd_push(L);
    if (strlen(name) != len)
        return lua_fail_text(L, "the name contains a NUL byte", "EINVAL");
    *fd = open_beneath(directory, name);
    if (*fd < 0 && errno == EXDEV)
        return lua_fail_text(L, "the name leaves the directory", "EXDEV");
    return *fd < 0 ? lua_fail(L, errno) : 1;
}

/* fd.open_path(path) -> moonpool.fd, for reading */
static int fd_open_path(lua_State *L)
{
    size_t len;
    const char *path = luaL_checklstring(L, 1, &len);
    int *fd = lua_fd_push(L);
    if (strlen(path) != len)
        return lua_fail_text(L, "the path contains a NUL byte", "EINVAL");
    *fd = open_to_read(path);
    return *fd < 0 ? lua_fail(L, errno) : 1;
}

/* fd.stamp(path) -> string */
static int fd_stamp_path(lua_State *L)
{
    struct stat st;
    size_t len;
    const char *path = luaL_checklstring(L, 1, &len);
    if (strlen(path) != len)
        return lua_fail_text(L, "the path contains a NUL byte", "EINVAL");
    if (stat(path, &st) < 0)
        return lua_fail(L, errno);
    push_stamp(L, &st);
    return 1;
}

/* O_NONBLOCK: a fifo would wait for its reader. */
static int open_to_append(const char *path)
{
    int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    return open(path, flags, S_IRUSR | S_IWUSR | S_IRGRP);
}

/* fd.append(path) -> moonpool.fd */
static int fd_append(lua_State *L)
{
    size_t len;
    const char *path = luaL_checklstring(L, 1, &len);
    int *fd = lua_fd_push(L);
    if (strlen(path) != len)
        return lua_fail_text(L, "the path contains a NUL byte", "EINVAL");
    *fd = open_to_append(path);
    return *fd < 0 ? lua_fail(L, errno) : 1;
}

/* fd.stderr() -> moonpool.fd of the same open file */
static int fd_stderr(lua_State *L)
{
    int *fd = lua_fd_push(L);
    *fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return *fd < 0 ? lua_fail(L, errno) : 1;
}

/* fd.read(file [, offset = 0 [, length]]) -> string | nil, message, code: of a file as
 * conn:sendfile takes it; fewer bytes are there at its end alone, and none after it. */
static int fd_read(lua_State *L)
{
    struct lua_fd_part part;
    luaL_Buffer b;
    int error = lua_fd_check_part(L, 1, &part);
    if (error)
        return lua_fail(L, error);
    char *text = luaL_buffinitsize(L, &b, part.left);
    ssize_t n = pread(lua_fd_of(L, 1), text, part.left, part.offset);
    if (n < 0)
        return lua_fail(L, errno);
    luaL_pushresultsize(&b, (size_t)n);
    return 1;
}

static const luaL_Reg methods[] = {
    {"kind", fd_kind},          {"stat", fd_stat},   {"identity", fd_identity},
    {"fileno", fd_fileno},      {"write", fd_write}, {"file", fd_file},
    {"close", fd_close_method}, {"stamp", fd_stamp}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", fd_close_method},
    {"__close", fd_close_method},
    {"__tostring", fd_tostring},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"pipe", fd_pipe},        {"open", fd_open},     {"open_path", fd_open_path},
    {"append", fd_append},    {"stderr", fd_stderr}, {"read", fd_read},
    {"stamp", fd_stamp_path}, {NULL, NULL},
};

int luaopen_moonpool_fd(lua_State *L)
{
    luaL_newmetatable(L, NAME);
    luaL_setfuncs(L, metamethods, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newlib(L, functions);
    return 1;
}
