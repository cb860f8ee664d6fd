"""What a published file holds that cannot be used: set aside by kind, repaired where there is one way, counted.

A file of 175,734 items in which 170 are faulty is read; one in which every tenth is faulty is not the file it seems.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slidesieve.cohort.tables import read_words

MAX_FAULTY = 0.01  # share of a file's records that may be set aside
SHOWN = 20


class Fault(NamedTuple):
    """What is wrong with a record: where it stands, its id and hash, the kind of fault, and what was found.

    A `repaired` one is used all the same.
    """

    place: str
    id: str
    sha256: str
    kind: str
    found: str
    repaired: bool = False

    def __str__(self) -> str:
        return f"{self.place}{f' ({self.id})' if self.id else ''}: {self.found}"


class Records(NamedTuple):
    """What a file holds: the records that can be used, in its order, the faults, and how many records it has."""

    used: list
    faults: list[Fault]
    n: int

    def settled(self, path: str | Path, *, most: float = MAX_FAULTY) -> list:
        """The usable records, after a line about the others; ValueError if these are more than a share `most`."""
        settle(path, self.faults, n=self.n, most=most)
        return self.used


def read_corrections(path: str | Path | None) -> dict[str, object]:
    """Read columns sha256, record: by a record's hash, the JSON of what stands in its place; empty: it is taken out."""
    if path is None:
        return {}
    table = read_words(path)
    if absent := [name for name in ("sha256", "record") if name not in table]:
        raise ValueError(f"{path}: no column {', '.join(absent)}; got {', '.join(table)}; expected sha256 and record")
    try:
        return {
            sha: json.loads(text) if text else None for sha, text in zip(table["sha256"], table["record"], strict=True)
        }
    except ValueError as error:
        raise ValueError(f"{path}: a record is no JSON ({error}); expected one, or an empty field") from error


def corrected(items: Sequence, corrections: Mapping[str, object]) -> list:
    """The items with those that `corrections` names replaced or taken out."""
    if not corrections:
        return list(items)
    named = [corrections.get(record_hash(item), item) for item in items]
    return [item for item in named if item is not None]


def record_hash(record: object) -> str:
    """The name of a record's content, by which corrections find it: 16 hex digits."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()[:16]


def settle(path: str | Path, faults: Sequence[Fault], *, n: int, most: float = MAX_FAULTY) -> None:
    """Say in a line what of a file's `n` records is set aside or repaired, by kind.

    Raises ValueError listing the faults if more than a share `most` of the records cannot be used.
    """
    lost = [fault for fault in faults if not fault.repaired]
    aside = len({fault.place for fault in lost})
    if aside > most * n:
        listed = [str(fault) for fault in lost[:SHOWN]] + [f"... and {len(lost) - SHOWN} more"] * (len(lost) > SHOWN)
        text = "\n  ".join(listed).encode(errors="backslashreplace").decode()  # JSON may hold halves of characters
        raise ValueError(
            f"{path}: {len(lost)} faults in {aside} of {n} records, more than a share of {most:g}; correct these and "
            f"run again\n  {text}"
        )
    if faults:
        print(
            f"{path}: {n - aside} of {n} records used; {_told(lost, 'set aside')}{_told(faults, 'repaired')}",
            flush=True,
        )


def fault_table(faults: Mapping[str, Sequence[Fault]]) -> pd.DataFrame:
    """One row a fault of each file: file, and the fields of `Fault`."""
    rows = [(file, *fault) for file, own in faults.items() for fault in own]
    return pd.DataFrame(rows, columns=["file", *Fault._fields])


def _told(faults: Sequence[Fault], done: str) -> str:
    kinds = Counter(fault.kind for fault in faults if fault.repaired == (done == "repaired"))
    return "".join(f"{n} {done}: {kind}; " for kind, n in kinds.items())
