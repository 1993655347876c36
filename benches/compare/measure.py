"""One cell of the table: a load on a proxy, and what it cost. Refuses to know what cells there are."""

import json
import os
import re
import resource
import subprocess
import time
from dataclasses import dataclass, asdict

from lab import HERE, CLIENT_UID, LabError

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Load:
    """What wrk is asked to do."""

    name: str
    label: str
    connections: int
    url: str = "http://bench.test/small"
    close: bool = False
    upload: int = 0
    # Bytes of body a request moves, if the load is about bytes.
    body: int = 0


@dataclass
class Cell:
    """Figures of one run of a load. Times in microseconds, CPU times a request; `foreign` in cores."""

    proxy: str
    load: str
    requests: int
    errors: int
    cpu_us: float
    p50_us: float
    p99_us: float
    rate: float
    foreign: float
    # Of the load generator, in whose time a part of the kernel's work for the connection is done.
    generator_us: float

    def as_dict(self):
        return asdict(self)


def tree(pid):
    """A process and its descendants."""
    pids = [pid]
    for parent in pids:
        try:
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as file:
                    pids += [int(child) for child in file.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pids


def threads_ns(pid):
    """CPU time of each thread of a process, user and system, by its number."""
    times = {}
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return times
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                times[task] = int(file.read().split()[0])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return times


def cpu_ns(pid):
    """CPU time of a process and its descendants: all their threads."""
    return sum(sum(threads_ns(each).values()) for each in tree(pid))


def pss_kib(pid):
    """Memory of a process and its descendants: what they share with others counts by its share."""
    total = 0
    for each in tree(pid):
        with open(f"/proc/{each}/smaps_rollup", encoding="ascii") as file:
            total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.MULTILINE).group(1))
    return total


def softirq_threads():
    """The kernel's threads that handle packets when nobody's time slice does: work that the load causes."""
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm", encoding="utf-8") as file:
                    if file.read().startswith("ksoftirqd/"):
                        pids.append(int(entry))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return pids


def machine_ns():
    """CPU time of everything on this machine, and, not in it, the time that the hypervisor gave to others."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return tuple(ticks * 1_000_000_000 // TICK for ticks in (user + nice + system + irq + softirq, steal))


def others_ns(ours):
    """CPU time by thread of all processes but `ours`."""
    others = (pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) not in ours)
    return {(pid, task): time for pid in others for task, time in threads_ns(pid).items()}


class Foreign:
    """CPU time that is not the measurement's, from now on, in nanoseconds.

    Where all processes are to be seen, theirs; what interrupts do while a core idles is then the load's. In a container,
    whatever the machine does beyond what is known to be ours.
    """

    def __init__(self, watched):
        kernel = softirq_threads()
        self.watched, self.sees_all = watched + kernel, bool(kernel)
        self.began, self.others = self.unseen(), self.processes()

    def unseen(self):
        busy, stolen = machine_ns()
        return stolen if self.sees_all else busy + stolen - own_ns() - sum(cpu_ns(pid) for pid in self.watched)

    def processes(self):
        if not self.sees_all:
            return {}
        return others_ns({os.getpid()}.union(*(tree(pid) for pid in self.watched)))

    def taken(self):
        before = self.others
        others = sum(time - before.get(thread, 0) for thread, time in self.processes().items())
        return max(0, self.unseen() - self.began + others)


def own_ns():
    """CPU time of this process and of its children that have ended (the load generator)."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return int(sum(usage.ru_utime + usage.ru_stime for usage in usages) * 1e9)


def run(lab, proxy, load, seconds, core=0, generator=None):
    """Puts a load on a proxy for some seconds and returns its Cell. The generator is `wrk` unless another is given."""
    foreign = Foreign([process.pid for process in lab.processes])
    cpu, own, began = cpu_ns(proxy.process.pid), own_ns(), time.monotonic()
    figures = (generator or wrk)(proxy, load, seconds, core)
    own, cpu = own_ns() - own, cpu_ns(proxy.process.pid) - cpu
    foreign, took = foreign.taken() / 1e9, time.monotonic() - began
    requests = figures["requests"]
    # Nothing came through: as wrong as an answer can be.
    errors = figures["errors"] if requests else max(1, figures["errors"])
    return Cell(proxy.name, load.name, requests, errors, round(cpu / 1000 / max(1, requests), 2), figures["p50"],
                figures["p99"], round(requests / (figures["micros"] / 1e6), 1),
                round(foreign / took, 3), round(own / 1000 / max(1, requests), 2))


def wrk(proxy, load, seconds, core):
    command = ["ip", "netns", "exec", proxy.pod]
    command += ["taskset", "-c", str(core)] if core is not None else []
    command += ["setpriv", "--reuid", str(CLIENT_UID), "--regid", str(CLIENT_UID), "--clear-groups"]
    command += ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-H", "Connection: close"] if load.close else []
    command += ["-s", os.path.join(proxy.lab.run, "load.lua"), load.url, "--", str(load.upload)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise LabError(f"wrk on {proxy.name}: {done.stdout}{done.stderr}") from None


def install_script(lab):
    """Puts wrk's script where its user can read it."""
    with open(os.path.join(HERE, "load.lua"), encoding="utf-8") as file:
        lab.write("load.lua", file.read())
