#!/usr/bin/python3
"""Stops one thread of a process and holds it until this process ends: what a thread that is stuck looks like to the
others. Signals stop whole processes, so this is done as a debugger does it.

It is stopped where it waits for the kernel. Elsewhere it may hold a lock of the C library's allocator, and then all
threads wait with it: another fault than the one that is meant.

usage: stop_thread.py TID
"""

import ctypes
import os
import signal
import sys
import time

PTRACE_CONT, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 0x4206, 0x4207
WALL = 0x40000000
# epoll_wait and epoll_pwait (x86_64, and the second on aarch64), epoll_pwait2 and io_uring_enter (everywhere).
WAITS = {"232", "281", "22", "441", "426"}

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
thread = int(sys.argv[1])


def ptrace(request: int) -> None:
    if libc.ptrace(request, thread, 0, 0) != 0:
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")


def waits() -> bool:
    """Whether the stopped thread is inside of one of its waits: proc(5), /proc/pid/syscall."""
    with open(f"/proc/{thread}/syscall", encoding="ascii") as file:
        return file.read().split()[0] in WAITS


ptrace(PTRACE_SEIZE)
while True:
    ptrace(PTRACE_INTERRUPT)
    os.waitpid(thread, WALL)
    if waits():
        break
    ptrace(PTRACE_CONT)
    time.sleep(0.001)
print("stopped", flush=True)
signal.pause()
