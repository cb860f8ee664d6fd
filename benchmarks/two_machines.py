"""Two machines, one server with Postgres, one folder: what faults do to an experiment whose slides are cut in shares.

    python -m benchmarks.two_machines [FAULT ...]

As root, with iproute2 and Postgres. Each machine is a network namespace with its own host name and process table
(`benchmarks.machines`); the folder's locks are one kernel's. Two runs of the same experiment, one a machine, share its
stages; a fault comes when both are at a stage. In the end every output must have the bytes of an undisturbed run's, no
other file may lie there, and no receipt may have been written twice. Then a run is cancelled, and a schedule asks more
often than its run takes.
"""

import contextlib
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.kills import SETTINGS, differences, files, make_inputs, outputs, start
from benchmarks.machines import Lab, Machine, lab
from slidesieve.provenance.files import HOLDER, ROOT
from slidesieve.provenance.receipts import RECEIPT

FOLDER = ROOT / "runs" / "two_machines"
RUN, ALONE_RUN = FOLDER / "run", FOLDER / "alone"
SHARDS, MOST_SECONDS, LOOK_SECONDS = 4, 1500, 0.1
LIVE = ("SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "PAUSED")
OF_A_RUN = ("prefect.engine", "flows.run", "ipykernel_launcher")  # words of its processes
MORE = ("--shards", str(SHARDS), "--workers", "1", "--seeds", "0,1")


class Watch(threading.Thread):
    """Counts, from outside, how often each stage of a run was begun, by whom, and how often it was done."""

    def __init__(self, run: Path):
        super().__init__(daemon=True)
        self.run_folder, self.begun, self.done = run, {}, {}
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        for path in self.found(HOLDER):
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(path.read_text())
                self.begun.setdefault(self.id(path), set()).add((told["host"], told["pid"], told["since"]))
        for path in self.found(RECEIPT):
            with contextlib.suppress(OSError):
                self.done.setdefault(self.id(path), set()).add(path.stat().st_mtime_ns)

    def found(self, name: str) -> list[Path]:
        """All files of this name; a folder may go while it is looked through, and then all of it is looked at again."""
        while True:
            with contextlib.suppress(FileNotFoundError):
                return list(self.run_folder.rglob(name))

    def id(self, path: Path) -> str:
        return str(path.parent.relative_to(self.run_folder))

    def hosts(self) -> Counter:
        """How many stages each host was at."""
        return Counter(host for held in self.begun.values() for host in {h for h, *_ in held})


class Row(NamedTuple):
    """A fault and what became of it."""

    fault: str
    happened: str
    seconds: float
    wrong: list[str]


def parameters() -> dict[str, object]:
    """What `kills.start` runs, in a deployment's words."""
    toy = FOLDER / "toy"
    tables = {name: str(toy / f"{name}.csv") for name in ("manifest", "questions", "captions", "truth")}
    rest = {"out": str(RUN), "encoder": "stain-texture", "llm": str(FOLDER / "lm"), "k": "5", "seeds": "0,1"}
    return tables | rest | {"threads": 1, "workers": 1, "shards": SHARDS, "floors": False, "parameter": list(SETTINGS)}


def submit(place: Lab) -> str:
    """Ask for a run; returns its id."""
    found = place.ask("/deployments/name/slidesieve/experiment", "GET")
    return place.ask(f"/deployments/{found['id']}/create_flow_run", parameters=parameters())["id"]


def state(place: Lab, id: str) -> dict:
    return place.ask(f"/flow_runs/{id}", "GET")["state"]


def until(true: Callable[[], object], what: str, *, most: float = MOST_SECONDS) -> None:
    """Wait. Raises TimeoutError, with what was waited for, after `most` seconds."""
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > most:
            raise TimeoutError(f"waited {most} s for {what}")
        time.sleep(LOOK_SECONDS)


def ended(place: Lab, ids: list[str]) -> bool:
    return all(state(place, id)["type"] not in LIVE for id in ids)


def power_cut(place: Lab, host: Machine, other: Machine) -> str:
    host.power_off()
    place.work(host)
    return f"{host.name} lost power, its worker was started again"


def worker_killed(place: Lab, host: Machine, other: Machine) -> str:
    host.kill("worker start")
    return f"SIGKILL to {host.name}'s worker alone"


def kernel_killed(place: Lab, host: Machine, other: Machine) -> str:
    host.kill("ipykernel_launcher")
    return f"SIGKILL to {host.name}'s notebook"


def cable_pulled(place: Lab, host: Machine, other: Machine) -> str:
    host.cable(plugged=False)
    time.sleep(180)
    host.cable(plugged=True)
    return f"{host.name} had no network for 180 s"


def server_killed(place: Lab, host: Machine, other: Machine) -> str:
    place.server.power_off()
    time.sleep(30)
    place.serve()
    return "server and Postgres lost power, started again after 30 s"


def under(place: Lab, fault: Callable[..., str], expected: dict, names: set[str]) -> Row:
    """Share an experiment between the machines, let the fault come, hold what is there in the end to what must be."""
    host, other = place.hosts
    watch, began = Watch(RUN), time.monotonic()
    watch.start()
    runs = [submit(place) for _ in place.hosts]
    until(lambda: host.kernels() and other.kernels(), "both machines to be at a stage")
    told = fault(place, host, other)
    until(lambda: ended(place, runs), "both runs to end")
    again = next((r for r in runs if state(place, r)["type"] != "COMPLETED"), "")
    how = ", ".join(state(place, r)["name"] for r in runs)
    if again:  # what a person would do: ask again
        runs.append(submit(place))
        until(lambda: ended(place, runs), "the run that was asked for again")
        how += f"; asked again: {state(place, runs[-1])['name']}"
    watch.ended.set()
    watch.look()
    twice = [f"{id}: done {len(times)} times" for id, times in watch.done.items() if len(times) > 1]
    twice = [line for line in twice if not line.startswith("report")]
    begun = sum(len(held) for id, held in watch.begun.items() if id != "report")
    shared = ", ".join(f"{name} at {n} stages" for name, n in sorted(watch.hosts().items()))
    wrong = [*twice, *differences(RUN, expected, names)]
    left = [f"{m.name}: a notebook's process is left" for m in place.hosts if m.kernels()]
    happened = f"{told}; runs {how}; {shared}; {begun} begun for {len(watch.done)} done"
    for machine in place.hosts:  # as found: a worker each
        machine.power_off()
        place.work(machine)
    shutil.rmtree(RUN)
    return Row(fault.__name__, happened, time.monotonic() - began, [*wrong, *left])


def cancelled(place: Lab) -> Row:
    """Cancel a run in the middle of a stage: no process of it may be left."""
    began, id = time.monotonic(), submit(place)
    until(lambda: any(m.kernels() for m in place.hosts), "a stage to begin")
    own = [p for m in place.hosts for p in m.processes() if any(word in " ".join(p.cmdline()) for word in OF_A_RUN)]
    alive = lambda: [p for p in own if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]  # noqa: E731
    asked = time.monotonic()
    place.ask(f"/flow_runs/{id}/set_state", state={"type": "CANCELLING"})
    until(lambda: ended(place, [id]), "the run to be cancelled")
    with contextlib.suppress(TimeoutError):
        until(lambda: not alive(), "its processes to end", most=60)
    took = time.monotonic() - asked
    left = [" ".join(p.cmdline())[:80] for p in alive()]
    named = state(place, id)["name"]
    shutil.rmtree(RUN)
    happened = f"{named}; of its {len(own)} processes {len(left)} left {took:.0f} s after"
    return Row("cancelled", happened, time.monotonic() - began, left)


def scheduled(place: Lab) -> Row:
    """Wake a schedule that asks every 30 s for a run that takes longer: never are two of them at work."""
    began = time.monotonic()
    found = place.ask("/deployments/name/slidesieve/rerun", "GET")
    place.ask(f"/deployments/{found['id']}", "PATCH", parameters=parameters())
    for old in found["schedules"]:
        place.ask(f"/deployments/{found['id']}/schedules/{old['id']}", "DELETE")
    place.ask(f"/deployments/{found['id']}/schedules", body=[{"schedule": {"interval": 30}, "active": True}])
    most, names = 0, Counter()
    while time.monotonic() - began < 240:
        rows = place.ask("/flow_runs/filter", deployments={"id": {"any_": [found["id"]]}})
        most = max(most, sum(bool(machine.kernels()) for machine in place.hosts))
        names = Counter(row["state"]["name"] for row in rows)
        time.sleep(1)
    told = ", ".join(f"{n} {name}" for name, n in names.items())
    happened = f"asked every 30 s of two workers: at most {most} at stages; runs {told}"
    wrong = [f"{most} machines at once"] * (most > 1) + ["fewer than two runs were made"] * (names.total() < 2)
    return Row("schedule", happened, time.monotonic() - began, wrong)


ALONE = ("cancelled", "scheduled")
FAULTS = {
    f.__name__: f for f in (power_cut, worker_killed, kernel_killed, cable_pulled, server_killed, cancelled, scheduled)
}


def main() -> None:
    asked = sys.argv[1:] or list(FAULTS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the machines away
    alone = undisturbed()
    expected, names = outputs(alone), files(alone)
    bad = 0
    with tempfile.TemporaryDirectory() as temporary, lab(Path(temporary), "ha", "hb") as place:
        place.serve()
        place.deploy()
        for host in place.hosts:
            place.work(host)
        for name in asked:
            row = FAULTS[name](place) if name in ALONE else under(place, FAULTS[name], expected, names)
            bad += bool(row.wrong)
            told = (row.fault, row.happened, f"{row.seconds:.0f} s", "; ".join(row.wrong) or "as it must be")
            print(" | ".join(told), flush=True)
    sys.exit(bool(bad))


def undisturbed() -> Path:
    """The folder of the run that no fault came to; of one that is there, what a change of code made due runs again."""
    shutil.rmtree(RUN, ignore_errors=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_inputs(FOLDER)
    if ALONE_RUN.exists():
        ALONE_RUN.rename(RUN)
    began, log = time.monotonic(), FOLDER / "log.txt"
    if code := start(FOLDER, log, *MORE).wait():
        sys.exit(f"undisturbed, the experiment exits {code}:\n{log.read_text()}")
    RUN.rename(ALONE_RUN)
    print(f"undisturbed, one machine: {time.monotonic() - began:.0f} s", flush=True)
    return ALONE_RUN


if __name__ == "__main__":
    main()
