"""Which slide a file is, told without reading it whole: its size, its mtime and a sample spread through all of it.

A sample is noted in store/samples/ under the file's path and stamp, so that a file is read once; a run that verifies
reads it again. A MIRAX slide is its `.mrxs` file and the folder beside it, a DICOM slide all `.dcm` files of its
folder, a Hamamatsu slide (`.vms`, `.vmu`) the files whose names begin with its own.
"""

import hashlib
import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from slidesieve.provenance import files

CHUNKS, CHUNK_BYTES = 16, 1 << 16
SETTLED_NS = 2 * 10**9  # a file written this recently may be written again under one mtime: its sample is not noted


def slide_identity(path: Path, stated_sha256: str = "") -> str:
    """Hash the size, the mtime and a sample (first and last bytes included) of a slide's files.

    The mtime stands for the bytes that the sample does not see. Where a sum is stated, and is thus checked by whoever
    reads the slide, a file that the sample sees whole goes without. Raises OSError if a file cannot be read.
    """
    told = [_told(path, by_content=bool(stated_sha256)), *companions(path)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def companions(path: Path) -> list[list[object]]:
    """Tell the files that belong to a slide beside its own: name, size, mtime and sample of each."""
    kind, folder = path.suffix.lower(), path.parent
    if kind == ".mrxs":
        folder = path.with_suffix("")
        names = files.files_under(folder)
    elif kind == ".dcm":
        names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() == kind and p != path)
    elif kind in (".vms", ".vmu"):
        names = sorted(p.name for p in folder.iterdir() if p.name.startswith(path.stem) and p != path)
    else:
        names = []
    return [[name, *_told(folder / name, by_content=False)] for name in names]


def _told(path: Path, *, by_content: bool) -> list[object]:
    stamp = files.file_stamp(path)
    whole = stamp[0] <= CHUNKS * CHUNK_BYTES
    sample = _sample(path, stamp[0]) if whole else _noted_sample(path, stamp)
    return [stamp[0], "" if whole and by_content else stamp[1], sample]


def _noted_sample(path: Path, stamp: list[int]) -> str:
    note = files.ROOT / "store" / "samples" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    words = note.read_text().split() if note.exists() else []
    if len(words) == 3 and words[:2] == [str(n) for n in stamp] and not files.verifies():
        return words[2]
    sample = _sample(path, stamp[0])
    if stamp[1] < time.time_ns() - SETTLED_NS:
        with suppress(OSError):  # a note saves time and is nothing else: without room for it, the sample stands
            _write_note(note, f"{stamp[0]} {stamp[1]} {sample}")
    return sample


def _sample(path: Path, size: int) -> str:
    found, last, whole = hashlib.sha256(), size - CHUNK_BYTES, size <= CHUNKS * CHUNK_BYTES
    starts = range(0, size, CHUNK_BYTES) if whole else [last * i // (CHUNKS - 1) for i in range(CHUNKS)]
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            found.update(file.read(CHUNK_BYTES))
    return found.hexdigest()[:32]


def _write_note(note: Path, text: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    aside = note.with_suffix(f".{os.getpid()}-{threading.get_native_id()}")  # several stages may note one file
    try:
        aside.write_text(text)
        aside.replace(note)
    finally:
        aside.unlink(missing_ok=True)
