"""The loads of a run, and the order in which they are put on the proxies."""

import os
import sys
import subprocess
import time

import measure
from lab import HERE, ORIGIN, LabError, CLIENT_UID, sh, until
from measure import Load

KIB, MIB = 1 << 10, 1 << 20
HTTP, TLS = "http://bench.test", "https://bench.test"

LOADS = [
    Load("ka", "64 keep-alive connections, 13-byte answers", 64),
    Load("close", "a connection per request, upstream pooled", 16, close=True),
    Load("1", "one connection", 1),
    Load("64k", "answers of 64 KiB, 32 connections", 32, f"{HTTP}/64k", body=64 * KIB),
    Load("1m", "answers of 1 MiB, 16 connections", 16, f"{HTTP}/1m", body=MIB),
    Load("up-64k", "uploads of 64 KiB, 32 connections", 32, f"{HTTP}/upload", upload=64 * KIB, body=64 * KIB),
    Load("up-1m", "uploads of 1 MiB, 16 connections", 16, f"{HTTP}/upload", upload=MIB, body=MIB),
    Load("tls-ka", "the application's own TLS passed through, 64 connections", 64, f"{TLS}/small"),
    Load("tls-1m", "the same, answers of 1 MiB, 16 connections", 16, f"{TLS}/1m", body=MIB),
    Load("full", "a full handshake per request", 16, "http://full.bench.test/small"),
    Load("resumed", "a resumed handshake per request", 16, "http://resumed.bench.test/small"),
]
# By the number of idle connections.
IDLE = {count: Load(f"ka+{count}", f"ka beside {count:,} idle connections", 64) for count in (0, 1000, 9000)}
FEW_HOSTS = Load("ka-few", "ka, the usual policy", 64)
MANY_HOSTS = Load("ka-10k", "ka, one of 10,000 hosts in the policy", 64)
WORKERS = Load("ka-2w", "ka, two workers, not pinned", 64)
MEMORY_CLIENTS = 1000


class Runner:
    """Runs cells until they are quiet, and keeps all results."""

    def __init__(self, lab, seconds, quiet, retries):
        self.lab, self.seconds, self.quiet, self.retries = lab, seconds, quiet, retries
        self.cells = []
        self.dropped = 0

    def cell(self, proxy, load, **options):
        """Measures once; again while other processes take too much of the machine, up to the bound."""
        for left in range(self.retries, -1, -1):
            cell = measure.run(self.lab, proxy, load, self.seconds, **options)
            noisy = cell.foreign > self.quiet
            say(f"{load.name:8} {proxy.name:9} {cell.cpu_us:9.1f} µs  p50 {cell.p50_us:7.0f}  p99 {cell.p99_us:8.0f}  "
                f"{cell.rate:9.0f}/s  others {cell.foreign:.2f}" + f"  errors {cell.errors}" * bool(cell.errors)
                + ("  dropped" if noisy else ""))
            if not noisy:
                self.cells.append(cell)
                return
            self.dropped += 1
            if left:
                time.sleep(min(2, self.seconds))

    def rounds(self, proxies, loads, rounds, **options):
        """Every load on every proxy, in turn, beginning with another proxy each round."""
        for number in range(rounds):
            for load in loads:
                at = number % len(proxies)
                for proxy in proxies[at:] + proxies[:at]:
                    self.cell(proxy, load, **options)


class Holder:
    """The application of hold.py in a proxy's pod."""

    def __init__(self, lab, proxy):
        self.lab = lab
        script = os.path.join(lab.run, "hold.py")
        if not os.path.exists(script):
            with open(os.path.join(HERE, "hold.py"), encoding="utf-8") as file:
                lab.write("hold.py", file.read())
        python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
        self.process = lab.start(proxy.pod, [python, script], "hold", uid=CLIENT_UID, core=0,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def order(self, command):
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "done\n":
            self.process.wait(10)
            raise LabError(f"holding connections, {command!r}: {self.lab.said('hold')}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.lab.stop(self.process)
        self.process.stdout.close()


def upstream_connections(proxy):
    """How many connections the origin has from a pod."""
    return len(sh("ss", "-Htn", "state", "established", "dst", f"10.91.{proxy.number}.2", netns=ORIGIN).splitlines())


def memory(lab, proxies):
    """Each proxy's memory at the start, per idle client, per warm upstream connection, from fresh processes. In KiB."""
    rows = []
    for proxy in proxies:
        proxy.start()
        pid = proxy.process.pid
        start = pss_at_rest(pid)
        with Holder(lab, proxy) as holder:
            holder.order(f"open {MEMORY_CLIENTS}")
            idle, before = pss_at_rest(pid), upstream_connections(proxy)
            holder.order("all /slow")
            warm, after = pss_at_rest(pid), upstream_connections(proxy)
        if after - before < MEMORY_CLIENTS // 2:
            raise LabError(f"{proxy.name}: {after} upstream connections, {before} before: they are not kept")
        rows.append({"proxy": proxy.name, "start": start, "per_client": round((idle - start) / MEMORY_CLIENTS, 2),
                     "per_upstream": round((warm - idle) / (after - before), 2), "upstreams": after})
        say(f"memory   {proxy.name:9} start {start} KiB, client {rows[-1]['per_client']} KiB, "
            f"upstream {rows[-1]['per_upstream']} KiB ({after} connections)")
        proxy.stop()
        until(f"{proxy.name} has let go", lambda: upstream_connections(proxy) == 0)
    return rows


def pss_at_rest(pid):
    """The memory once it has not changed for some seconds: what a burst left over may take a moment to be returned."""
    last, since = [measure.pss_kib(pid)], [time.monotonic()]

    def unchanged():
        time.sleep(0.5)
        now = measure.pss_kib(pid)
        if abs(now - last[0]) >= 64:
            last[0], since[0] = now, time.monotonic()
        return time.monotonic() - since[0] >= 4

    until("memory comes to rest", unchanged)
    return last[0]


def beside_idle(runner, proxies, rounds, counts):
    """The ka load beside more and more idle connections of the application, from none again each round."""
    for _ in range(rounds):
        for proxy in proxies:
            with Holder(runner.lab, proxy) as holder:
                for count in counts:
                    holder.order(f"open {count}")
                    runner.cell(proxy, IDLE[count])


def by_policy(runner, few, many, rounds):
    """The ka load on two that differ in how many hosts their policies have."""
    # Not measured: fills the pool of one that has just been started.
    measure.wrk(many, MANY_HOSTS, 1, 0)
    for _ in range(rounds):
        runner.cell(few, FEW_HOSTS)
        runner.cell(many, MANY_HOSTS)


def by_workers(runner, proxies, rounds):
    """The ka load on two workers, the proxy and the load sharing all cores as the kernel likes."""
    for proxy in proxies:
        proxy.stop()
        proxy.start(workers=2)
        # Not measured: fills the pools of both workers.
        measure.wrk(proxy, WORKERS, 1, None)
    runner.rounds(proxies, [WORKERS], rounds, core=None)


def say(line):
    print(line, flush=True)
