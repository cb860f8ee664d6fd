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
from functools import lru_cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = CHECKOUT if (CHECKOUT / "notebooks").is_dir() else Path.cwd()  # an installed package works where it is called
CACHE_FROM_BYTES = 1 << 20
RECEIPT = "receipt.json"
MARK = ".slidesieve"  # says whose a folder is
MOST_NAME, MOST_PATH = 255, 1000  # bytes of a file's name, signs of an output's path: more than file systems take
LOCK, WRITER, HOLDER = ".lock", ".lock.writer", ".lock.holder"  # who works in it
ASIDE = ".{}.partial"  # a file until it is whole
BOOKS = {MARK, LOCK, WRITER, HOLDER, *map(ASIDE.format, (MARK, HOLDER))}  # part of nothing
WORK_MARK = "recipe.txt"  # says which recipe the files beside it belong to
VERIFY = "SLIDESIEVE_VERIFY"
SEAL = b"\nsha256 "
CHUNK = 1 << 24  # bytes


def resolve(path: str) -> Path:
    """Place a relative path under the root (the checkout), wherever the kernel happens to run."""
    return ROOT / path


def hash_file(path: Path) -> str:
    """Hash a file's bytes (sha256); a large file is read once for each path, size and mtime, noted in store/hashes/.

    A run that verifies trusts no note: it reads the file, once a process for each change of it.
    """
    stamp = file_stamp(path)
    if stamp[0] < CACHE_FROM_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    note = ROOT / "store" / "hashes" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    words = note.read_text().split() if note.exists() else []
    noted = words[2] if len(words) == 3 and words[:2] == [str(n) for n in stamp] else ""
    if noted and not verifies():
        return noted
    digest = _read_once(path.resolve(), _version_of(path)) if verifies() else _digest(path)
    if digest == noted:
        return digest
    note.parent.mkdir(parents=True, exist_ok=True)
    aside = note.with_suffix(f".{threading.get_native_id()}")  # several stages may hash one file at the same time
    aside.write_text(f"{stamp[0]} {stamp[1]} {digest}")
    aside.replace(note)
    return digest


@contextmanager
def verified(verify: bool) -> Iterator[None]:
    """Let this process and those that it starts read every file again, instead of trusting size and mtime."""
    before = os.environ.get(VERIFY)
    if verify:
        os.environ[VERIFY] = "1"
    try:
        yield
    finally:
        if verify:
            os.environ.pop(VERIFY)
            os.environ.update({VERIFY: before} if before else {})


def verifies() -> bool:
    """Say whether this run reads every file again."""
    return bool(os.environ.get(VERIFY))


def outputs_of(folder: Path) -> dict[str, str]:
    """Map each output named in a folder's receipt to its sha256 now; unchanged size and mtime are trusted.

    Raises as `read_receipt` does.
    """
    hashes = {}
    for name, record in read_receipt(folder)["outputs"].items():
        path = folder / name
        if path.is_file():
            same = not verifies() and file_stamp(path) == [record["size"], record["mtime_ns"]]
            hashes[name] = record["sha256"] if same else hash_file(path)
    return hashes


def read_receipt(folder: Path) -> dict:
    """A folder's receipt. Raises FileNotFoundError if there is none, ValueError if it is damaged or not one of ours."""
    path = folder / RECEIPT
    try:
        receipt = _receipt(path, _version_of(path))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"{path}: not found; the stage that writes to {folder} has not finished; run it first"
        ) from error
    if receipt is None:
        raise ValueError(f"{path}: not a receipt of ours; run the stage that writes to {folder} again")
    return receipt


def has_receipt(folder: Path) -> bool:
    """Say whether a folder has a receipt of ours. Raises ValueError if what it has is no JSON at all."""
    try:
        return _receipt(folder / RECEIPT, _version_of(folder / RECEIPT)) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_json(path: Path) -> object:
    """Read a JSON file of ours. Raises ValueError naming it if it is damaged, FileNotFoundError if it is absent."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged, no JSON ({error}); run again what wrote it") from error


def files_under(folder: Path) -> list[str]:
    """List the files below a folder, sorted, relative to it."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name not in BOOKS)


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
    aside = path.with_name(ASIDE.format(path.name))
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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1 << 16)
def _read_once(path: Path, _version: tuple[int, ...]) -> str:
    return _digest(path)


def _version_of(path: Path) -> tuple[int, ...]:
    """What no change of a file leaves as it was while this process runs: nobody sets a ctime."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


@lru_cache(maxsize=256)
def _receipt(path: Path, version: tuple[int, ...]) -> dict | None:
    """A receipt as it is in this version of its file, None where it is not one of ours; for reading only."""
    receipt = read_json(path)
    return receipt if _is_receipt(receipt) else None


def _lies_inside(name: str) -> bool:
    """Say whether an output's name could be one of a file in its stage's folder."""
    parts = name.split("/")
    try:
        longest = max(len(part.encode()) for part in parts)
    except UnicodeEncodeError:  # half a sign
        return False
    return not ({"", ".", ".."} & {*parts} or "\0" in name) and longest <= MOST_NAME and len(name) <= MOST_PATH


def _is_receipt(content: object) -> bool:
    """Say whether JSON has the form of a receipt; one of an earlier version has no `code` in its recipe."""
    recipe, outputs = (content.get(n) for n in ("recipe", "outputs")) if isinstance(content, dict) else (None, None)
    if not (isinstance(recipe, dict) and isinstance(outputs, dict)):
        return False
    types = {"notebook": str, "code": dict, "parameters": dict, "inputs": dict} if "code" in recipe else {}
    whole = all(isinstance(recipe.get(name), kind) for name, kind in types.items())
    whole = whole and isinstance(recipe.get("figures", {}), dict)
    whole = whole and all(isinstance(files, dict) for files in recipe.get("inputs", {}).values())
    whole = whole and all(map(_lies_inside, outputs))
    return whole and all(isinstance(r, dict) and {"sha256", "size", "mtime_ns"} <= r.keys() for r in outputs.values())
