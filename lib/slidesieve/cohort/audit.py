"""What a cohort is made of and what is wrong with it: counts, absent or changed files, groups in two splits."""

from itertools import combinations
from pathlib import Path

import pandas as pd

from slidesieve.cohort.manifest import Manifest
from slidesieve.cohort.splits import shared_cases, shared_sites, shared_tcga_cases
from slidesieve.provenance.files import hash_file
from slidesieve.provenance.table_files import split_part


def split_counts(manifest: Manifest) -> pd.DataFrame:
    """Count slides, cases and sites of each split, with a total."""
    table = manifest.table.assign(split=manifest.table["split"].replace("", "(none)"))
    table["site"] = table["site"].replace("", None)  # a site that is not told is none
    counts = table.groupby("split")[["slide_id", "case_id", "site"]].nunique()
    counts.loc["total"] = table[["slide_id", "case_id", "site"]].nunique()
    return counts.rename(columns={"slide_id": "slides", "case_id": "cases", "site": "sites"})


def site_counts(manifest: Manifest) -> pd.DataFrame:
    """Count slides by site (rows) and split (columns)."""
    table = manifest.table
    return pd.crosstab(table["site"].replace("", "(none)"), table["split"].replace("", "(none)"))


def file_faults(manifest: Manifest, *, check_sha256: bool) -> pd.DataFrame:
    """List files that are absent, or whose sha256 is not the stated one (of the slide, or of the features without it).

    Columns slide_id, path, fault. A packed store named by many rows is looked at once.
    """
    seen: dict[Path, str] = {}
    faults = []
    for row in manifest.table.itertuples():
        for relative in filter(None, (row.slide_path, row.feature_path)):
            path, hashed = manifest.root / split_part(relative)[0], relative == (row.slide_path or row.feature_path)
            if path not in seen:
                seen[path] = _file_fault(path, row.sha256 if hashed and check_sha256 else "")
            if seen[path]:
                faults.append((row.slide_id, relative, seen[path]))
    return pd.DataFrame(faults, columns=["slide_id", "path", "fault"])


def leakage(manifest: Manifest) -> pd.DataFrame:
    """For each pair of splits (or folds): how many cases, TCGA patients and sites have slides in both.

    Cases are 0 by the manifest's own rule; TCGA patients are read off the slide_id, whatever case_id says.
    """
    table = manifest.table
    ids = {split: list(rows["slide_id"]) for split, rows in table.groupby("split") if split}
    pairs = [
        {
            "a": a,
            "b": b,
            "shared_cases": len(shared_cases(ids[a], ids[b], table)),
            "shared_tcga_patients": len(shared_tcga_cases(ids[a], ids[b])),
            "shared_sites": len(shared_sites(ids[a], ids[b], table)),
        }
        for a, b in combinations(sorted(ids), 2)
    ]
    return pd.DataFrame(pairs, columns=["a", "b", "shared_cases", "shared_tcga_patients", "shared_sites"])


def _file_fault(path: Path, sha256: str) -> str:
    if not path.exists():
        return "missing"
    if not sha256:
        return ""
    found = hash_file(path)
    return "" if found == sha256 else f"sha256 is {found[:12]}..., manifest says {sha256[:12]}..."
