#!/usr/bin/env python3
"""egret beside Envoy: the same servers, the same applications, what Istio generates for the one and its documents for the other.

Each scenario goes through both. What came of it and what was logged must be equal, or stand in scenarios.DELIBERATE with its
reason. Needs root (network namespaces), nftables or iptables, and Envoy: `make differential` installs it.
"""

import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import configuration
import scenarios

POD, OUTSIDE = "egret-diff-pod", "egret-diff-out"
ADDRESSES = [f"203.0.113.{number}" for number in (1, 5, 6, 7, 9)]
HERE = Path(__file__).resolve().parent
PATIENCE = 5.0


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more)


def inside(namespace, *command):
    return ["ip", "netns", "exec", namespace, *command]


def remove_network():
    for namespace in (POD, OUTSIDE):
        subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


def make_network():
    remove_network()
    for namespace in (POD, OUTSIDE):
        run("ip", "netns", "add", namespace)
        run(*inside(namespace, "ip", "link", "set", "lo", "up"))
    run("ip", "link", "add", "diff0", "netns", POD, "type", "veth", "peer", "name", "diff1", "netns", OUTSIDE)
    run(*inside(POD, "ip", "addr", "add", "10.77.7.2/24", "dev", "diff0"))
    run(*inside(POD, "ip", "link", "set", "diff0", "up"))
    run(*inside(OUTSIDE, "ip", "addr", "add", "10.77.7.1/24", "dev", "diff1"))
    run(*inside(OUTSIDE, "ip", "link", "set", "diff1", "up"))
    for address in ADDRESSES:
        run(*inside(OUTSIDE, "ip", "addr", "add", f"{address}/32", "dev", "lo"))
    run(*inside(POD, "ip", "route", "add", "default", "via", "10.77.7.1"))


def make_certificates(folder):
    def authority(name):
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}", cwd=folder)

    authority("ca")
    authority("other")
    (folder / "server.ext").write_text("subjectAltName=DNS:tls.test,DNS:tlsbad.test\n")
    run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server", cwd=folder)
    run("openssl", "x509", "-req", "-days", "9", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "server.ext", "-out", "server.crt", cwd=folder)


class Application:
    """Runs in the pod's namespace."""

    def __init__(self):
        handle = os.open(f"/var/run/netns/{POD}", os.O_RDONLY)
        libc = __import__("ctypes").CDLL(None, use_errno=True)
        if libc.setns(handle, 0x40000000) != 0:
            raise OSError("setns failed: run as root")
        os.close(handle)

    def play(self, scenario):
        if scenario.get("beside") is not None:
            first = threading.Thread(target=self.one, args=(dict(scenario, beside=None, waits=0.8),))
            first.start()
            time.sleep(0.3)
            other = dict(scenario, beside=None)
            if scenario["beside"]:
                other["sends"] = scenario["beside"]
            outcome = self.one(other)
            first.join()
            return outcome
        return self.one(scenario)

    def one(self, scenario):
        try:
            connection = socket.create_connection(scenario["to"], timeout=PATIENCE)
        except OSError as error:
            return {"received": b"", "end": type(error).__name__}
        with connection:
            received, end = b"", "open"
            try:
                if "sends" in scenario:
                    connection.sendall(scenario["sends"])
                    if "leaves" in scenario:
                        time.sleep(scenario["leaves"])
                        return {"received": b"", "end": "left"}
                    received, end = self.answers(connection, scenario)
                else:
                    received, end = self.talk(connection, scenario)
            except ConnectionResetError:
                end = "reset"
            except OSError as error:
                end = type(error).__name__
            return {"received": received, "end": end}

    def talk(self, connection, scenario):
        received, end = b"", "open"
        for said in (None, *scenario["says"]):
            if said:
                connection.sendall(said)
            connection.settimeout(0.4)
            try:
                piece = connection.recv(65536)
                received += piece
                end = end if piece else "ended"
            except TimeoutError:
                pass
        if scenario.get("resets"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return received, "left"
        connection.settimeout(scenario.get("waits", 0.4))
        try:
            end = "ended" if not connection.recv(65536) else end
        except TimeoutError:
            pass
        return received, end

    def answers(self, connection, scenario):
        """Until as many answers are whole as are waited for, or the connection ends."""
        received = b""
        connection.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                piece = connection.recv(262144)
            except ConnectionResetError:
                return received, "reset"
            except TimeoutError:
                break
            if not piece:
                return received, "ended"
            received += piece
            if whole(received, scenario) >= scenario.get("answers", 1):
                # Does it end by itself?
                ready, _, _ = select.select([connection], [], [], 0.15)
                if not ready:
                    return received, "open"
        return received, "silent"


def whole(received, scenario):
    """How many answers are complete."""
    count, rest = 0, received
    while b"\r\n\r\n" in rest:
        head, rest = rest.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ")[1]) if len(head.split(b" ")) > 1 and head.split(b" ")[1].isdigit() else 0
        if 100 <= status < 200 and status != 101:
            continue
        lowered = head.lower()
        length = re.search(rb"\r\ncontent-length: *(\d+)", lowered)
        bodiless = scenario["sends"].startswith(b"HEAD") or status in (101, 204, 304)
        if bodiless:
            count += 1
        elif b"transfer-encoding: chunked" in lowered:
            if not rest.endswith(b"0\r\n\r\n"):
                return count
            return count + 1
        elif length:
            if len(rest) < int(length[1]):
                return count
            rest = rest[int(length[1]):]
            count += 1
        else:
            return count
    return count


class Proxy:
    """One of the two, in the pod's namespace as the user that is not redirected."""

    def __init__(self, name, command, ready):
        self.name, self.lines = name, []
        self.process = subprocess.Popen(
            inside(POD, "setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "--pdeathsig=KILL", "--", *command),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        threading.Thread(target=self.read, daemon=True).start()
        self.errors = []
        threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True).start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            done = subprocess.run(inside(POD, "curl", "-fs", "-o", "/dev/null", ready), check=False)
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise SystemExit(f"{name} does not become ready:\n{''.join(self.errors[-20:])}")

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def logged(self, before, count):
        """The lines of the scenario that has just been played."""
        deadline = time.monotonic() + PATIENCE
        while len(self.lines) < before + count and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.12)
        return self.lines[before:]

    def stop(self):
        self.process.kill()
        self.process.wait()


def split_answer(received, scenario):
    if "sends" not in scenario:
        return {"bytes": received.decode("latin-1")}
    if not received:
        return {"status": None}
    parts = received.split(b"\r\n\r\n")
    while len(parts) > 1 and parts[0].split(b" ")[1:2] and parts[0].split(b" ")[1][:1] == b"1" and parts[0].split(b" ")[1] != b"101":
        parts = parts[1:]
    head, body = parts[0].decode("latin-1"), b"\r\n\r\n".join(parts[1:]).decode("latin-1")
    lines = head.split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    ours = {name: fields[name] for name in ("location", "x-server", "x-envoy-overloaded") if name in fields}
    words = lines[0].split(" ")
    return {"status": words[1] if len(words) > 1 else lines[0], "fields": ours, "body": normal_body(body)}


def normal_body(body):
    # An echoed head: the fields that the proxies themselves add, and the order of all, are nobody's business here.
    if " HTTP/1.1\r\n" in body:
        lines = body.split("\r\n")
        own = ("x-forwarded-proto", "x-envoy-expected", "x-envoy-attempt", "x-envoy-original-path")
        kept = sorted(line.lower() for line in lines[1:] if not line.lower().startswith(own))
        kept = [re.sub(r"^(x-request-id: )[0-9a-f-]{36}$", r"\1UUID", line) for line in kept]
        return "\n".join([lines[0], *kept])
    # The head of a second answer.
    return re.sub(r"HTTP/1\.1 (\d+) [^\r]*\r\n(?:[^\r\n]+\r\n)*\r\n", r" \1 ", body)


def normal_log(line):
    text = {key: str(line.get(key)) if line.get(key) is not None else "-" for key in configuration.LOG_KEYS}
    details = text["response_code_details"]
    text["response_code_details"] = re.sub(r"\|.*}", "}", details)
    text["connection_termination_details"] = text["connection_termination_details"].split(":")[0]
    reason = text.pop("upstream_transport_failure_reason")
    text["transport_failed"] = str(reason not in ("-", "None", ""))
    text["upstream_service_time"] = "-" if text["upstream_service_time"] in ("-", "None") else "N"
    if re.fullmatch(r"[0-9a-f-]{36}", text["request_id"]):
        text["request_id"] = "UUID"
    return text


def outcomes(proxy, application):
    found = {}
    for scenario in scenarios.SCENARIOS:
        before = len(proxy.lines)
        outcome = application.play(scenario)
        count = 2 if scenario.get("beside") is not None else scenario.get("answers", 1)
        lines = proxy.logged(before, count)
        # Whoever comes second to a limit is logged first.
        logs = sorted((normal_log(line) for line in lines), key=lambda one: one["response_flags"])
        found[scenario["name"]] = {"end": outcome["end"], **split_answer(outcome["received"], scenario), "lines": len(logs)}
        for index, log in enumerate(logs[:2]):
            found[scenario["name"]].update({f"log{index}.{key}": value for key, value in log.items()})
        if " HTTP/1.1\n" in str(found[scenario["name"]].get("body")):
            # Of an echo that has other fields in it.
            found[scenario["name"]].pop("log0.bytes_sent", None)
    return found


def meant(name, key):
    for start, fields in scenarios.DELIBERATE.items():
        if name.startswith(start):
            reason = fields.get(key.split(".")[-1]) or fields.get("*")
            if reason:
                return reason
    return None


def compare(ours, theirs, verbose):
    equal, deliberate, faults = 0, [], []
    for name, own in ours.items():
        differences, reasons = [], set()
        for key in {**own, **theirs[name]}:
            pair = own.get(key), theirs[name].get(key)
            if pair[0] != pair[1]:
                reason = meant(name, key)
                reasons.add(reason)
                if reason is None:
                    differences.append(f"    {key}: egret {pair[0]!r}, Envoy {pair[1]!r}")
        if differences:
            faults.append("\n".join([name, *differences]))
        elif reasons:
            deliberate.append(f"{name}: {'; '.join(sorted(reasons))}")
        else:
            equal += 1
    if verbose:
        print("\n".join(deliberate))
    print("\n".join(faults))
    print(f"{len(ours)} scenarios: {equal} equal, {len(deliberate)} different on purpose, {len(faults)} different")
    return not faults


def main():
    egret, envoy = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    if os.geteuid() != 0:
        raise SystemExit("make differential needs root: it makes network namespaces")
    make_network()
    try:
        with tempfile.TemporaryDirectory(prefix="egret-diff-") as text:
            folder = Path(text)
            folder.chmod(0o755)
            make_certificates(folder)
            (folder / "egret.yaml").write_text(configuration.of_istio(folder))
            (folder / "envoy.json").write_text(configuration.of_envoy(folder))
            server = subprocess.Popen(inside(OUTSIDE, sys.executable, str(HERE / "servers.py"), text), stdout=subprocess.PIPE, text=True)
            server.stdout.readline()
            run(*inside(POD, str(egret), "init"))
            commands = {
                "egret": ([str(egret), "run", "--config", str(folder / "egret.yaml")], "http://127.0.0.1:15021/healthz/ready"),
                "Envoy": ([str(envoy), "-c", str(folder / "envoy.json"), "--concurrency", "1", "--file-flush-interval-msec", "20", "--log-level", "error"], "http://127.0.0.1:15000/ready"),
            }
            application, found = None, {}
            for name, (command, ready) in commands.items():
                proxy = Proxy(name, command, ready)
                application = application or Application()
                try:
                    found[name] = outcomes(proxy, application)
                finally:
                    proxy.stop()
            server.kill()
            is_equal = compare(found["egret"], found["Envoy"], "--verbose" in sys.argv)
    finally:
        remove_network()
    sys.exit(0 if is_equal else 1)


if __name__ == "__main__":
    main()
