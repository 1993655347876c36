#!/usr/bin/env bash
# glibc: setuid in one thread makes waits in all other threads fail with EINTR, in a program that handles no signal.
#
# Expected: EINTR comes from a signal handler (signal(7)), and a program that installs none may leave the check out; with handlers,
#   SA_RESTART. Changing ids, or "changing" them to what they are, concerns the caller.
# Happens: the kernel's ids are a thread's own, POSIX' a process's. So setresuid, setuid, setgid, setgroups and their kin interrupt
#   every other thread by a signal of glibc's own, which does the call there. Its handler is set with SA_RESTART, which
#   does not help waits with a time limit: poll, select, epoll_wait, nanosleep, usleep and recv with SO_RCVTIMEO fail with EINTR, while recv
#   without a limit goes on. The bare system call disturbs nobody, and changes one thread.
# Why it matters: a proxy drops its privileges while threads run already (resolver, log, probe), and one of them fails at the start, now
#   and then, with an error that the program seems unable to get. The same in tests that become another user.
# Seen with: glibc 2.36, Linux 6.18; as root and as a user.
# Source: nptl(7), "NPTL and process credential changes"; signal(7), the calls that SA_RESTART does not restart.
# Needs: a C compiler as cc, on a system with glibc.
set -euo pipefail
command -v cc >/dev/null || { echo 'needs cc' >&2; exit 2; }
getconf GNU_LIBC_VERSION 2>/dev/null || { echo 'recorded with glibc' >&2; exit 3; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/trial.c" <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int pair[2];
static int empty;
static const struct timeval second = { 1, 0 };
static char byte;

static int receive(void) { return recv(pair[0], &byte, 1, 0); }
static int receive_limited(void) {
    setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    return recv(pair[0], &byte, 1, 0);
}
static int polled(void) { return poll(&(struct pollfd){ pair[0], POLLIN, 0 }, 1, 1000); }
static int selected(void) {
    fd_set set;
    struct timeval limit = second;
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    return select(pair[0] + 1, &set, NULL, NULL, &limit);
}
static int epolled(void) { return epoll_wait(empty, &(struct epoll_event){ 0 }, 1, 1000); }
static int slept(void) { return nanosleep(&(struct timespec){ 1, 0 }, NULL); }
static int slept_micro(void) { return usleep(900000); }

static int by_glibc(void) { return setresuid(-1, -1, -1); }
static int by_kernel(void) { return syscall(SYS_setresuid, -1, -1, -1); }

struct wait { const char *name; int (*call)(void); };

static void *waiter(void *arg) {
    const struct wait *wait = arg;
    int result = wait->call();
    printf(" %s %s", wait->name, result < 0 ? strerrorname_np(errno) : "OK");
    return NULL;
}

int main(void) {
    static struct wait waits[] = {
        { "recv", receive }, { "recv with SO_RCVTIMEO", receive_limited }, { "poll", polled }, { "select", selected },
        { "epoll_wait", epolled }, { "nanosleep", slept }, { "usleep", slept_micro },
    };
    static const struct wait changes[] = { { "setresuid, of glibc", by_glibc }, { "setresuid, of the kernel", by_kernel } };
    empty = epoll_create1(0);
    for (size_t c = 0; c < 2; c++) {
        printf("%s:", changes[c].name);
        for (size_t w = 0; w < sizeof waits / sizeof *waits; w++) {
            pthread_t thread;
            if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pthread_create(&thread, NULL, waiter, &waits[w]))
                return 1;
            usleep(300000);   /* the thread waits by now */
            if (changes[c].call())
                return 1;
            usleep(100000);
            if (write(pair[1], "x", 1) != 1)
                return 1;
            pthread_join(thread, NULL);
            close(pair[0]);
            close(pair[1]);
            printf(w + 1 < sizeof waits / sizeof *waits ? "," : "\n");
        }
    }
    return 0;
}
C
cc -o "$work/trial" "$work/trial.c" -pthread

recorded='setresuid, of glibc: recv OK, recv with SO_RCVTIMEO EINTR, poll EINTR, select EINTR, epoll_wait EINTR, nanosleep EINTR, usleep EINTR
setresuid, of the kernel: recv OK, recv with SO_RCVTIMEO OK, poll OK, select OK, epoll_wait OK, nanosleep OK, usleep OK'
seen=$("$work/trial")
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
