"""A small whole experiment killed at random moments, again and again: it ends as an undisturbed one does.

    python -m benchmarks.kills [KILLS] [SEED]

Each kill is a signal to the driver, to one of the notebooks' kernels, or SIGKILL to all at once, at a moment of chance
within an eighth of the undisturbed length; the next run follows at once, and may be killed in turn. Where one ends by
itself, every output that a receipt names has the bytes of the undisturbed run's and no other file lies there; then the
experiment starts anew. After the last kill the run is left to end.
"""

import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil

from flows.demo import TOY_TILES
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.receipts import RECEIPT

KILLS = 200
COHORT = ("n_train=12", "n_val=3", "n_test=5", "regions_per_slide=2")
LM = ("steps=2", "batch=4", "exam_samples=3", "width=32")
SETTINGS = (
    *(
        *TOY_TILES,
        "10.min_tissue=0",
        "40.region_steps=4",
        "40.whole_steps=4",
        "40.steps=4",
        "40.evaluations=2",
        "40.save_minutes=0",
    ),
    *("50.steps=8", "50.evaluations=2", "50.save_minutes=0", "60.generate=2", "70.random_draws=3"),
)
NO_SERVER = {"PREFECT_API_URL": "http://127.0.0.1:9/api"}  # none listens there: the experiment goes on without
TIMES = ("seconds", "waited")  # columns of a ledger
DRIVER, KERNEL, ALL = "driver", "kernel", "all"
WAYS = [(DRIVER, signal.SIGKILL), (DRIVER, signal.SIGTERM), (DRIVER, signal.SIGINT), (KERNEL, signal.SIGKILL)]
WAYS += [(KERNEL, signal.SIGTERM), (ALL, signal.SIGKILL)]
Sums = dict[str, dict[str, str]]


def make_inputs(folder: Path) -> None:
    """Draw the toy's slides and train its language model, once."""
    made = (("01_make_toy_cohort", "toy", COHORT), ("02_pretrain_toy_lm", "lm", LM))
    for notebook, name, values in made:
        given = [word for value in values for word in ("-p", value)]
        command = ["-m", "flows.notebook", f"notebooks/{notebook}.ipynb", "--out", str(folder / name), *given]
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def start(
    folder: Path, log: Path, *more: str, before: Sequence[str] = (), root: Path = ROOT, **environment: str
) -> subprocess.Popen:
    """Start a run of the experiment, in a session of its own: with `more` options, by the command `before` it."""
    toy = folder / "toy"
    options = {"manifest": toy / "manifest.csv", "questions": toy / "questions.csv", "captions": toy / "captions.csv"}
    options |= {"truth": toy / "truth.csv", "out": folder / "run", "encoder": "stain-texture", "llm": folder / "lm"}
    options |= {"k": 5, "threads": 1}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    settings = [word for setting in SETTINGS for word in ("-p", setting)]
    command = [*before, sys.executable, "-m", "flows.experiment", *words, "--no-floors", *settings, *more]
    given = os.environ | NO_SERVER | environment
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts in the background ignore it
    with log.open("a") as out:
        return subprocess.Popen(command, cwd=root, stdout=out, stderr=out, env=given, start_new_session=True)


def kill(driver: subprocess.Popen, way: tuple[str, signal.Signals], chance: random.Random) -> bool:
    """Kill what is asked for; say if there was anything to kill."""
    whom, sent = way
    children = psutil.Process(driver.pid).children(recursive=True)
    kernels = [process for process in children if _is_kernel(process)]
    if whom == KERNEL and not kernels:
        return False
    processes = {DRIVER: [psutil.Process(driver.pid)], ALL: [psutil.Process(driver.pid), *children]}
    for process in processes.get(whom) or [chance.choice(kernels)]:
        try:
            process.send_signal(sent)
        except psutil.NoSuchProcess:
            continue
    return True


def end_or_be_killed(
    driver: subprocess.Popen, length: float, kills: int, done: Counter, chance: random.Random
) -> tuple[int, bool]:
    """Kill at moments of chance until the driver is gone; return how it exits, and if anything was killed.

    A run goes on when one of its kernels is killed, and then exits with an error; what comes after may be killed too.
    """
    killed = False
    while done.total() < kills:
        try:
            return driver.wait(length * chance.random() / 8), killed
        except subprocess.TimeoutExpired:
            way = chance.choice(WAYS)
            found = kill(driver, way, chance)
            done[f"{way[0]} {way[1].name}"] += found
            killed |= found
            if way[0] != KERNEL:
                break
    return driver.wait(1200), killed


def _is_kernel(process: psutil.Process) -> bool:
    try:
        return "ipykernel_launcher" in process.cmdline()
    except psutil.Error:
        return False


def outputs(run: Path) -> Sums:
    """The sum of every output that a receipt names, by stage and file; of a ledger, without its times."""
    receipts = {path.parent: json.loads(path.read_text()) for path in run.rglob(RECEIPT)}
    return {
        str(folder.relative_to(run)): {
            name: ledger_sum(folder / name) if name == "ledger.csv" else output["sha256"]
            for name, output in found["outputs"].items()
        }
        for folder, found in receipts.items()
    }


def ledger_sum(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{name: value for name, value in row.items() if name not in TIMES} for row in csv.DictReader(file)]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def files(run: Path) -> set[str]:
    """Every file and folder, but what a process said beside its notebook: a slow machine makes libraries complain."""
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.name != "process.txt"}


def differences(run: Path, expected: Sums, names: set[str]) -> list[str]:
    """Say what is other than in the undisturbed run."""
    found, there = outputs(run), files(run)
    other = [f"{id}: other outputs" for id in expected.keys() | found.keys() if expected.get(id) != found.get(id)]
    return [*other, *(f"more: {name}" for name in there - names), *(f"less: {name}" for name in names - there)]


def main() -> None:
    kills, seed = (int(word) for word in (sys.argv[1:] + [str(KILLS), "0"][len(sys.argv) - 1 :]))
    chance, done, ended = random.Random(seed), Counter(), 0
    with tempfile.TemporaryDirectory(dir=ROOT) as temporary:
        folder = Path(temporary)
        run, log = folder / "run", folder / "log.txt"
        make_inputs(folder)
        began = time.monotonic()
        if code := start(folder, log).wait():
            sys.exit(f"undisturbed, the experiment exits {code}:\n{log.read_text()}")
        length = time.monotonic() - began
        expected, names = outputs(run), files(run)
        print(f"undisturbed: {length:.0f} s, {len(expected)} stages, {len(names)} files", flush=True)
        shutil.rmtree(run)
        while run.exists() or done.total() < kills:
            code, killed = end_or_be_killed(start(folder, log), length, kills, done, chance)
            if killed and code:
                continue
            if code:
                sys.exit(f"a run that nobody killed exits {code}:\n{log.read_text()[-9000:]}")
            if wrong := differences(run, expected, names):
                sys.exit("\n".join([f"after {done.total()} kills:", *wrong, log.read_text()[-9000:]]))
            ended += 1
            print(f"{done.total()} kills, {ended} experiments ended as undisturbed", flush=True)
            shutil.rmtree(run)
            log.write_text("")
        print(f"{done.total()} kills, {ended} experiments ended as undisturbed: {dict(sorted(done.items()))}")


if __name__ == "__main__":
    main()
