"""HDF5 files that anyone may have written: judged by their header, and read only then.

HDF5 itself reads, without a word, zeros for what was never written or for an absent source, other files through links
and external storage, and as much as a header declares. All of that is refused here, before any of it is read.
"""

import math
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

COMPRESSED_AT_MOST = 100  # times: features shrink to a half, places to a tenth
DECLARED_BYTES = 64 << 20  # taken of any compressed dataset, however small it is on disk
ATTRIBUTE_BYTES = 1 << 20
TRIDENT_ATTRS = (  # on `coords`; all others are the file's
    *("patch_size", "patch_size_level0", "overlap", "level0_magnification", "target_magnification"),
    *("level0_width", "level0_height", "name"),
)
HEAP = b"GCOL\x01"  # a global heap's first bytes
LARGE = 1 << 20  # bytes of a dataset that is not looked through for heaps
NUMBERS, WHOLE, WORDS = "fiu", "iu", "S"  # kinds of dtype, as numpy's; strings of any length are S, too
_KIND_WORDS = {NUMBERS: "numbers", WHOLE: "whole numbers", WORDS: "strings"}


class Hdf5Fault(ValueError):
    """A file that is not read: damaged, or one whose header asks for more than the file holds."""


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading. Raises Hdf5Fault if it is not HDF5, FileNotFoundError if it is not there."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; correct its name, or write it again")
    if not path.is_file() or not h5py.is_hdf5(path):
        raise Hdf5Fault(f"{path}: not HDF5 (or cut short); expected a whole .h5 file; copy it, or write it again")
    with _named(path):
        file = h5py.File(path, "r")
        if fault := _heap_fault(file):
            file.close()
            raise Hdf5Fault(f"{path}: damaged ({fault}); expected a whole HDF5 file; copy it, or write it again")
        return file


def names(file: h5py.File) -> set[str]:
    """Return the names at a file's root."""
    with _named(file.filename):
        return set(file)


def offers(file: h5py.File, name: str) -> bool:
    """Say whether a dataset, or a link, goes by this name; it is for `dataset` to refuse it."""
    with _named(file.filename):
        link = file.get(name, getlink=True)
        return bool(link) and (not isinstance(link, h5py.HardLink) or file.get(name, getclass=True) is h5py.Dataset)


def is_group(file: h5py.File, name: str) -> bool:
    """Say whether a group of this very file goes by this name."""
    with _named(file.filename):
        link = file.get(name, getlink=True)
        return isinstance(link, h5py.HardLink) and file.get(name, getclass=True) is h5py.Group


def dataset(file: h5py.File, name: str, *, kinds: str = NUMBERS) -> h5py.Dataset:
    """Return a dataset that can be read: in this file, of these kinds, written in full, no larger than it can be.

    Raises Hdf5Fault naming file, dataset, what was found, what was expected and what to do.
    """
    with _named(file.filename):
        fault = _link_fault(file, name) or _content_fault(file[name], kinds)
        if fault:
            raise Hdf5Fault(f"{file.filename}: {name!r} {fault}")
        return file[name]


def read(data: h5py.Dataset, start: int = 0, end: int | None = None) -> np.ndarray:
    """Read rows of what `dataset` returned; all without `end`."""
    with _named(data.file.filename):
        return data[()] if end is None and not start else data[start:end]


def attributes(item: h5py.File | h5py.Dataset) -> dict:
    """Return the attributes of a file or dataset as plain values, arrays as lists."""
    with _named(item.file.filename):
        for name in item.attrs:
            header = item.attrs.get_id(name)
            if (size := math.prod(header.shape or ()) * header.dtype.itemsize) > ATTRIBUTE_BYTES:
                raise Hdf5Fault(
                    f"{item.file.filename}: attribute {name!r} of {item.name} declares {size:,} bytes; expected at "
                    f"most {ATTRIBUTE_BYTES:,}; write the file again"
                )
        return {name: _plain(value) for name, value in item.attrs.items()}


def read_attrs(path: Path) -> dict:
    """Read the provenance of a feature or tile file without its arrays. Raises ValueError if it is damaged."""
    with open_hdf5(path) as file:
        return attributes(file)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value.tolist() if isinstance(value, np.ndarray) else value


def _link_fault(file: h5py.File, name: str) -> str:
    """Say if a name does not lead to a dataset of this very file; no link is followed for it."""
    parts = name.split("/")
    for i in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:i]), getlink=True)
        if link is None:
            return f"is not there; got {', '.join(sorted(file)) or 'nothing'}; write the file again"
        if not isinstance(link, h5py.HardLink):
            to = f"{link.filename}, {link.path}" if isinstance(link, h5py.ExternalLink) else link.path
            return f"is a link to {to}; expected the data themselves; copy them into this file"
    kind = file.get(name, getclass=True)
    return "" if kind is h5py.Dataset else f"is a {kind.__name__}; expected a dataset; write the file again"


def _content_fault(data: h5py.Dataset, kinds: str) -> str:
    if data.is_virtual:
        return "is a virtual dataset, kept in other files; expected the data themselves; copy them into this file"
    if data.external:
        return (
            f"is kept in another file ({data.external[0][0]}); expected the data themselves; copy them into this file"
        )
    kind = WORDS if h5py.check_string_dtype(data.dtype) else data.dtype.kind
    if kind not in kinds:
        return f"holds {data.dtype}; expected {_KIND_WORDS[kinds]}; write the file again"
    if data.shape is None:
        return "holds nothing; expected an array; write the file again"
    return _size_fault(data)


def _size_fault(data: h5py.Dataset) -> str:
    """Compare what a dataset declares with what is on disk."""
    size, item = Path(data.file.filename).stat().st_size, data.dtype.itemsize
    declared, stored = math.prod(data.shape) * item, min(data.id.get_storage_size(), size)
    if not declared:
        return ""
    if data.chunks:
        chunks = math.prod(-(-length // step) for length, step in zip(data.shape, data.chunks, strict=True))
        absent, part = chunks - data.id.get_num_chunks(), f" in {chunks:,} chunks"
    else:
        chunks, absent, part = 1, 0 if stored else 1, ""
    if absent > 0:
        lost = "nothing of it ever" if absent == chunks else f"{absent:,} of them never"
        return (
            f"declares {data.shape}{part}, {lost} written: that would read as {data.fillvalue}; expected every value; "
            "write the file again"
        )
    packed = data.id.get_create_plist().get_nfilters() > 0
    most = max(DECLARED_BYTES, COMPRESSED_AT_MOST * stored) if packed else size
    needed = max(declared, math.prod(data.chunks) * item) if packed else declared
    if needed <= most:
        return ""
    return (
        f"declares {data.shape} of {data.dtype}, {needed:,} bytes, in {stored:,} bytes on disk; expected at most "
        f"{most:,}" + (f" ({COMPRESSED_AT_MOST} times what is stored)" if packed else "") + "; write the file again"
    )


def _heap_fault(file: h5py.File) -> str:
    """Say if an object of a global heap (texts of any length) is shorter than its header or longer than its heap.

    Walking a heap over an object of no size, HDF5 never ends. Heaps are looked for wherever no large dataset lies.
    """
    with Path(file.filename).open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for start, end in _gaps(_large_pieces(file), len(data)):
            at = data.find(HEAP, start, end)
            while at >= 0:
                if fault := _objects_fault(data[at : at + int.from_bytes(data[at + 8 : at + 16], "little")]):
                    return f"the heap at byte {at:,} {fault}"
                at = data.find(HEAP, at + 1, end)
    return ""


def _objects_fault(heap: bytes) -> str:
    at = 16
    while len(heap) - at >= 16:
        index, size = (int.from_bytes(heap[at + i : at + j], "little") for i, j in ((0, 2), (8, 16)))
        length = 16 + -(-size // 8) * 8 if index else size  # 0 is what is free, its header included
        if not 16 <= length <= len(heap) - at:
            return f"declares an object of {length:,} bytes where {len(heap) - at:,} are left"
        at += length
    return ""


def _large_pieces(file: h5py.File) -> list[tuple[int, int]]:
    """First byte and end of each piece of the large datasets at a file's root."""
    if file.userblock_size:
        return []
    pieces = []
    for name in file:
        hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
        if not hard or file.get(name, getclass=True) is not h5py.Dataset:
            continue
        data = file[name].id
        if data.get_storage_size() <= LARGE:
            continue
        if data.get_offset() is not None:
            pieces.append((data.get_offset(), data.get_offset() + data.get_storage_size()))
        elif data.get_create_plist().get_layout() == h5py.h5d.CHUNKED:
            data.chunk_iter(lambda chunk: pieces.append((chunk.byte_offset, chunk.byte_offset + chunk.size)))
    return sorted(pieces)


def _gaps(pieces: list[tuple[int, int]], length: int) -> Iterator[tuple[int, int]]:
    at = 0
    for start, end in pieces:
        if at < start:
            yield at, start
        at = max(at, end)
    if at < length:
        yield at, length


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    """Name the file in whatever HDF5 raises: a damaged file shows as any kind of error."""
    try:
        yield
    except (Hdf5Fault, PermissionError, BlockingIOError):
        raise
    except Exception as error:
        raise Hdf5Fault(
            f"{path}: damaged ({type(error).__name__}: {error}); expected a whole HDF5 file; copy it, or write it again"
        ) from error
