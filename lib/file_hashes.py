"""Hashes of files: of any file, of a folder's files, of the outputs a receipt names; and JSON written atomically."""

import hashlib
import json
import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE_FROM_BYTES = 1 << 20
RECEIPT = "receipt.json"


def resolve(path: str) -> Path:
    """Place a relative path under the repository's root, wherever the kernel happens to run."""
    return ROOT / path


def hash_file(path: Path) -> str:
    """Hash a file's bytes (sha256), remembering large files by path, size and mtime in store/hashes.json."""
    size, mtime_ns = file_stamp(path)
    if size < CACHE_FROM_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    key, cache = str(path.resolve()), _read_cache()
    if cache.get(key, [None])[:2] == [size, mtime_ns]:
        return cache[key][2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    entries = {p: entry for p, entry in _read_cache().items() if Path(p).exists()} | {key: [size, mtime_ns, digest]}
    write_json(_cache_path(), entries)
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
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def file_stamp(path: Path) -> list[int]:
    """Return [size in bytes, mtime in ns]."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def write_json(path: Path, content: object) -> None:
    """Write JSON aside, sync, and rename: a file that exists is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=path.name, suffix=".partial", delete=False) as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)


def _cache_path() -> Path:
    return ROOT / "store" / "hashes.json"


def _read_cache() -> dict[str, list]:
    return json.loads(_cache_path().read_text()) if _cache_path().exists() else {}
