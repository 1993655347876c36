#!/usr/bin/python3
"""Stops one thread of a process and holds it until this process ends: what a thread that is stuck looks like to the
others. Signals stop whole processes, so this is done as a debugger does it.

usage: stop_thread.py TID
"""

import ctypes
import os
import signal
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
thread = int(sys.argv[1])
for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
    if libc.ptrace(request, thread, 0, 0) != 0:
        sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
os.waitpid(thread, 0x40000000)
print("stopped", flush=True)
signal.pause()
