"""An application with many open connections. Reads commands from stdin, answers each with a line.

  open N    opens connections until N are open; each carries one small request
  all PATH  sends a request on every connection before it reads the first answer
"""

import resource
import socket
import struct
import sys

HOST = "bench.test"
# Closed with a reset: otherwise its ports would be taken for a minute.
AT_ONCE = struct.pack("ii", 1, 0)


def send(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())


def receive(connection):
    """Reads one answer; its body is as long as its Content-Length says."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or sys.exit("the proxy closed a connection")
    head, _, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    if lines[0].split()[1] != "200":
        sys.exit(f"answer: {lines[0]}")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    missing = int(fields["content-length"]) - len(rest)
    while missing > 0:
        missing -= len(connection.recv(65536)) or sys.exit("the proxy closed a connection within an answer")


def main():
    soft_and_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft_and_hard[1], soft_and_hard[1]))
    connections = []
    for line in sys.stdin:
        command, argument = line.split()
        if command == "open":
            while len(connections) < int(argument):
                connections.append(socket.create_connection((HOST, 80), timeout=30))
                connections[-1].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                send(connections[-1], "/small")
                receive(connections[-1])
        else:
            for connection in connections:
                send(connection, argument)
            for connection in connections:
                receive(connection)
        print("done", flush=True)


if __name__ == "__main__":
    main()
