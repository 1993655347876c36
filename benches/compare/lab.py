"""The place of a measurement: an origin's namespace, a pod's namespace for each proxy, certificates, and processes in them.

It knows nothing of loads. Every proxy has a pod of its own, so that nothing has to be switched between two cells.
"""

import os
import resource
import shutil
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ORIGIN = "egb-origin"
# host → the origin's address that serves it
HOSTS = {
    "bench.test": "10.91.0.1",
    "resumed.bench.test": "10.91.0.1",
    "full.bench.test": "10.91.0.2",
    "wrong.bench.test": "10.91.0.1",
    "untrusted.bench.test": "10.91.0.3",
}
CERTIFIED = ("bench.test", "resumed.bench.test", "full.bench.test")
PROXY_UID = 1337
CLIENT_UID = 1000
DESCRIPTORS = 65536
# 9,000 connections and a proxy's own, with room for as many upstream connections as the other loads have.
MIN_DESCRIPTORS = 19500


class LabError(Exception):
    """Something that a run needs is not there or does not work; the message says what."""


def sh(*command, feed=None, netns=None):
    """Runs a command to its end and returns what it printed."""
    command = [*(("ip", "netns", "exec", netns) if netns else ()), *command]
    done = subprocess.run(command, input=feed, text=True, capture_output=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def fill(template, /, **values):
    """A configuration file of peers/ with its @names@ replaced."""
    with open(os.path.join(HERE, "peers", template), encoding="utf-8") as file:
        text = file.read()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


def until(what, condition, patience=20):
    """Waits for a condition; it is an error that it does not come true."""
    deadline = time.monotonic() + patience
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {patience} s")
        time.sleep(0.05)
    return result


def raise_descriptor_limit():
    """Lets this process and its children have enough descriptors for 9,000 connections and their upstreams."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = hard if hard == resource.RLIM_INFINITY else max(hard, DESCRIPTORS)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, enough))
    except ValueError:
        if hard < MIN_DESCRIPTORS:
            raise LabError(f"RLIMIT_NOFILE is {hard}; {MIN_DESCRIPTORS} are needed, and may not be set here") from None
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Lab:
    """Use as a context manager: what it made is gone at its end."""

    def __init__(self):
        self.run = tempfile.mkdtemp(prefix="egret-bench-")
        self.namespaces = []
        self.processes = []
        self.origin = None

    def __enter__(self):
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            self.stop(process)
        for name in self.namespaces:
            subprocess.run(["ip", "netns", "del", name], check=False)
            shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)
        shutil.rmtree(self.run, ignore_errors=True)

    def _set_up(self):
        raise_descriptor_limit()
        os.chmod(self.run, 0o755)
        self._namespace(ORIGIN)
        for address in sorted(set(HOSTS.values())):
            sh("ip", "-n", ORIGIN, "addr", "add", f"{address}/32", "dev", "lo")
        self._certificates()
        www = os.path.join(self.run, "www")
        os.mkdir(www)
        for name, body in (("small", b"hello, world\n"), ("64k", os.urandom(1 << 16)), ("1m", os.urandom(1 << 20))):
            with open(os.path.join(www, name), "wb") as file:
                file.write(body)
        self.write("origin-locations.conf", fill("origin-locations.conf", run=self.run))
        config = self.write("origin.conf", fill("origin.conf", run=self.run))
        self.origin = self.start(ORIGIN, ["nginx", "-e", "stderr", "-c", config], "origin", core=0)

    def _namespace(self, name):
        if name in sh("ip", "netns", "list").split():
            raise LabError(f"network namespace {name} exists already: another run, or one that was killed (ip netns del {name})")
        sh("ip", "netns", "add", name)
        self.namespaces.append(name)
        sh("ip", "-n", name, "link", "set", "lo", "up")

    def pod(self, number, name):
        """A pod's namespace, joined to the origin's, in which the hosts have names."""
        pod, inside, outside = f"egb-{name}", f"egb{number}a", f"egb{number}b"
        self._namespace(pod)
        sh("ip", "link", "add", inside, "netns", pod, "type", "veth", "peer", "name", outside, "netns", ORIGIN)
        sh("ip", "-n", pod, "addr", "add", f"10.91.{number}.2/24", "dev", inside)
        sh("ip", "-n", ORIGIN, "addr", "add", f"10.91.{number}.1/24", "dev", outside)
        sh("ip", "-n", pod, "link", "set", inside, "up")
        sh("ip", "-n", ORIGIN, "link", "set", outside, "up")
        sh("ip", "-n", pod, "route", "add", "default", "via", f"10.91.{number}.1")
        # A client's ports: enough for a connection per request at full speed.
        sh("sysctl", "-qw", "net.ipv4.ip_local_port_range=16384 65000", "net.ipv4.tcp_tw_reuse=1", netns=pod)
        os.makedirs(f"/etc/netns/{pod}", exist_ok=True)
        with open(f"/etc/netns/{pod}/hosts", "w", encoding="utf-8") as file:
            file.writelines(f"{address} {host}\n" for host, address in HOSTS.items())
        return pod

    def _certificates(self):
        for authority, leaf in (("ca", "server"), ("stranger", "untrusted")):
            base = os.path.join(self.run, authority)
            self._key(authority)
            sh("openssl", "req", "-x509", "-new", "-key", f"{base}.key", "-subj", f"/CN={authority}", "-days", "9",
               "-out", f"{base}.crt")
            names = CERTIFIED if leaf == "server" else ("untrusted.bench.test",)
            extensions = self.write(f"{leaf}.ext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names))
            self._key(leaf)
            out = os.path.join(self.run, leaf)
            sh("openssl", "req", "-new", "-key", f"{out}.key", "-subj", f"/CN={names[0]}", "-out", f"{out}.csr")
            sh("openssl", "x509", "-req", "-in", f"{out}.csr", "-CA", f"{base}.crt", "-CAkey", f"{base}.key",
               "-set_serial", "7", "-days", "9", "-extfile", extensions, "-out", f"{out}.crt")

    def _key(self, name):
        path = os.path.join(self.run, f"{name}.key")
        sh("openssl", "ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", path)
        # Of no use to anybody, and the origin reads it as another user in some set-ups.
        os.chmod(path, 0o644)

    def write(self, name, text):
        """Writes a file that every user can read into the run's folder."""
        path = os.path.join(self.run, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def start(self, netns, command, name, uid=0, core=None, **pipes):
        """Starts a process in a namespace, as a user, on a core; stderr goes to a file of the run's folder."""
        prefix = ["ip", "netns", "exec", netns]
        if core is not None:
            prefix += ["taskset", "-c", str(core)]
        if uid:
            prefix += ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        with open(os.path.join(self.run, f"{name}.stderr"), "a", encoding="utf-8") as errors:
            process = subprocess.Popen([*prefix, *command], stdout=pipes.pop("stdout", subprocess.DEVNULL),
                                       stderr=errors, cwd=self.run, **pipes)
        self.processes.append(process)
        return process

    def stop(self, process):
        """Ends a process of this lab, and waits for its end."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def said(self, name):
        """The last that a process wrote to stderr."""
        with open(os.path.join(self.run, f"{name}.stderr"), encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]
