"""The outside world of a differential run: servers that do what the path of a request asks for. Runs in a namespace of its own."""

import re
import socket
import ssl
import struct
import sys
import threading
import time

ADDRESS = "203.0.113.1"


def receive_head(connection, pending):
    while b"\r\n\r\n" not in pending:
        piece = connection.recv(65536)
        if not piece:
            return None, b""
        pending += piece
    head, rest = pending.split(b"\r\n\r\n", 1)
    return head, rest


def receive_body(connection, head, rest):
    fields = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
    if fields.get(b"expect", b"").lower() == b"100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        # The last chunk, and trailers behind it.
        while not re.search(rb"(^|\r\n)0\r\n([^\r\n]+\r\n)*\r\n$", rest):
            piece = connection.recv(65536)
            if not piece:
                return None
            rest += piece
        return b""
    length = int(fields.get(b"content-length", b"0"))
    while len(rest) < length:
        piece = connection.recv(65536)
        if not piece:
            return None
        rest += piece
    return rest[length:]


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def counted(body, status="200 OK", extra=b""):
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status.encode(), extra, len(body), body)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SAYS = {
    "/chunked": CHUNKED + b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    "/interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + counted(b"ok"),
    "/folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "/two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "/unasked": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
}
ENDS = {
    "/close": b"",
    "/until-close": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "/cut-head": b"HTTP/1.1 200 OK\r\nConte",
    "/cut-body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    "/cut-chunks": CHUNKED + b"5\r\nhello\r\n",
    "/bad-status": b"hello\r\nContent-Length: 2\r\n\r\nok",
    "/bad-chunk": CHUNKED + b"x\r\nhello\r\n0\r\n\r\n",
    "/bad-field": b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok",
}
RESETS = {"/reset": b"", "/reset-head": b"HTTP/1.1 200 OK\r\nConte", "/reset-body": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"}


def serve_requests(connection, name):
    pending = b""
    while True:
        head, rest = receive_head(connection, pending)
        if head is None:
            return
        path = head.split(b" ")[1].decode().split("?")[0]
        if path == "/early":
            connection.sendall(counted(b"", "413 Content Too Large", b"Connection: close\r\n"))
            time.sleep(0.3)
            return
        pending = receive_body(connection, head, rest)
        if pending is None:
            return
        if path in ENDS:
            connection.sendall(ENDS[path])
            return
        if path in RESETS:
            connection.sendall(RESETS[path])
            time.sleep(0.2)
            reset(connection)
            return
        word, _, number = path.strip("/").partition("/")
        if path in SAYS:
            answer = SAYS[path]
        elif word == "echo":
            answer = counted(head)
        elif word == "name":
            answer = counted(name.encode())
        elif word == "status":
            answer = b"HTTP/1.1 204 None\r\n\r\n" if number == "204" else counted(b"s", f"{number} Said")
        elif word == "head":
            answer = b"HTTP/1.1 200 OK\r\nX: %s\r\nContent-Length: 0\r\n\r\n" % (b"a" * int(number))
        elif word == "slow":
            time.sleep(int(number) / 1000)
            answer = counted(b"slow")
        else:
            answer = counted(b"ok")
        connection.sendall(answer if not head.startswith(b"HEAD") else answer.split(b"\r\n\r\n")[0] + b"\r\n\r\n")


def serve_banner(connection, _name):
    connection.sendall(b"220 ready\r\n")
    while True:
        piece = connection.recv(65536)
        if not piece or piece == b"QUIT\r\n":
            return
        if piece == b"RESET\r\n":
            return reset(connection)
        connection.sendall(piece)


def listen(port, serve, name, context=None):
    listener = socket.create_server((ADDRESS, port), backlog=64)

    def one(connection):
        try:
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            serve(connection, name)
        except (OSError, ValueError, IndexError):
            pass
        finally:
            connection.close()

    def accept():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def main():
    folder = sys.argv[1]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/server.crt", f"{folder}/server.key")
    for port in (8080, 8081, 8082, 8083):
        listen(port, serve_requests, str(port))
    listen(8443, serve_requests, "8443", context)
    for port in (2525, 2526):
        listen(port, serve_banner, str(port))
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
