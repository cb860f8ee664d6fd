"""Whose a folder is: only one that is new, empty or marked as ours is ever written to.

A link in it that leads out of it would take writing elsewhere, and is refused; but one in place of a slide's file,
which is replaced whole.

The mark is a small file that names the stage, and on further lines the files written there if somebody needs to know.
A folder of an earlier version has no mark; its receipt, or an executed copy beside our lock, stands for one.
"""

from collections.abc import Iterable
from pathlib import Path

from slidesieve.provenance.files import BOOKS, LOCK, MARK, has_receipt, read_receipt, written_whole

FIGURES = "figures"  # a folder in a stage's own
WHOLE = ".h5"  # files that are only ever replaced
SHOWN = 3  # names of foreign files in an error
COPIES = ("", ".failed", ".partial")  # what stands between a notebook's name and .ipynb or .html in its folder


def check_folder(folder: Path, stage: str, notebook: Path | None = None) -> None:
    """Raise ValueError if `folder` is not one that `stage` may write to; touch nothing.

    `notebook` is the source of the stage, which must not lie in the folder.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder}: is a file; expected a folder for {stage}; give a new one")
    if notebook is not None and notebook.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{folder}: holds the notebook itself, {notebook.name}, and the run would replace it; "
            f"expected a folder for what {stage} writes; give a new one"
        )
    found = others_in(folder)  # looked at first: whoever marks it just now writes to it afterwards
    owner = owner_of(folder, stage)
    if owner and owner != stage:
        raise ValueError(f"{folder}: is the folder of {owner}; expected one for {stage}; give a new one")
    if not owner and found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ValueError(
            f"{folder}: holds what slidesieve did not write: {', '.join(found[:SHOWN])}{more}; "
            f"expected a new or empty folder for {stage}; give a new one"
        )
    if links := links_out_of(folder):
        raise ValueError(
            f"{folder}: {links[0].relative_to(folder)} is a link to {links[0].readlink()}, which {stage} would write "
            f"to ({len(links)} such link{'s' * (len(links) > 1)}); expected files of its own; take the link away"
        )


def links_out_of(folder: Path) -> list[Path]:
    """Links at any depth of a folder that lead out of it, so that whoever writes by their names writes elsewhere."""
    links = sorted(path for path in folder.rglob("*") if path.is_symlink() and path.suffix != WHOLE)
    return [link for link in links if not link.resolve().is_relative_to(folder.resolve())]


def claim(folder: Path, stage: str, notebook: Path | None = None) -> None:
    """Make `folder` if need be, and mark it as the stage's. Raises as `check_folder` does."""
    check_folder(folder, stage, notebook)
    if not (folder / MARK).exists():
        mark(folder, stage)


def mark(folder: Path, stage: str, files: Iterable[str] = ()) -> None:
    """Mark a folder as the stage's, with the names of `files` in it."""
    with written_whole(folder / MARK) as aside:
        aside.write_text("\n".join([stage, *sorted(files)]) + "\n", encoding="utf-8")


def owner_of(folder: Path, stage: str = "") -> str:
    """The stage whose folder this is, or an empty string; `stage` is the one that an unmarked folder may be of."""
    if (folder / MARK).is_file():
        return (folder / MARK).read_text(encoding="utf-8").partition("\n")[0]
    try:
        return str(read_receipt(folder).get("stage", ""))
    except (FileNotFoundError, ValueError):
        copies = [folder / f"{stage}{kind}.ipynb" for kind in COPIES]
        return stage if stage and (folder / LOCK).is_file() and any(copy.is_file() for copy in copies) else ""


def is_of_a_stage(folder: Path) -> bool:
    """Say whether a stage wrote, or is writing, this folder. Raises ValueError if its receipt is damaged."""
    return (folder / MARK).is_file() or has_receipt(folder)


def marked_files(folder: Path) -> set[str]:
    """The names of files that a folder's mark lists."""
    lines = (folder / MARK).read_text(encoding="utf-8").splitlines() if (folder / MARK).is_file() else []
    return set(lines[1:])


def others_in(folder: Path) -> list[str]:
    """What lies in a folder beside marks and locks, sorted."""
    return sorted(path.name for path in folder.iterdir() if path.name not in BOOKS)


def figures_in(out_dir: Path) -> Path:
    """A stage's folder for figures and the tables that they draw, with which no later stage computes."""
    folder = out_dir / FIGURES
    folder.mkdir(exist_ok=True)
    return folder
