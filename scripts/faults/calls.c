/* Loaded before the C library, it lets one call of a program fail, or kills the program there.

   FAULT_PATH: only calls count whose file has this in its path
   FAULT_HOW:  EIO | ENOSPC | READ (EIO of reading calls) | KILL
   FAULT_AT:   which of these calls, from 1
   FAULT_LASTS: set: and all after it */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long seen;

/* Whether a call fails that `writes`, or needs `room` on the disk; then errno is set. */
static int fails(const char *path, int writes, int room) {
    const char *where = getenv("FAULT_PATH"), *how = getenv("FAULT_HOW"), *at = getenv("FAULT_AT");
    if (!path || !where || !how || !at || !strstr(path, where)) return 0;
    int reading = !strcmp(how, "READ");
    if (reading == writes || (!strcmp(how, "ENOSPC") && !room)) return 0;
    long number = atomic_fetch_add(&seen, 1) + 1;
    if (number < atol(at) || (number > atol(at) && !getenv("FAULT_LASTS"))) return 0;
    if (!strcmp(how, "KILL")) kill(getpid(), SIGKILL);
    errno = !strcmp(how, "ENOSPC") ? ENOSPC : EIO;
    return 1;
}

static int fails_at(int descriptor, int writes, int room) {
    char link[64], path[4096];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    return fails(path, writes, room);
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define BY_FD(type, name, parameters, arguments, writes, room)                                     \
    type name parameters {                                                                         \
        static typeof(&name) real;                                                                 \
        if (!real) real = REAL(name);                                                              \
        return fails_at(fd, writes, room) ? -1 : real arguments;                                   \
    }
#define BY_PATH(name, parameters, arguments, room)                                                 \
    int name parameters {                                                                          \
        static typeof(&name) real;                                                                 \
        if (!real) real = REAL(name);                                                              \
        return fails(path, 1, room) ? -1 : real arguments;                                         \
    }
#define OPENS(name, parameters, first)                                                             \
    int name parameters {                                                                          \
        static typeof(&name) real;                                                                 \
        if (!real) real = REAL(name);                                                              \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;                                  \
        va_end(rest);                                                                              \
        int writes = (flags & (O_WRONLY | O_RDWR)) != 0;                                           \
        return fails(path, writes, (flags & O_CREAT) != 0) ? -1 : real first;                      \
    }

BY_FD(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n), 1, 1)
BY_FD(ssize_t, pwrite, (int fd, const void *data, size_t n, off_t at), (fd, data, n, at), 1, 1)
BY_FD(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at), 1, 1)
BY_FD(ssize_t, read, (int fd, void *data, size_t n), (fd, data, n), 0, 0)
BY_FD(ssize_t, pread, (int fd, void *data, size_t n, off_t at), (fd, data, n, at), 0, 0)
BY_FD(ssize_t, pread64, (int fd, void *data, size_t n, off64_t at), (fd, data, n, at), 0, 0)
BY_FD(int, fsync, (int fd), (fd), 1, 1)
BY_FD(int, fdatasync, (int fd), (fd), 1, 1)
BY_FD(int, ftruncate, (int fd, off_t n), (fd, n), 1, 1)
BY_FD(int, ftruncate64, (int fd, off64_t n), (fd, n), 1, 1)
BY_PATH(mkdir, (const char *path, mode_t mode), (path, mode), 1)
BY_PATH(rename, (const char *old, const char *path), (old, path), 1)
BY_PATH(unlink, (const char *path), (path), 0)
OPENS(open, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPENS(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
