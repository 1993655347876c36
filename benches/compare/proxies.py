"""The proxies that are compared: how each is configured and started, and the proof that it does the same work.

A proxy that does not verify, does not reuse, or reuses where it must not, would win for nothing: `prove` asks the
origin what it saw, and checks that servers that must not be trusted are not.
"""

import os
import shutil
import subprocess
import sys

from lab import HOSTS, LabError, CLIENT_UID, PROXY_UID, fill, sh, until

POOL_OFF = ("resumed.bench.test", "full.bench.test")
NGINX_MODULES = "/usr/lib/nginx/modules"
PEER_RULES = """table ip bench {
    chain output {
        type nat hook output priority -100;
        meta skuid %d return
        tcp dport 80 redirect to :15001
        tcp dport 443 redirect to :15002
    }
}
""" % PROXY_UID


class Proxy:
    """One proxy in its pod. Subclasses say how it is set up."""

    name = ""
    label = ""

    def __init__(self, lab, number, workers=1):
        self.lab, self.number, self.workers = lab, number, workers
        self.pod = lab.pod(number, self.name)
        self.process = None

    def redirect(self):
        """Has the pod's connections redirected."""
        sh("nft", "-f", "-", feed=PEER_RULES, netns=self.pod)

    def command(self):
        """Writes the configuration; returns what to execute."""
        raise NotImplementedError

    @classmethod
    def version(cls):
        raise NotImplementedError

    def start(self, workers=1):
        """Starts the proxy and waits until a request comes through. One worker has core 1; more have all cores."""
        self.workers = workers
        core = 1 if workers == 1 else None
        self.process = self.lab.start(self.pod, self.command(), self.name, uid=PROXY_UID, core=core)
        try:
            until(f"{self.name} serves", lambda: self._is_alive() and self.get("bench.test", "/small")[0] == 200)
        except LabError as error:
            raise LabError(f"{self.name}: {error}\n{self.lab.said(self.name)}") from None

    def _is_alive(self):
        if self.process.poll() is not None:
            raise LabError(f"it ended with {self.process.returncode}")
        return True

    def stop(self):
        if self.process:
            self.lab.stop(self.process)
            self.process = None

    def get(self, host, path):
        """One request of an application: status (0: none) and body."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.pod, "setpriv", "--reuid", str(CLIENT_UID), "--regid", str(CLIENT_UID),
             "--clear-groups", "curl", "-sm5", "-w", "\n%{http_code}", f"http://{host}{path}"],
            capture_output=True, text=True, check=False)
        body, _, status = done.stdout.rpartition("\n")
        return int(status or 0), body

    def prove(self):
        """Raises unless the proxy verifies, reuses and resumes as the loads suppose."""
        for host in ("wrong.bench.test", "untrusted.bench.test"):
            status, _ = self.get(host, "/small")
            if status in (0, 200):
                raise LabError(f"{self.name}: {host} must be refused with an answer, but its status is {status}")
        for host, expected in (("bench.test", (None, True)), ("resumed.bench.test", ("r", False)),
                               ("full.bench.test", (".", False))):
            for _ in range(3):
                status, body = self.get(host, "/probe")
            resumed, requests, sni = (body.split() + ["?"] * 3)[:3]
            seen = (resumed, int(requests) > 1) if status == 200 else None
            fits = seen and expected[0] in (None, seen[0]) and expected[1] == seen[1] and sni == host
            if not fits:
                raise LabError(f"{self.name}: {host} should be (resumed, reused) = {expected}, the origin saw "
                               f"{status} {body.strip()!r}")


class Egret(Proxy):
    """The release build, redirected to by its own `egret init`."""

    name = label = "egret"
    engine = "uring"
    binary = ""
    other_hosts = 0

    def redirect(self):
        sh(self.executable(), "init", netns=self.pod)

    def executable(self):
        path = os.path.join(self.lab.run, "egret")
        if not os.path.exists(path):
            shutil.copy(self.binary, path)
            os.chmod(path, 0o755)
        return path

    def command(self):
        folder = f"{self.name}.d"
        for number, (host, address) in enumerate(HOSTS.items()):
            off = "\n        connectionPool: { http: { maxRequestsPerConnection: 1 } }"
            text = fill("egret.yaml", name=f"h{number}", host=host, address=address, run=self.lab.run,
                        pool=off if host in POOL_OFF else "")
            self.lab.write(f"{folder}/{number}.yaml", text)
        others = (fill("egret.yaml", name=f"o{n}", host=f"host-{n}.other.test", address=f"10.92.{n >> 8}.{n & 255}",
                       run=self.lab.run, pool="") for n in range(self.other_hosts))
        self.lab.write(f"{folder}/others.yaml", "".join(others))
        return [self.executable(), "run", "--config", os.path.join(self.lab.run, folder), "--workers",
                str(self.workers), "--engine", self.engine, "--log-level", "warn"]

    @classmethod
    def version(cls):
        return sh(cls.binary, "--version").strip()


class EgretOnEpoll(Egret):
    """The same where io_uring is forbidden."""

    name, label, engine = "egret-epoll", "egret on epoll", "epoll"


class EgretOfManyHosts(Egret):
    name, label, other_hosts = "egret10k", "egret, 10,000 hosts", 10_000 - len(HOSTS)


class Nginx(Proxy):
    name = label = "nginx"
    template = "nginx.conf"

    def command(self):
        folder = os.path.join(self.lab.run, "nginx")
        os.makedirs(folder, exist_ok=True)
        os.chown(folder, PROXY_UID, PROXY_UID)
        shutil.copy(os.path.join(self.lab.run, "ca.crt"), folder)
        text = fill(self.template, run=folder, workers=self.workers, modules=NGINX_MODULES)
        return ["nginx", "-e", "stderr", "-c", self.lab.write("nginx.conf", text)]

    @classmethod
    def version(cls):
        done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
        return done.stderr.strip().removeprefix("nginx version: ")


class Haproxy(Proxy):
    name, label = "haproxy", "HAProxy"
    template = "haproxy.cfg"

    def command(self):
        config = self.lab.write("haproxy.cfg", fill(self.template, run=self.lab.run, workers=self.workers))
        return ["haproxy", "-db", "-f", config]

    @classmethod
    def version(cls):
        return " ".join(sh("haproxy", "-v").split()[:3])


class Envoy(Proxy):
    name, label = "envoy", "Envoy"
    template = "envoy.yaml"
    binary = ""

    def clusters(self):
        """The servers, as the configuration's clusters."""
        return (
            fill("envoy-cluster.yaml", name=host.split(".")[0] if host != "bench.test" else "pooled", host=host,
                 address=address, run=self.lab.run,
                 limit=", max_requests_per_connection: 1" if host in POOL_OFF else "")
            for host, address in HOSTS.items())

    def command(self):
        text = fill(self.template, clusters="".join(self.clusters()).rstrip("\n"))
        return [self.binary, "-c", self.lab.write("envoy.yaml", text), "--concurrency", str(self.workers),
                "--log-level", "error", "--disable-hot-restart"]

    @classmethod
    def version(cls):
        # "…version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
        return "envoy " + sh(cls.binary, "--version").split("version: ")[-1].strip().split("/")[1]


PROXIES = {proxy.name: proxy for proxy in (Egret, EgretOnEpoll, Nginx, Haproxy, Envoy)}


def check_tools(names, *tools):
    """Raises with all that is missing and how to get it; some loads need further tools."""
    missing = [tool for tool in ("ip", "nft", "wrk", "curl", "openssl", "taskset", "setpriv", "nginx", "ss",
                             "rsvg-convert", *tools) if not shutil.which(tool)]
    if "haproxy" in names and not shutil.which("haproxy"):
        missing.append("haproxy")
    if "nginx" in names and not os.path.exists(f"{NGINX_MODULES}/ngx_stream_module.so"):
        missing.append("nginx's stream module")
    if "envoy" in names and not os.access(Envoy.binary, os.X_OK):
        missing.append("Envoy")
    if missing:
        sys.exit(f"missing: {', '.join(missing)}. `scripts/setup --bench` installs them.")
    if os.geteuid() != 0:
        sys.exit("needs root, for network namespaces")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("needs two cores: one for the proxy, one for the load")
