"""What befalls the files of a run, for `benchmarks.faults`: disks, links, clocks, locks, code and tables."""

import csv
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmarks.fault_ways import LONGEST, Lab, Run, Told, contents, expect, remove, short, tmpfs
from slidesieve.provenance.files import HOLDER, LOCK, ROOT, WRITER

DISK = "96m"  # room enough
SPARE_KIB = (64, 512, 2048)  # of a disk that is nearly full, then grows
NAMED = ("rror: ", "Errno", "could not write")
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
    elsewhere, theirs = lab.folder / "elsewhere", lab.folder / "theirs"
    for path, what in ((lab.run, "OUT"), (lab.stage("80"), "80's folder")):
        lab.restore()
        (lab.stage("80") / "receipt.json").unlink()
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
        yield f"{what} is a link to that folder elsewhere", lab.settle(undo=partial(put_back, path, elsewhere))
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("mine")
    for name in ("", "scores.csv", "log.txt", "notes.txt"):
        lab.restore()
        link = lab.stage("80") / name
        (lab.stage("80") / "receipt.json").unlink()
        remove(link)
        link.symlink_to(theirs / "thesis.txt" if name else theirs)
        told = ended(lab.start())
        expect(contents(theirs) == {"thesis.txt": b"mine"}, f"what {name or 'the folder'} leads to was written to")
        link.unlink()
        yield f"80's {name or 'folder'} is a link to others' files", f"{told}, untouched; {lab.settle()}"


def put_back(path: Path, elsewhere: Path) -> None:
    path.unlink()
    elsewhere.rename(path)


def clock(lab: Lab) -> Told:
    back = {"before": ("faketime", "-f", "-2d"), "NO_FAKE_STAT": "1"}
    expect(shutil.which("faketime"), "could not be done: no faketime here")
    lab.restore()
    yield "finished, run again two days back (faketime)", nothing(lab, lab.settle(**back))
    lab.restore("60")
    yield "60 run two days back", lab.settle(**back)
    yield "then all under the true clock", nothing(lab, lab.settle())


def dead_locks(lab: Lab) -> Told:
    lab.restore()
    for pid, whose in ((1, "1"), (os.getpid(), "of ours")):
        shutil.rmtree(lab.stage("60"))
        lab.stage("60").mkdir()
        told = {"pid": pid, "host": os.uname().nodename, "since": "2026-01-01 00:00:00 UTC", "token": "0" * 32}
        for folder, names in ((lab.stage("60"), (LOCK, WRITER)), (lab.run, (LOCK,))):
            (folder / HOLDER).write_text(json.dumps(told))
            for name in names:
                (folder / name).touch()
        yield f"lock files that name process {whose}", lab.settle()


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
    tested = [row["slide_id"] for row in csv.DictReader(before["manifest"].splitlines()) if row["split"] == "test"]
    try:
        leave_out(toy / "manifest.csv", "slide_id", tested[:2])
        yield "two slides' rows removed from the manifest alone", refused(lab.start())
        for name, column in TABLES.items():
            leave_out(toy / f"{name}.csv", column, tested[:2])
        plan = lab.start("--dry-run").end()
        (lab.run / "plan.csv").unlink()
        due = [line for line in plan.splitlines() if "input manifest changed" in line]
        expect(len(due) >= 2, f"the manifest's readers are not due: {plan[:900]}")
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
    happened = (
        f"`{short(plan)}`, {len(due)} by the manifest itself; 20 says who left, all {len(features)} feature files stay"
    )
    yield "and from questions, captions and truth", f"{happened}; {lab.settle(before=False)}"


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
    lines = said.splitlines()
    failed = next((line for line in lines if "FAILED" in line), "")
    told = [line for line in lines if any(word in line for word in NAMED) and line != failed and "Prefect" not in line]
    named = next(iter(told), failed)
    expect(named, f"no error is named: {said[-500:]}")
    return f"exit {run.process.returncode}, {' '.join(f'`{short(line)}`' for line in filter(None, [failed, named]))}"


def nothing(lab: Lab, told: str) -> str:
    said = lab.runs[-1].said()
    expect(told.endswith("nothing to run") and "another worker" not in said, f"{told}: {said[-500:]}")
    return told


FAULTS = (read_only, full_disk, links, clock, dead_locks, edited_notebook, shorter_manifest)
