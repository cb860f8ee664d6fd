"""What befalls the files of a run, for `benchmarks.faults`: disks, links, clocks, locks, code and tables."""

import csv
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.fault_ways import LONGEST, Lab, Run, Told, contents, expect, remove, short, tmpfs
from slidesieve.provenance.files import HOLDER, LOCK, ROOT, WRITER

DISK = "96m"  # room enough
SPARE_KIB = (64, 512, 2048)  # of a disk that is nearly full, then grows
TABLES = {"manifest": "slide_id", "questions": "Slide", "captions": "Slide", "truth": "slide_id"}


def read_only(lab: Lab) -> Told:
    for what, without in (("a stage to run", ("60",)), ("all done", ())):
        remove(lab.run)
        with tmpfs(lab.run, DISK) as remount:
            lab.restore(*without, among=lab.run)
            remount("ro")
            told = refused(lab.start())
            remount("rw")
            yield f"a read-only tmpfs as OUT, {what}", f"{told}; {lab.settle()}"


def full_disk(lab: Lab) -> Told:
    remove(lab.run)
    with tmpfs(lab.run, DISK) as remount:
        lab.restore("20", "60", among=lab.run)
        used_kib = shutil.disk_usage(lab.run).used // 1024
        for spare in SPARE_KIB:
            remount(f"size={used_kib + spare}k")
            told = ended(lab.start())
            lab.check()
            yield f"a tmpfs as OUT with {spare} KiB left for 20 and 60", told
        remount(f"size={DISK}")
        yield f"enlarged to {DISK}", lab.settle()


def links(lab: Lab) -> Told:
    elsewhere = lab.folder / "elsewhere"
    lab.restore("80")
    lab.run.rename(elsewhere)
    lab.run.symlink_to(elsewhere)
    yield "OUT is a link to a folder elsewhere", lab.settle()
    lab.run.unlink()
    elsewhere.rename(lab.run)
    stage, theirs = lab.stage("80"), lab.folder / "theirs"
    stage.rename(elsewhere)
    stage.symlink_to(elsewhere)
    (elsewhere / "receipt.json").unlink()
    yield "80's folder is a link to its folder elsewhere", lab.settle()
    stage.unlink()
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    stage.symlink_to(theirs)
    told = refused(lab.start())
    expect(contents(theirs) == {"thesis.txt": b"mine"}, "the folder of others was written to")
    stage.unlink()
    elsewhere.rename(stage)
    yield "80's folder is a link to a folder of others", f"{told}, untouched; {lab.settle()}"
    for name in ("scores.csv", "log.txt", "notes.txt"):
        lab.restore()
        (stage / "receipt.json").unlink()
        (stage / name).unlink(missing_ok=True)
        (stage / name).symlink_to(theirs / "thesis.txt")
        run = lab.start()
        run.process.wait()
        expect(
            contents(theirs) == {"thesis.txt": b"mine"}, f"{name}: the file of others behind the link was written to"
        )
        told = refused(run) if run.process.returncode else "left alone"
        (stage / name).unlink(missing_ok=True)
        yield f"80's `{name}` is a link to a file of others", f"{told}, untouched; {lab.settle()}"


def clock(lab: Lab) -> Told:
    back = {"before": ("faketime", "-f", "-2d"), "NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    expect(shutil.which("faketime"), "could not be done: no faketime here")
    lab.restore()
    yield "finished, run again two days back (faketime)", nothing(lab.settle(**back))
    lab.restore("60")
    yield "60 run two days back", lab.settle(**back)
    yield "then all under the true clock", nothing(lab.settle())


def dead_locks(lab: Lab) -> Told:
    lab.restore("60")
    for pid in (1, os.getpid()):
        for folder in (lab.stage("60"), lab.run):
            folder.mkdir(parents=True, exist_ok=True)
            told = {"pid": pid, "host": os.uname().nodename, "since": "2026-01-01 00:00:00 UTC", "token": "0" * 32}
            (folder / HOLDER).write_text(json.dumps(told))
            for name in (LOCK, WRITER):
                (folder / name).touch()
        yield f"lock files that name process {'1' if pid == 1 else 'of ours'}", lab.settle()
        shutil.rmtree(lab.stage("60"))


@contextmanager
def checkout() -> Iterator[Path]:
    """A copy of the code."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for name in ("flows", "lib", "notebooks"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        yield root


def edited_notebook(lab: Lab) -> Told:
    lab.restore("80")
    with checkout() as root:
        path = root / "notebooks" / "80_compare_methods.ipynb"
        how = {"root": root, "PYTHONPATH": f"{root}:{root / 'lib'}"}
        run = lab.start(**how)
        run.until(lambda: lab.at_work("80"))
        notebook = json.loads(path.read_text())
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        cells[-1]["source"] = ["edited = 1\n", *cells[-1]["source"]]
        path.write_text(json.dumps(notebook))
        run.process.wait()
        again = lab.start(**how)
        again.end()
        told = again.line("80_compare_methods: runs", "code of the notebook changed")
    yield "a line added to 80's notebook while it runs", f"next run: `{short(told)}`; {lab.settle()}"


def shorter_manifest(lab: Lab) -> Told:
    lab.restore()
    toy, features = lab.folder / "toy", {n: b for n, b in contents(lab.stage("20")).items() if n.endswith(".h5")}
    before = {name: (toy / f"{name}.csv").read_text() for name in TABLES}
    train = [row["slide_id"] for row in csv.DictReader(before["manifest"].splitlines()) if row["split"] == "train"]
    try:
        leave_out(toy / "manifest.csv", "slide_id", train[:2])
        yield "two slides' rows removed from the manifest alone", refused(lab.start())
        for name, column in TABLES.items():
            leave_out(toy / f"{name}.csv", column, train[:2])
        plan = lab.start("--dry-run").end()
        due = sum("input manifest changed" in line for line in plan.splitlines())
        expect(due >= 3, f"the manifest's readers are not due: {plan[-900:]}")
        run = lab.start()
        run.until(lambda: "20_extract_features: done" in run.said())
        run.process.send_signal(signal.SIGINT)
        run.end(130)
        left = (lab.stage("20") / "log.txt").read_text()
        expect("2 slides of the earlier run are no longer asked for" in left, f"the shrinkage is not said: {left}")
        there = contents(lab.stage("20"))
        expect(all(there.get(name) == data for name, data in features.items()), "features of removed slides are lost")
    finally:
        for name, text in before.items():
            (toy / f"{name}.csv").write_text(text)
    happened = f"{due} stages due by it, 20 says who left, all {len(features)} feature files stay"
    yield "and from questions, captions and truth", f"{happened}; {lab.settle(changed=True)}"


def leave_out(table: Path, column: str, slides: list[str]) -> None:
    with table.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = [row for row in reader if row[column] not in slides], reader.fieldnames
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def ended(run: Run) -> str:
    """Expect that it ends well, or with a named error."""
    return refused(run) if run.process.wait(LONGEST) else "exit 0"


def refused(run: Run) -> str:
    """Expect a named error and an exit code of 1 or 2, without a traceback; return the words."""
    said = run.end((1, 2))
    expect("Traceback" not in said, f"a traceback: {said[-900:]}")
    lines = [line for line in said.splitlines() if "rror" in line or "FAILED" in line or "left on device" in line]
    expect(lines, f"no error is named: {said[-500:]}")
    return f"exit {run.process.returncode}, `{short(lines[0])}`"


def nothing(told: str) -> str:
    expect(told.endswith("nothing to run"), told)
    return told


FAULTS = (read_only, full_disk, links, clock, dead_locks, edited_notebook, shorter_manifest)
