"""Files that are whole or absent, and their hashes.

A file of ours is written aside, synced and renamed, and sealed with a checksum where it matters. Hashes are of any
file, of a folder's files, and of the outputs that a receipt names.
"""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = CHECKOUT if (CHECKOUT / "notebooks").is_dir() else Path.cwd()  # an installed package works where it is called
CACHE_FROM_BYTES = 1 << 20
RECEIPT = "receipt.json"
LOCK = ".lock"  # held while a stage runs in its folder; part of nothing
SEAL = b"\nsha256 "
CHUNK = 1 << 24  # bytes


def resolve(path: str) -> Path:
    """Place a relative path under the root (the checkout), wherever the kernel happens to run."""
    return ROOT / path


def hash_file(path: Path) -> str:
    """Hash a file's bytes (sha256); a large file is read once for each path, size and mtime, noted in store/hashes/."""
    stamp = file_stamp(path)
    if stamp[0] < CACHE_FROM_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    note = ROOT / "store" / "hashes" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    words = note.read_text().split() if note.exists() else []
    if len(words) == 3 and words[:2] == [str(n) for n in stamp]:
        return words[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    note.parent.mkdir(parents=True, exist_ok=True)
    aside = note.with_suffix(f".{threading.get_native_id()}")  # several stages may hash one file at the same time
    aside.write_text(f"{stamp[0]} {stamp[1]} {digest}")
    aside.replace(note)
    return digest


def outputs_of(folder: Path) -> dict[str, str]:
    """Map each output named in a folder's receipt to its sha256 now; unchanged size and mtime are trusted."""
    hashes = {}
    for name, record in json.loads((folder / RECEIPT).read_text())["outputs"].items():
        path = folder / name
        if path.is_file():
            same = file_stamp(path) == [record["size"], record["mtime_ns"]]
            hashes[name] = record["sha256"] if same else hash_file(path)
    return hashes


def files_under(folder: Path) -> list[str]:
    """List the files below a folder, sorted, relative to it."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != LOCK)


def file_stamp(path: Path) -> list[int]:
    """Return [size in bytes, mtime in ns]."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=1))


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to; at the end move it to `path`, or remove it if the block raised.

    The aside name is fixed, so what a kill left behind is overwritten by the next try. One writer a path at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def seal(path: Path) -> None:
    """Append a checksum of a file's content to it; zip-like files (`torch.save`) are still read as they are."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(SEAL + digest.encode())


def is_sealed(path: Path) -> bool:
    """Say whether a file is there, ends with a checksum, and is still what was sealed."""
    length = len(SEAL) + 64
    size = path.stat().st_size - length if path.exists() else -1
    if size < 0:
        return False
    found = hashlib.sha256()
    with path.open("rb") as file:
        for start in range(0, size, CHUNK):
            found.update(file.read(min(CHUNK, size - start)))
        return file.read() == SEAL + found.hexdigest().encode()
