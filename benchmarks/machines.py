"""Machines of one kernel for `benchmarks.two_machines`, on one bridge; one has Postgres and a Prefect server.

Each is a network namespace with its own address, host name and process table. All of it ends with the block. Root's.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from slidesieve.provenance.files import ROOT

BRIDGE, NETWORK = "br77", "10.77.0"
STARTS_SECONDS = 300
POOL = (
    ("work-pool", "create", "gpu", "--type", "process", "--base-job-template", "flows/pool.json", "--overwrite"),
    ("deploy", "--all"),
    ("automation", "create", "--from-file", "automations.yaml"),
)


def shell(*words: str | Path, **options: object) -> str:
    """Run a command and return what it printed. Raises RuntimeError with its words if it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}: {said}")
    return done.stdout


class Machine:
    """A host: what is started on it has its name and address, sees its own processes only, and ends when power does."""

    def __init__(self, name: str, number: int, log: Path):
        self.name, self.address, self.log = name, f"{NETWORK}.{number}", log
        self.running: list[subprocess.Popen] = []
        outer, inner = f"v-{name}", f"e-{name}"
        shell("ip", "netns", "add", name)
        shell("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        shell("ip", "link", "set", outer, "master", BRIDGE, "up")
        shell("ip", "link", "set", inner, "netns", name)
        shell("ip", "-n", name, "addr", "add", f"{self.address}/24", "dev", inner)
        for device in (inner, "lo"):
            shell("ip", "-n", name, "link", "set", device, "up")

    def start(self, *words: str | Path, **environment: str) -> subprocess.Popen:
        """Start a command on this machine, in the repository's folder."""
        own = ("unshare", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child")
        apart = ["ip", "netns", "exec", self.name, *own]
        # the first process of the host is a shell that stays: what is started may die alone
        first = f'hostname {self.name}; "$@" & while :; do wait; sleep 1; done'
        named = ["bash", "-c", first, "sh", *map(str, words)]
        with self.log.open("a") as out:
            begun = subprocess.Popen([*apart, *named], cwd=ROOT, stdout=out, stderr=out, env=clean() | environment)
        self.running.append(begun)
        return begun

    def processes(self) -> list[psutil.Process]:
        """All that runs on it now."""
        live = (psutil.Process(begun.pid) for begun in self.running if begun.poll() is None)
        return [process for first in live for process in first.children(recursive=True)]

    def kernels(self) -> list[psutil.Process]:
        """The notebooks' processes among them."""
        return [p for p in self.processes() if p.is_running() and "ipykernel_launcher" in _words(p)]

    def kill(self, part: str) -> None:
        """SIGKILL to every process that has `part` among its words, and to no other."""
        for process in self.processes():
            if part in (words := _words(process)) and not words.startswith("bash"):
                process.kill()

    def power_off(self) -> None:
        """End all processes at once, none of them asked."""
        for begun in self.running:
            begun.send_signal(signal.SIGKILL)  # --kill-child: the first of its process table ends, and all with it
            begun.wait()
        self.running.clear()

    def cable(self, *, plugged: bool) -> None:
        """Pull the network cable, or put it back."""
        shell("ip", "link", "set", f"v-{self.name}", "up" if plugged else "down")


class Lab:
    """A server with Postgres, machines with workers, and the server's answers."""

    def __init__(self, folder: Path, names: tuple[str, ...]):
        self.folder, self.secret = folder, f"lab:{secrets.token_urlsafe(24)}"
        self.server, *self.hosts = (
            Machine(name, i, folder / f"{name}.log") for i, name in enumerate(("srv", *names), 1)
        )
        self.url = f"http://{self.server.address}:4200/api"
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent  # Debian's place
        folder.chmod(0o755)  # Postgres is another user
        self.data, password = folder / "postgres", secrets.token_hex(16)
        self.database = f"postgresql+asyncpg://postgres:{password}@{self.server.address}:5432/postgres"
        self.data.mkdir()
        given = folder / "password"
        given.write_text(password)
        for path in (self.data, given):
            shutil.chown(path, "postgres")
        rules = ("-A", "scram-sha-256", f"--pwfile={given}")
        shell("runuser", "-u", "postgres", "--", self.bin / "initdb", "-D", self.data, *rules)
        given.unlink()
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {NETWORK}.0/24 scram-sha-256\n")

    def serve(self) -> None:
        """Start Postgres and the server, and wait until it answers."""
        rules = ("-c", f"listen_addresses={self.server.address}", "-k", "")
        self.server.start("runuser", "-u", "postgres", "--", self.bin / "postgres", "-D", self.data, *rules)
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", self.server.address], check=False).returncode:
            time.sleep(0.5)
        self.server.start(*prefect("server", "start", "--host", self.server.address), **self.environment(server=True))
        self.prefect("server", "status", "--wait", "--timeout", STARTS_SECONDS)

    def deploy(self) -> None:
        """Tell the server what can be run: docs/prefect.md's commands."""
        for words in POOL:
            self.prefect(*words)

    def prefect(self, *words: object) -> None:
        """Give a command of Prefect's to the server."""
        shell(*prefect(*words), cwd=ROOT, env=clean() | self.environment())

    def work(self, host: Machine) -> None:
        """Start a worker on a machine."""
        words = ("worker", "start", "--pool", "gpu", "--limit", "1", "--no-create-pool-if-not-found")
        host.start(*prefect(*words), OMP_NUM_THREADS="1", **self.environment())

    def environment(self, *, server: bool = False) -> dict[str, str]:
        given = {"PREFECT_API_URL": self.url, "PREFECT_API_AUTH_STRING": self.secret}
        own = {"PREFECT_SERVER_API_AUTH_STRING": self.secret, "PREFECT_API_DATABASE_CONNECTION_URL": self.database}
        return given | own if server else given

    def ask(self, path: str, method: str = "POST", *, body: object = None, **fields: object) -> object:
        """Ask the server; returns its answer, None where it has no words."""
        answer = httpx.request(
            method, f"{self.url}{path}", json=body or fields or None, auth=tuple(self.secret.split(":")), timeout=60
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def close(self) -> None:
        for machine in (*self.hosts, self.server):
            machine.power_off()


@contextmanager
def lab(folder: Path, *names: str) -> Iterator[Lab]:
    """Make the machines, and take everything away at the end."""
    if os.geteuid():
        raise PermissionError("network namespaces are root's: run this as root, on a machine that may be spoilt")
    shell("ip", "link", "add", BRIDGE, "type", "bridge")
    opened = None
    try:
        shell("ip", "addr", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
        shell("ip", "link", "set", BRIDGE, "up")
        opened = Lab(folder, names)
        yield opened
    finally:
        if opened:
            opened.close()
        for name in ("srv", *names):
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)
        shell("ip", "link", "del", BRIDGE)


def prefect(*words: object) -> list[str]:
    return [sys.executable, "-m", "prefect", *map(str, words)]


def clean() -> dict[str, str]:
    """This process's environment without what Prefect reads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
