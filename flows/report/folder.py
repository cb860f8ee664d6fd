"""The folder of a report or comparison: written aside, then moved in file by file, the page last; others' files stay.

Whenever that is cut off, the page is the old one or the new one, whole.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from slidesieve.provenance.files import files_under, read_json
from slidesieve.provenance.folders import check_folder, mark, marked_files

REPORT, PAGE, ROWS = "report", "index.html", "stages.json"


def check_report(folder: Path, kind: str = REPORT) -> None:
    """Raise ValueError if there is a folder of that name that is not of ours and this kind; touch nothing."""
    if not (kind == REPORT and _is_earlier_report(folder)):
        check_folder(folder, kind)


@contextmanager
def swapped_in(folder: Path, kind: str = REPORT, page: str = PAGE) -> Iterator[Path]:
    """Give a folder to write a report to; at the end it takes the place of what was ours in `folder`, `page` last.

    If the block raises, `folder` stays as it was. Raises ValueError if `folder` is not ours. One writer at a time.
    """
    check_report(folder, kind)
    aside = folder.with_name(f".{folder.name}.partial")
    check_folder(aside, kind)
    shutil.rmtree(aside, ignore_errors=True)
    mark(aside, kind)
    try:
        yield aside
        _swap(aside, folder, kind, page)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, folder: Path, kind: str, page: str) -> None:
    new, old = set(files_under(aside)), marked_files(folder)
    for name in new - old if old else ():
        if (folder / name).exists():  # somebody else's, of a name that is new to us
            (folder / name).rename(next(p for n in count() if not (p := folder / f"{name}.kept{n or ''}").exists()))
    mark(folder, kind, new | old)
    for name in sorted(new, key=lambda name: (name == page, name)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (aside / name).replace(folder / name)
    for name in old - new:
        (folder / name).unlink(missing_ok=True)
    mark(folder, kind, new)


def _is_earlier_report(folder: Path) -> bool:
    """Say whether an unmarked folder is a report of an earlier version, by the rows of its stages."""
    try:
        rows = read_json(folder / ROWS)
    except (OSError, ValueError):
        return False
    rows_of_ours = isinstance(rows, list) and all(isinstance(r, dict) and {"id", "status"} <= r.keys() for r in rows)
    return rows_of_ours and (folder / PAGE).is_file()
