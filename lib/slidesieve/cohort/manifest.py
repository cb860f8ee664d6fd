"""data_manifest.csv: one row a slide. Read it, check it, place its files.

Columns: slide_id, case_id, site, slide_path, feature_path, mpp, split, sha256, source, licence, then any label_*.
Paths are relative to the manifest's folder, or to DATA_ROOT where that is set. `mpp` overrides the slide file's own.
`split` holds train, val, test; or fold numbers 0, 1, ... of a k-fold cohort; or nothing.
"""

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

COLUMNS = (
    *("slide_id", "case_id", "site", "slide_path", "feature_path"),
    *("mpp", "split", "sha256", "source", "licence"),
)
SPLITS = ("train", "val", "test")


class Manifest(NamedTuple):
    """The checked table (strings; `mpp` float, nan = not given), and the folder that its paths start from."""

    table: pd.DataFrame
    root: Path


def read_manifest(path: str | Path) -> Manifest:
    """Read and check a manifest. Raises ValueError that lists every fault at once."""
    path = Path(path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [c for c in COLUMNS if c not in table]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; got {', '.join(table)}; add it, cells may be empty")
    faults = [*_column_faults(table), *_row_faults(table), *_split_faults(table)]
    if faults:
        shown = [*faults[:20], *([f"and {len(faults) - 20} more"] if len(faults) > 20 else [])]
        raise ValueError(f"{path}: {len(faults)} fault(s) in the manifest\n- " + "\n- ".join(shown))
    table["mpp"] = table["mpp"].replace("", "nan").astype(float)
    return Manifest(table, Path(os.environ.get("DATA_ROOT") or path.resolve().parent))


def row_of(manifest: Manifest, slide_id: str) -> pd.Series:
    """Return a slide's row. Raises ValueError if the manifest has no such slide."""
    rows = manifest.table[manifest.table["slide_id"] == slide_id]
    if rows.empty:
        raise ValueError(
            f"{slide_id}: not among the manifest's {len(manifest.table)} slides; add it, or correct the id"
        )
    return rows.iloc[0]


def path_of(manifest: Manifest, slide_id: str, column: str) -> Path:
    """Return where a slide's `slide_path` or `feature_path` lies, whether it exists or not."""
    value = row_of(manifest, slide_id)[column]
    if not value:
        raise ValueError(f"{slide_id}: {column} is empty in the manifest; fill it in")
    return manifest.root / value


def cached_manifest(path: Path) -> Manifest:
    """Read a manifest once a process, and again if it changes."""
    return _manifest_of(path, path.stat().st_mtime_ns)


def _column_faults(table: pd.DataFrame) -> list[str]:
    odd = [c for c in table if c not in COLUMNS and not c.startswith("label_")]
    faults = [f"column {c!r} is unknown; call it label_{c}, or drop it" for c in odd]
    return faults if len(table) else [*faults, "no rows"]


def _row_faults(table: pd.DataFrame) -> list[str]:
    faults = [f"{s!r}: {n} rows with this slide_id; keep one" for s, n in Counter(table["slide_id"]).items() if n > 1]
    for row in table.itertuples():
        where = f"row {row.Index + 2} ({row.slide_id or 'no slide_id'})"
        if not row.slide_id or "/" in row.slide_id or row.slide_id.startswith("."):
            faults.append(f"{where}: slide_id names files: not empty, no '/', no leading '.'")
        if not row.case_id:
            faults.append(f"{where}: case_id is empty; leakage cannot be checked; give the patient, or repeat slide_id")
        if not row.slide_path and not row.feature_path:
            faults.append(f"{where}: slide_path and feature_path are both empty; give one")
        if row.mpp and not _is_positive(row.mpp):
            faults.append(f"{where}: mpp {row.mpp!r}: expected micrometres a pixel > 0, or empty to take the file's")
        if row.split and row.split not in SPLITS and not re.fullmatch(r"\d", row.split):
            faults.append(f"{where}: split {row.split!r}: expected train, val, test, a fold 0 to 9, or empty")
        if row.sha256 and not re.fullmatch(r"[0-9a-f]{64}", row.sha256):
            faults.append(f"{where}: sha256 {row.sha256[:12]!r}...: expected 64 lower-case hex digits, or empty")
    return faults


def _split_faults(table: pd.DataFrame) -> list[str]:
    used = table[table["split"] != ""]
    kinds = {s.isdigit() for s in used["split"]}
    faults = ["split mixes fold numbers with train/val/test; use one kind"] if len(kinds) == 2 else []
    splits = used[used["case_id"] != ""].groupby("case_id")["split"].unique()
    return faults + [
        f"case {case}: slides in splits {', '.join(sorted(s))}; a case is in one only"
        for case, s in splits.items()
        if len(s) > 1
    ]


def _is_positive(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)) and float(text) > 0)
    except ValueError:
        return False


@cache
def _manifest_of(path: Path, mtime_ns: int) -> Manifest:
    return read_manifest(path)
