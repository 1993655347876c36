"""bpf(2) without a compiler or library: as much of it as joining two sockets of one machine takes.

Programs are written as lists of instructions with labels (linux/bpf.h names the fields). Sockets of which both ends are here
are kept in one map under the application's port, so this is for measurements: where ports of applications can be alike (other
namespaces, other destinations) it would join strangers.
"""

import ctypes
import os
import platform
import struct

NUMBER = {"x86_64": 321, "aarch64": 280}.get(platform.machine())
MAP_CREATE, MAP_UPDATE, PROG_LOAD, PROG_ATTACH, PROG_DETACH = 0, 2, 5, 8, 9
SOCKHASH = 18
SOCK_OPS, SK_SKB, SK_MSG = 13, 14, 16
CGROUP_SOCK_OPS, SK_MSG_VERDICT, SK_SKB_VERDICT = 3, 7, 38
APPLICATION = 1 << 16
# Which way bytes go past TCP; and whether those that come through TCP are put into the joined queue behind them.
TO_PROXY, TO_APPLICATION, QUEUE_ALL = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


class BpfError(Exception):
    """What the kernel refused, and what it said."""


def _bpf(command, layout, *fields):
    attributes = ctypes.create_string_buffer(struct.pack("<" + layout, *fields), 160)
    result = _libc.syscall(NUMBER, command, attributes, 160)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _insn(code, dst=0, src=0, offset=0, value=0):
    return code, dst, src, offset, value


def move(dst, src):
    return _insn(0xBF, dst, src)


def number(dst, value):
    return _insn(0xB7, dst, value=value)


def load(dst, src, offset):
    return _insn(0x61, dst, src, offset)


def to_host_order(dst):
    return _insn(0xDC, dst, value=32)


def either(dst, bits):
    return _insn(0x47, dst, value=bits)


def jump_if(dst, value, label):
    return _insn(0x15, dst, offset=label, value=value)


def jump_unless(dst, value, label):
    return _insn(0x55, dst, offset=label, value=value)


def jump(label):
    return _insn(0x05, offset=label)


def leave(value):
    return [number(0, value), _insn(0x95)]


def with_key(helper, table, flags):
    """helper(context in r6, map, &r3, flags)."""
    return [_insn(0x63, 10, 3, -4), move(1, 6), _insn(0x18, 2, 1, value=table), _insn(0), move(3, 10),
            _insn(0x07, 3, value=-4), number(4, flags), _insn(0x85, value=helper)]


def _assemble(lines):
    places, code = {}, []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(code)
        else:
            code.append(line)
    here = lambda at, offset: places[offset] - at - 1 if isinstance(offset, str) else offset
    return b"".join(struct.pack("<BBhi", kind, dst | src << 4, here(at, offset), value)
                    for at, (kind, dst, src, offset, value) in enumerate(code))


def _program(kind, attach_type, lines):
    code, log = _assemble(lines), ctypes.create_string_buffer(1 << 16)
    held = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    try:
        return _bpf(PROG_LOAD, "IIQQIIQII16sII", kind, len(code) // 8, *map(ctypes.addressof, held), 1, len(log),
                    ctypes.addressof(log), 0, 0, b"", 0, attach_type)
    except OSError as error:
        raise BpfError(f"{error}: {log.value.decode(errors='replace')[-500:]}") from None


class Joint:
    """A map in which an application's sockets and the proxy's find each other, with the programs around it."""

    def __init__(self, proxy_port, directions):
        try:
            self.table = _bpf(MAP_CREATE, "IIII", SOCKHASH, 4, 8, 1 << 16)
            self.verdict = _program(SK_MSG, SK_MSG_VERDICT, self._verdict(proxy_port, directions))
            _bpf(PROG_ATTACH, "IIII", self.table, self.verdict, SK_MSG_VERDICT, 0)
            self.queueing = _program(SK_SKB, SK_SKB_VERDICT, leave(1))
            if directions & QUEUE_ALL:
                _bpf(PROG_ATTACH, "IIII", self.table, self.queueing, SK_SKB_VERDICT, 0)
            self.gatherer = _program(SOCK_OPS, CGROUP_SOCK_OPS, self._gatherer(proxy_port))
        except OSError as error:
            raise BpfError(f"bpf(2), which needs CAP_BPF and CAP_NET_ADMIN: {error}") from None

    def _verdict(self, proxy_port, directions):
        """What a socket of the map sends goes to its peer's queue, if it goes in one of `directions`; else through TCP."""
        is_joined = lambda direction, label: jump(label if directions & direction else "pass")
        return [move(6, 1), load(3, 6, 64), jump_if(3, proxy_port, "proxy"), is_joined(TO_PROXY, "redirect"),
                "proxy", load(3, 6, 60), to_host_order(3), either(3, APPLICATION), is_joined(TO_APPLICATION, "redirect"),
                "redirect", *with_key(71, self.table, 1), "pass", *leave(1)]

    def _gatherer(self, proxy_port):
        """Connections to port 80 and those that the proxy accepts enter the map as soon as they are established."""
        return [move(6, 1), load(2, 6, 0), load(3, 6, 68), jump_if(2, 5, "accepted"), jump_unless(2, 4, "end"),
                load(4, 6, 64), to_host_order(4), jump_unless(4, 80, "end"), either(3, APPLICATION), jump("enter"),
                "accepted", jump_unless(3, proxy_port, "end"), load(3, 6, 64), to_host_order(3),
                "enter", *with_key(70, self.table, 0), "end", *leave(1)]

    def enter(self, key, sock):
        """Puts a socket of this process into the map."""
        held = [ctypes.create_string_buffer(struct.pack(layout, value)) for layout, value in (("<I", key), ("<Q", sock.fileno()))]
        _bpf(MAP_UPDATE, "IIQQQ", self.table, 0, *map(ctypes.addressof, held), 0)

    def gather(self, cgroup):
        """From now on every connection of the cgroup (a descriptor of its folder) enters the map."""
        _bpf(PROG_ATTACH, "IIII", cgroup, self.gatherer, CGROUP_SOCK_OPS, 0)

    def stop_gathering(self, cgroup):
        _bpf(PROG_DETACH, "IIII", cgroup, self.gatherer, CGROUP_SOCK_OPS, 0)

    def close(self):
        for descriptor in (self.table, self.verdict, self.queueing, self.gatherer):
            os.close(descriptor)
