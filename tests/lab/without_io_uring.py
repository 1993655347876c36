#!/usr/bin/python3
"""Runs a command with the three calls of io_uring answered by EPERM, as the default seccomp profiles of Docker (since
25) and containerd (since 2) answer them. Everything else is allowed: this is about io_uring alone.

usage: without_io_uring.py COMMAND [ARGUMENT...]
"""

import ctypes
import errno
import os
import struct
import sys

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
# linux/filter.h: load a word, compare with a constant, return.
LOAD, GREATER_OR_EQUAL, GREATER, RETURN = 0x20, 0x35, 0x25, 0x06
# io_uring_setup, _enter, _register have these numbers on every architecture.
FIRST, LAST = 425, 427

PROGRAM = [
    (LOAD, 0, 0, 0),
    (GREATER_OR_EQUAL, 0, 2, FIRST),
    (GREATER, 1, 0, LAST),
    (RETURN, 0, 0, ERRNO | errno.EPERM),
    (RETURN, 0, 0, ALLOW),
]


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


code = b"".join(struct.pack("=HBBI", *instruction) for instruction in PROGRAM)
libc = ctypes.CDLL(None, use_errno=True)
program = Program(len(PROGRAM), code)
# Started by root, so without no_new_privs, which would be noticed by what is tested.
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
    sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
os.execvp(sys.argv[1], sys.argv[1:])
