"""What lies in folders: slides, feature files of any known format, packed stores; and what is no slide and no bag.

Only headers are opened. Folders and their order do not matter; what two files say of one slide is not decided here.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.ids import without_ending
from slidesieve.features.formats.slidechat_csv import is_feature_header
from slidesieve.features.places.packed_folder import is_packed_folder
from slidesieve.features.readers import OTHERS, SUFFIXES, Described, describe
from slidesieve.provenance.table_files import read_names

SLIDES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".svslide", ".bif", ".vms", ".vmu", ".dcm")
ASKED = (".json", ".json.gz", ".xlsx", ".tsv")


class FeatureFile(NamedTuple):
    """A slide's features: where they lie, in which format, how many tiles of which width (None: reading tells).

    Files of one `kind` were made alike: they lie in one folder, of one encoder and width.
    """

    slide_id: str
    path: Path
    part: str
    format: str
    encoder: str
    n: int | None
    width: int | None
    kind: str


class Found(NamedTuple):
    """What was found: slides and features; tables and question files not named so far; faults; the rest by suffix."""

    slides: list[Path]
    features: list[FeatureFile]
    unread: list[Path]
    faults: list[tuple[str, str]]
    others: Counter

    def kinds(self) -> pd.DataFrame:
        """One row a kind of features: files, slides, tiles, format, encoder, width."""
        table = pd.DataFrame(self.features, columns=list(FeatureFile._fields))
        groups = table.groupby("kind", sort=False)
        counted = groups.agg(
            files=("path", "nunique"), slides=("slide_id", "nunique"), tiles=("n", "sum"), format=("format", "first"),
            encoder=("encoder", "first"), width=("width", "first"),
        )  # fmt: skip
        return counted.reset_index()


def look_through(folders: Sequence[Path]) -> Found:
    """Open the header of every file below some folders (or of files named themselves)."""
    found = Found([], [], [], [], Counter())
    for root in map(Path, folders):
        if not root.exists():
            raise FileNotFoundError(f"{root}: no such folder; correct it")
        alone = root.is_file() or is_packed_folder(root)
        for path in [root] if alone else _files_below(root):
            _sort_in(path, root.parent if alone else root, found)
    return found


def _files_below(root: Path) -> list[Path]:
    """Files and packed folders in the order of their names; hidden ones, and what lies in hidden folders, are left."""
    paths = []
    for folder, below, names in os.walk(root):
        inner = [Path(folder) / name for name in sorted(below) if not name.startswith(".")]
        packed = [path for path in inner if is_packed_folder(path)]
        below[:] = [path.name for path in inner if path not in packed]
        paths += packed
        paths += [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
    return paths


def _sort_in(path: Path, root: Path, found: Found) -> None:
    name = path.name.lower()
    if path.is_dir():
        _describe(path, root, found)
        return
    if name.endswith(SLIDES):
        found.slides.append(path)
    elif name.endswith(SUFFIXES) and not (name.endswith(".csv") and not _is_bag(path)):
        _describe(path, root, found)
    elif name.endswith((".csv", *ASKED)):
        found.unread.append(path)
    else:
        found.others[path.suffix.lower() or "no suffix"] += 1


def _is_bag(path: Path) -> bool:
    try:
        return is_feature_header(read_names(path))
    except (OSError, ValueError):
        return False


def _describe(path: Path, root: Path, found: Found) -> None:
    try:
        described: list[Described] = describe(path)
    except (OSError, ValueError) as fault:
        found.faults.append((str(path.relative_to(root)), " ".join(str(fault).split())))
        return
    for one in described:
        folder = path.parent.relative_to(root).as_posix()
        kind = f"{root.name if folder == '.' else folder}" + (f"#{one.part}" if one.part else "")
        slide = one.slide_id or without_ending(path.name if path.suffix in OTHERS else path.stem)
        found.features.append(FeatureFile(slide, path, one.part, one.format, one.encoder, one.n, one.width, kind))
