"""Loads of HTTP/2 and gRPC: h2load as the generator, servers that speak HTTP/2, the proxies set up for it, and the table.

Cells, rounds and noise are those of `loads` and `measure`; what is here is what differs in HTTP/2.
"""

import os
import re
import struct
import subprocess
from dataclasses import dataclass
from itertools import product
from statistics import median

import loads
import measure
import proxies
from lab import CLIENT_UID, HOSTS, ORIGIN, PROXY_UID, Lab, LabError, fill, sh
from loads import KIB, MIB
from measure import Load

# What the application dials. The policy of egret (peers/http2-egret.yaml) and the rules below say where each leads.
GRPC, PLAIN, UPGRADED, HTTP1 = 80, 81, 82, 83
PEER_RULES = """table ip bench {
    chain output {
        type nat hook output priority -100;
        meta skuid %d return
        tcp dport 80 redirect to :15001
        tcp dport 81 redirect to :15002
        tcp dport 82 redirect to :15003
    }
}
""" % PROXY_UID
MESSAGES = 1024
HELLO = b"\0" + struct.pack(">I", 8) + b"\x0a\x06egret!"


@dataclass
class Http2Load(Load):
    """What h2load is asked to do: `streams` at a time on each connection."""

    streams: int = 1
    # A file of the run's folder that is sent as the request's body.
    sends: str = ""
    # Bytes of body in each answer: an answer without them is an error, whatever its status.
    answer: int = len(HELLO)
    # How many units the cost is divided by for each answer: messages, where the load is about them.
    units: int = 1


CALL, BYTES = f"http://bench.test:{GRPC}/call.grpc", f"http://bench.test:{PLAIN}"
LOADS = [
    Http2Load("unary", "unary calls of 13 bytes, 16 connections × 8 streams", 16, CALL, streams=8, sends="hello"),
    Http2Load("unary-1", "the same, one stream", 1, CALL, sends="hello"),
    Http2Load("messages", "messages of 1 KiB in streams of 1,024, 16 streams: CPU of a message, p50 of a stream", 4, f"{BYTES}/stream",
              streams=4, answer=MESSAGES * KIB, units=MESSAGES),
    Http2Load("h2-1m", "answers of 1 MiB, 16 streams", 4, f"{BYTES}/1m", streams=4, answer=MIB),
    Http2Load("h2-up-1m", "calls that send 1 MiB, 16 streams", 4, CALL, streams=4, sends="www/1m"),
]
# By wrk, in HTTP/1.1: what `h2UpgradePolicy: UPGRADE` costs beside the same to servers of HTTP/1.1.
OVER_HTTP2 = Load("upgraded", "`ka`, HTTP/2 to the server (`UPGRADE`)", 64, f"http://bench.test:{UPGRADED}/small")
OVER_HTTP1 = Load("ka", "64 keep-alive connections, 13-byte answers", 64, f"http://bench.test:{HTTP1}/small")
# load, what of it (CPU time or latency), beside whom, the ratio aimed for
AIMS = [("unary", "cpu_us", ("envoy",), 0.35), ("unary", "cpu_us", ("nginx", "haproxy"), 0.75),
        ("unary-1", "p50_us", ("envoy",), 0.70), ("messages", "cpu_us", ("envoy",), 0.40),
        ("h2-1m", "cpu_us", ("nginx", "haproxy", "envoy"), 0.80)]
UPGRADED_AIM = 0.65


class Http2Lab(Lab):
    """The lab, with two servers more: nginx of peers/http2-origin.conf, and nghttpd for calls that send a message.

    nghttpd is a server of gRPC for what a proxy sees of one: it reads the message, answers with one, and the status is a
    trailer. It does not look into the message.
    """

    def _set_up(self):
        super()._set_up()
        www = os.path.join(self.run, "www")
        message = b"\0" + struct.pack(">I", KIB - 5) + os.urandom(KIB - 5)
        for path, body in (("hello", HELLO), ("www/call.grpc", HELLO), ("www/stream", message * MESSAGES)):
            with open(os.path.join(self.run, path), "wb") as file:
                file.write(body)
        types = self.write("grpc.types", "application/grpc grpc\n")
        config = self.write("http2-origin.conf", fill("http2-origin.conf", run=self.run))
        self.start(ORIGIN, ["nginx", "-e", "stderr", "-c", config], "http2-origin", core=0)
        self.start(ORIGIN, ["nghttpd", "-a", "10.91.0.1", "-d", www, "-m", "1024", "-w", "20", "-W", "24",
                            "--no-content-length", "--trailer", "grpc-status: 0", "--mime-types-file", types, "445",
                            os.path.join(self.run, "server.key"), os.path.join(self.run, "server.crt")],
                   "nghttpd", core=0)


class Http2:
    """What the proxies have in common here: applications speak HTTP/2 by prior knowledge."""

    # Whether it takes requests in HTTP/1.1 to a server of HTTP/2.
    upgrades = True
    # The ports on which the name decides where a request goes; behind the others is one server, by one line that verifies.
    named = (GRPC,)

    def get(self, host, path, port=GRPC):
        done = subprocess.run(
            ["ip", "netns", "exec", self.pod, "setpriv", "--reuid", str(CLIENT_UID), "--regid", str(CLIENT_UID),
             "--clear-groups", "curl", "-sm5", "-w", "\n%{http_code}",
             "--http1.1" if port == UPGRADED else "--http2-prior-knowledge", f"http://{host}:{port}{path}"],
            capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def prove(self):
        """Raises unless the proxy verifies, and carries requests in HTTP/2 over connections that are used again."""
        for host, port in product(("wrong.bench.test", "untrusted.bench.test"), self.named):
            status, _ = self.get(host, "/small", port)
            if status in (0, 200):
                raise LabError(f"{self.name}: {host}:{port} must be refused with an answer, but its status is {status}")
        for port in (PLAIN, UPGRADED) if self.upgrades else (PLAIN,):
            for _ in range(3):
                status, body = self.get("bench.test", "/probe", port)
            version, requests, sni = (body.split() + ["?"] * 3)[:3]
            if status != 200 or version != "HTTP/2.0" or int(requests) < 2 or sni != "bench.test":
                raise LabError(f"{self.name}: port {port} should be HTTP/2 on a connection used again, the server saw "
                               f"{status} {body.strip()!r}")
        # nghttpd does not say what it saw, but speaks HTTP/2 alone.
        before = loads.upstream_connections(self)
        statuses = {self.get("bench.test", "/small")[0] for _ in range(10)}
        if statuses != {200} or loads.upstream_connections(self) > before:
            raise LabError(f"{self.name}: ten requests to nghttpd should use a connection again: {statuses}, connections: "
                           f"{before} before, {loads.upstream_connections(self)} after")


class Http2Peer(Http2):
    def redirect(self):
        sh("nft", "-f", "-", feed=PEER_RULES, netns=self.pod)


class Egret(Http2, proxies.Egret):
    named = (GRPC, PLAIN, UPGRADED)

    def command(self):
        folder = f"{self.name}.d"
        for number, (host, address) in enumerate(HOSTS.items()):
            text = fill("http2-egret.yaml", name=f"h{number}", host=host, address=address, run=self.lab.run)
            self.lab.write(f"{folder}/{number}.yaml", text)
        return [self.executable(), "run", "--config", os.path.join(self.lab.run, folder), "--workers",
                str(self.workers), "--engine", self.engine, "--log-level", "warn"]


class EgretOnEpoll(Egret):
    name, label, engine = "egret-epoll", "egret on epoll", "epoll"


class Nginx(Http2Peer, proxies.Nginx):
    template, upgrades = "http2-nginx.conf", False


class Haproxy(Http2Peer, proxies.Haproxy):
    template = "http2-haproxy.cfg"


class Envoy(Http2Peer, proxies.Envoy):
    template = "http2-envoy.yaml"

    def clusters(self):
        places = (("calls", "bench.test", 445), ("plain", "bench.test", 444), ("wrong", "wrong.bench.test", 445),
                  ("untrusted", "untrusted.bench.test", 445))
        return (fill("http2-envoy-cluster.yaml", name=name, host=host, address=HOSTS[host], port=port,
                     run=self.lab.run) for name, host, port in places)


PROXIES = {proxy.name: proxy for proxy in (Egret, EgretOnEpoll, Nginx, Haproxy, Envoy)}
DEFAULT = ("egret", "nginx", "haproxy", "envoy")
TOOLS = ("h2load", "nghttpd")


def h2load(proxy, load, seconds, core):
    """Runs h2load and returns figures as `measure.wrk` does.

    Large answers are counted by their bytes: the end cuts many short, and the proxy has had its work with them.
    """
    log = proxy.lab.write(f"{proxy.name}.times", "")
    os.chown(log, CLIENT_UID, CLIENT_UID)
    command = ["ip", "netns", "exec", proxy.pod, "taskset", "-c", str(core), "setpriv", "--reuid", str(CLIENT_UID),
               "--regid", str(CLIENT_UID), "--clear-groups", "h2load", "-t1", f"-c{load.connections}",
               f"-m{load.streams}", "-D", str(seconds), f"--log-file={log}", "-H", "te: trailers"]
    if load.sends:
        command += ["-H", "content-type: application/grpc", "-d", os.path.join(proxy.lab.run, load.sends)]
    done = subprocess.run([*command, load.url], capture_output=True, text=True, check=False)
    with open(log, encoding="ascii") as file:
        rows = [line.split("\t") for line in file]
    answers = sorted(int(micros) for _, status, micros in rows if status == "200")
    received = re.search(r"\((\d+)\) data$", done.stdout, re.MULTILINE)
    if done.returncode or not received:
        raise LabError(f"h2load on {proxy.name}: {done.stdout}{done.stderr}")
    # A failed call of gRPC has status 200 too, but no message.
    whole = int(received.group(1)) / load.answer
    errors = len(rows) - len(answers) + max(0, round(len(answers) - whole))
    p50, p99 = (answers[min(len(answers) - 1, len(answers) * part // 100)] if answers else 0 for part in (50, 99))
    requests = round(whole * load.units) if load.answer >= KIB else len(answers)
    return {"requests": requests, "micros": seconds * 1_000_000, "errors": errors, "p50": p50, "p99": p99}


def measured(options):
    """Measures all that is asked for in a lab of its own; returns the cells."""
    with Http2Lab() as lab:
        measure.install_script(lab)
        compared = [PROXIES[name](lab, number) for number, name in enumerate(options.only.split(","), 1)]
        for proxy in compared:
            proxy.redirect()
            proxy.start()
            proxy.prove()
            h2load(proxy, LOADS[0], 1, 0)
        runner = loads.Runner(lab, options.seconds, options.quiet, options.retries)
        upgraders = [proxy for proxy in compared if proxy.upgrades]
        egrets = [proxy for proxy in compared if proxy.name.startswith("egret")]
        for turn in range(options.rounds):
            at = turn % len(compared)
            runner.rounds(compared[at:] + compared[:at], LOADS, 1, generator=h2load)
            # Side by side, since one is judged by the other.
            runner.rounds(egrets, [OVER_HTTP1], 1)
            runner.rounds(upgraders, [OVER_HTTP2], 1)
    return runner.cells


def figure(cells, proxy, load, what):
    """The median of a figure; None where there is no quiet cell or one had errors."""
    found = [cell for cell in cells if (cell.proxy, cell.load) == (proxy, load)]
    return None if not found or any(cell.errors for cell in found) else median(getattr(cell, what) for cell in found)


def table(cells, names):
    """CPU time and latency of each load, with egret's ratio to each peer, and the aims. As Markdown."""
    peers = [name for name in names if not name.startswith("egret")]
    heads = ["load", *(PROXIES[name].label for name in names), *(f"egret : {PROXIES[name].label}" for name in peers)]
    lines = []
    for title, what in (("CPU time of the proxy per request, µs", "cpu_us"), ("Latency p50, µs", "p50_us")):
        lines += [f"**HTTP/2: {title}: medians**", "", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        for load in [*LOADS, OVER_HTTP2, OVER_HTTP1]:
            values = {name: figure(cells, name, load.name, what) for name in names}
            row = [number(values[name]) for name in names]
            row += [share(values.get("egret"), values[name]) for name in peers]
            lines.append(f"| `{load.name}` {load.label} | " + " | ".join(row) + " |")
        lines.append("")
    return "\n".join([*lines, *aims(cells)])


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def share(mine, other):
    return "–" if not mine or not other else f"{mine / other:.2f}"


def aims(cells):
    """A line for each aim: reached or missed; none where a figure is missing."""
    lines = []
    for load, what, others, aim in AIMS:
        best = min((value for value in (figure(cells, name, load, what) for name in others) if value), default=None)
        against = ", ".join(PROXIES[name].label for name in others)
        lines.append((f"`{load}`, {'p50' if what == 'p50_us' else 'CPU'}, egret : {'the best of ' * (len(others) > 1)}{against}",
                      figure(cells, "egret", load, what), best, aim))
    lines.append(("`upgraded` : `ka`, both egret", *(figure(cells, "egret", load.name, "cpu_us")
                                                     for load in (OVER_HTTP2, OVER_HTTP1)), UPGRADED_AIM))
    return [f"* {what}: {mine / best:.2f}, aim ≤ {aim:.2f} {'reached' if mine / best <= aim else 'missed'}"
            for what, mine, best, aim in lines if mine and best]
