"""data_manifest.csv: one row a slide. Read it, check it, place its files.

Columns: slide_id, case_id, site, slide_path, feature_path, mpp, split, sha256, source, licence, then any label_*.
slide_id and one of the paths suffice; without case_id a slide is its TCGA barcode's patient's, or else its own case.
Paths are relative to the manifest's folder, or to DATA_ROOT where that is set. `mpp` overrides the slide file's own.
`split` holds train, val, test; or fold numbers 0, 1, ... of a k-fold cohort; or nothing. NA and its kin are empty.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from slidesieve.cohort.ids import tcga_case
from slidesieve.cohort.tables import is_missing, read_words
from slidesieve.provenance.table_files import is_of_windows, posix, split_part

COLUMNS = (
    *("slide_id", "case_id", "site", "slide_path", "feature_path"),
    *("mpp", "split", "sha256", "source", "licence"),
)
SPLITS = ("train", "val", "test")
MOST_ID_BYTES = 200  # file systems take names of 255, and an id's files have endings


@dataclass(frozen=True, eq=False)
class Manifest:
    """The checked table (strings; `mpp` float, nan = not given), and the folder that its paths start from."""

    table: pd.DataFrame
    root: Path

    @cached_property
    def places(self) -> dict[str, int]:
        """Which row of the table is a slide's; gone through once."""
        return {slide_id: place for place, slide_id in enumerate(self.table["slide_id"])}

    @cached_property
    def cases(self) -> dict[str, str]:
        """Whose slide it is: the patient of each, by slide."""
        return dict(zip(self.table["slide_id"], self.table["case_id"], strict=True))


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest. Raises ValueError that lists every fault at once."""
    path = Path(path)
    table = _filled(read_words(path), path)
    faults = [*_column_faults(table), *_row_faults(table), *_split_faults(table)]
    if faults:
        shown = [*faults[:20], *([f"and {len(faults) - 20} more"] if len(faults) > 20 else [])]
        raise ValueError(f"{path}: {len(faults)} fault(s) in the manifest\n- " + "\n- ".join(shown))
    table["mpp"] = table["mpp"].replace("", "nan").astype(float)
    return Manifest(table, Path(os.environ.get("DATA_ROOT") or path.resolve().parent))


def row_of(manifest: Manifest, slide_id: str) -> pd.Series:
    """Return a slide's row. Raises ValueError if the manifest has no such slide."""
    if slide_id not in manifest.places:
        raise ValueError(
            f"{slide_id}: not among the manifest's {len(manifest.table)} slides; add it, or correct the id"
        )
    return manifest.table.iloc[manifest.places[slide_id]]


def path_of(manifest: Manifest, slide_id: str, column: str) -> Path:
    """Return where a slide's `slide_path` or `feature_path` lies, whether it exists or not, without a `#part`."""
    value = row_of(manifest, slide_id)[column]
    if not value:
        raise ValueError(f"{slide_id}: {column} is empty in the manifest; fill it in")
    return manifest.root / split_part(value)[0]


def with_slide_file(manifest: Manifest, slide_ids: Iterable[str]) -> list[str]:
    """Pick the slides whose slide file is there; others are archived, or have features only."""
    paths = {slide_id: row_of(manifest, slide_id)["slide_path"] for slide_id in slide_ids}
    return [slide_id for slide_id, path in paths.items() if path and (manifest.root / path).exists()]


def cached_manifest(path: Path) -> Manifest:
    """Read a manifest once a process, and again if it changes."""
    return _manifest_of(path, path.stat().st_mtime_ns)


def _filled(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Add the columns that may be absent, and write the cells as we do."""
    if "slide_id" not in table or not {"slide_path", "feature_path"} & set(table):
        raise ValueError(
            f"{path}: got columns {', '.join(table)}; expected slide_id and slide_path or feature_path; name them so, "
            "or have a manifest written: slidesieve init FOLDER"
        )
    if "case_id" not in table:
        table = table.assign(case_id=[tcga_case(slide_id) or slide_id for slide_id in table["slide_id"]])
    table = table.reindex(columns=[*COLUMNS, *(name for name in table if name not in COLUMNS)], fill_value="")
    for name in COLUMNS[1:]:
        table[name] = table[name].mask(is_missing(table[name]), "")
    for name in ("slide_path", "feature_path"):
        table[name] = [posix(value) for value in table[name]]
    table["mpp"] = table["mpp"].str.replace(r"^(\d+),(\d+)$", r"\1.\2", regex=True)  # a German Excel's
    return table


def _column_faults(table: pd.DataFrame) -> list[str]:
    odd = [c for c in table if c not in COLUMNS and not c.startswith("label_")]
    faults = [f"column {c!r} is unknown; call it label_{c}, or drop it" for c in odd]
    return faults if len(table) else [*faults, "no rows"]


def _row_faults(table: pd.DataFrame) -> list[str]:
    faults = [f"{s!r}: {n} rows with this slide_id; keep one" for s, n in Counter(table["slide_id"]).items() if n > 1]
    faults += _lookalikes(table["slide_id"], "one file on some systems; rename all but one")
    faults += _lookalikes(table["case_id"], "one patient or two, on two sides? write a patient in one way")
    for row in table.itertuples():
        told = row.slide_id if row.slide_id.isprintable() else repr(row.slide_id)
        where = f"row {row.Index + 2} ({told[:60] or 'no slide_id'})"
        faults += [f"{where}: slide_id names files: {fault}" for fault in _id_faults(row.slide_id)]
        if not row.case_id:
            faults.append(f"{where}: case_id is empty; leakage cannot be checked; give the patient, or repeat slide_id")
        if not row.slide_path and not row.feature_path:
            faults.append(f"{where}: slide_path and feature_path are both empty; give one")
        for path in filter(is_of_windows, (row.slide_path, row.feature_path)):
            faults.append(f"{where}: {path!r} is on a drive of Windows; expected a path from the manifest's folder on")
        if row.mpp and not _is_positive(row.mpp):
            faults.append(f"{where}: mpp {row.mpp!r}: expected micrometres a pixel > 0, or empty to take the file's")
        if row.split and row.split not in SPLITS and not re.fullmatch(r"\d", row.split):
            faults.append(f"{where}: split {row.split!r}: expected train, val, test, a fold 0 to 9, or empty")
        if row.sha256 and not re.fullmatch(r"[0-9a-f]{64}", row.sha256):
            faults.append(f"{where}: sha256 {row.sha256[:12]!r}...: expected 64 lower-case hex digits, or empty")
    return faults


def _id_faults(slide_id: str) -> list[str]:
    """Say what keeps an id from being a file's name on every system, and from being the same word to every reader."""
    wrong = {
        "not empty, no '/', no '\\', no leading '.'": not slide_id or slide_id[0] == "." or set(slide_id) & {"/", "\\"},
        "no line break, NUL or other sign that cannot be printed": not slide_id.isprintable(),
        "no space before or after it": slide_id != slide_id.strip(),
        f"it has {len(slide_id.encode())} bytes, at most {MOST_ID_BYTES}": len(slide_id.encode()) > MOST_ID_BYTES,
    }
    return [fault for fault, holds in wrong.items() if holds]


def _lookalikes(ids: pd.Series, why: str) -> list[str]:
    """Name ids that differ in case or in how a letter is composed alone, and `why` that will not do."""
    rows: dict[str, dict[str, int]] = {}
    for place, name in enumerate(ids):
        rows.setdefault(unicodedata.normalize("NFC", name).casefold(), {})[name] = place + 2
    return [
        f"rows {', '.join(map(str, alike.values()))} ({', '.join(map(repr, alike))}): {ids.name} equal but for case or "
        f"accents' spelling, {why}"
        for alike in rows.values()
        if len(alike) > 1
    ]


def _split_faults(table: pd.DataFrame) -> list[str]:
    used = table[table["split"] != ""]
    kinds = {s.isdigit() for s in used["split"]}
    faults = ["split mixes fold numbers with train/val/test; use one kind"] if len(kinds) == 2 else []
    pairs = used.loc[used["case_id"] != "", ["case_id", "split"]].drop_duplicates()
    torn = pairs[pairs["case_id"].duplicated(keep=False)].groupby("case_id")["split"]
    return faults + [f"case {case}: slides in splits {', '.join(sorted(s))}; a case is in one only" for case, s in torn]


def _is_positive(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)) and float(text) > 0)
    except ValueError:
        return False


@cache
def _manifest_of(path: Path, mtime_ns: int) -> Manifest:
    return read_manifest(path)
