"""What an application notices when its socket is joined to the proxy's by a sockmap: one observation a function.

Each gets a connection whose ends are both here, and what joins them. It refuses to know proxies: this is about the kernel.
"""

import errno
import fcntl
import os
import select
import socket
import struct
import termios
import threading

import bpf

SO_ZEROCOPY, MSG_ZEROCOPY = 60, 0x4000000
PATIENCE = 1.0
MIB = 1 << 20


class Pair:
    """An application's socket and the one that the proxy accepted for it."""

    def __init__(self, directions):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        self.application = socket.create_connection(("127.0.0.1", port))
        self.proxy, _ = listener.accept()
        listener.close()
        for end in (self.application, self.proxy):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.joint = None if directions is None else bpf.Joint(port, directions)

    def join(self):
        if self.joint:
            key = self.application.getsockname()[1]
            self.joint.enter(key | bpf.APPLICATION, self.application)
            self.joint.enter(key, self.proxy)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for end in (self.application, self.proxy):
            end.close()
        if self.joint:
            self.joint.close()


def name(error):
    return errno.errorcode.get(error.errno, str(error))


def arrives(sock):
    return bool(select.select([sock], [], [], PATIENCE)[0])


def waiting(sock):
    """A socket that blocks in the kernel, as most applications' do, but not for ever."""
    sock.settimeout(None)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
    return sock


def counts_unread(pair):
    """ioctl(FIONREAD) with 1,000 bytes unread"""
    pair.join()
    pair.proxy.send(bytes(1000))
    arrives(pair.application)
    count = bytearray(4)
    fcntl.ioctl(pair.application, termios.FIONREAD, count)
    return str(struct.unpack("i", count)[0])


def splices(pair):
    """splice(2) of 1,000 bytes to a pipe"""
    pair.join()
    pair.proxy.send(bytes(1000))
    arrives(pair.application)
    reader, writer = os.pipe()
    pair.application.setblocking(False)
    try:
        return f"{os.splice(pair.application.fileno(), writer, 1000)} bytes"
    except OSError as error:
        return name(error)
    finally:
        os.close(reader)
        os.close(writer)


def waits_for_all(pair):
    """recv(MSG_WAITALL) of 8 bytes sent 4 and 4"""
    pair.join()
    pair.proxy.send(b"1234")
    later = threading.Timer(0.1, lambda: pair.proxy.send(b"5678"))
    later.start()
    got = waiting(pair.application).recv(8, socket.MSG_WAITALL)
    later.join()
    return f"{len(got)} bytes"


def is_told_of_zerocopy(pair):
    """MSG_ZEROCOPY: told that the buffer is free"""
    pair.join()
    pair.application.setsockopt(socket.SOL_SOCKET, SO_ZEROCOPY, 1)
    pair.application.send(bytes(20000), MSG_ZEROCOPY)
    left = 20000
    while left and arrives(pair.proxy):
        left -= len(pair.proxy.recv(left))
    told = select.poll()
    told.register(pair.application, 0)
    return "yes" if told.poll(PATIENCE * 1000) else "never"


def taken_unread(sender, limit=256 * MIB):
    sender.setblocking(False)
    taken, piece = 0, bytes(65536)
    while taken < limit:
        try:
            taken += sender.send(piece)
        except BlockingIOError:
            return f"{taken / MIB:.1f} MiB"
    return f"≥ {taken // MIB} MiB"


def bounds_answers(pair):
    """the application does not read: taken from the proxy"""
    pair.join()
    return taken_unread(pair.proxy)


def bounds_requests(pair):
    """the proxy does not read: taken from the application"""
    pair.join()
    return taken_unread(pair.application)


def sees_the_reset(pair):
    """the proxy closes with a request unread"""
    pair.join()
    pair.application.send(b"request")
    arrives(pair.proxy)
    pair.proxy.close()
    try:
        got = waiting(pair.application).recv(10)
        return "an orderly end" if not got else "bytes"
    except OSError as error:
        return name(error)


def half_closes(pair):
    """8 MiB, FIN, 8 MiB back, FIN"""
    pair.join()
    for sender, receiver in ((pair.application, pair.proxy), (pair.proxy, pair.application)):
        sent, got = os.urandom(8 * MIB), bytearray()

        def send(sender=sender, sent=sent):
            sender.settimeout(10)
            sender.sendall(sent)
            sender.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        receiver.settimeout(10)
        while piece := receiver.recv(65536):
            got += piece
        thread.join()
        if got != sent:
            return f"{len(got)} bytes, or others"
    return "whole"


def keeps_order(pair):
    """joined while the first of two answers is unread"""
    pair.proxy.send(b"1")
    arrives(pair.application)
    pair.join()
    pair.proxy.send(b"2")
    got = waiting(pair.application).recv(1)
    while len(got) < 2:
        got += pair.application.recv(1)
    return got.decode()


def wakes(pair):
    """joined while the application waits in recv"""
    got = []

    def receive():
        try:
            got.append("woken" if waiting(pair.application).recv(1) else "an end")
        except OSError as error:
            got.append("sleeps on" if error.errno == errno.EAGAIN else name(error))

    thread = threading.Thread(target=receive)
    thread.start()
    thread.join(0.2)
    pair.join()
    pair.proxy.send(b"1")
    thread.join()
    return got[0]


OBSERVATIONS = (counts_unread, splices, waits_for_all, is_told_of_zerocopy, bounds_answers, bounds_requests,
                sees_the_reset, half_closes, keeps_order, wakes)


def table(arrangements):
    """Lines of a table: what is seen in each arrangement (a name, and directions or None)."""
    lines = ["| what the application does | " + " | ".join(label for label, _ in arrangements) + " |",
             "|---" * (len(arrangements) + 1) + "|"]
    for observation in OBSERVATIONS:
        seen = []
        for _, directions in arrangements:
            with Pair(directions) as pair:
                seen.append(observation(pair))
        marked = [each if each == seen[0] or _is_bounded_alike(each, seen[0]) else f"**{each}**" for each in seen]
        lines.append(f"| {observation.__doc__} | " + " | ".join(marked) + " |")
    return lines


def _is_bounded_alike(seen, plain):
    """Amounts that buffers took differ a little from time to time."""
    return seen.endswith(" MiB") and not seen.startswith("≥") and plain.endswith(" MiB")
