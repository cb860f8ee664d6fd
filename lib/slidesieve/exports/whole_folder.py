"""A folder that is written aside and moved in whole; what is new, empty or an export of this kind gives way."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slidesieve.provenance.files import files_under
from slidesieve.provenance.folders import check_folder, mark, marked_files


@contextmanager
def whole_folder(out: Path, kind: str) -> Iterator[Path]:
    """Give a folder to write to; at the end it stands at `out`, or nothing has changed there if the block raised."""
    _check_out(out, kind)
    aside, before = out.with_name(f".{out.name}.partial"), out.with_name(f".{out.name}.before")
    for folder in (aside, before):
        check_folder(folder, _stage(kind))
        shutil.rmtree(folder, ignore_errors=True)
    mark(aside, _stage(kind))
    try:
        yield aside
        mark(aside, _stage(kind), files_under(aside))
        if out.exists():
            out.rename(before)
        aside.rename(out)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _check_out(out: Path, kind: str) -> None:
    """Raise ValueError unless `out` is new, empty, or an export of this kind to which nobody has added a file."""
    check_folder(out, _stage(kind))
    foreign = sorted(set(files_under(out)) - marked_files(out)) if out.is_dir() else []
    if foreign:
        raise ValueError(
            f"{out}: holds {foreign[0]}, which slidesieve did not write; give a new folder, or move it away"
        )


def _stage(kind: str) -> str:
    return f"export {kind}"
