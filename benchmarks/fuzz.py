"""Damaged and hostile files against every reader: named errors, or a reading, and nothing else done.

    python -m benchmarks.fuzz [EXAMPLES] [NAME ...]

Each example is a valid file with bytes flipped, cut, spliced or replaced, or a file of random bytes; a reader returns,
or raises one of `DOCUMENTED` that names the file. Whatever else is raised, a file written or removed, one read outside
the folder and the installation, a process or a connection is a fault. The suite runs a hundred examples of each.
"""

import gzip
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.benchmarks import read_benchmark
from slidesieve.datasets.instructions import read_instructions
from slidesieve.datasets.labels import read_labels
from slidesieve.datasets.questions import COLUMNS, read_captions, read_questions
from slidesieve.features.bag import make_bag
from slidesieve.features.readers import count_tiles, format_of, is_packed, read_bag
from slidesieve.features.store import PackedStore, write_features, write_packed
from slidesieve.provenance import receipts
from slidesieve.provenance.files import ROOT
from slidesieve.provenance.hdf5 import read_attrs
from slidesieve.provenance.recipes import Recipe
from slidesieve.slides.slide import View
from slidesieve.slides.tiling import Tiling, read_tiling, write_tiling

EXAMPLES = 10_000
DOCUMENTED = (ValueError, OSError)
N, D = 5, 7
NASTY = [
    *(
        b"",
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
        b"9" * 5000,
        b"0x10",
        b"1_0",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"'",
        b'"',
    ),
    *(b"\n", b"\r", b",,,,", b"=1+1", b"<script>", b"{{7*7}}", b"\\ud800", b"\\u0000", b"[" * 20_000, b"{}", b"null"),
    *(b"\xe2\x80\xae", b"../../etc/passwd", b"/dev/zero", b"true", b"-0", b"[]", b'{"a": 1}'),
]
WRITES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
RUNS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "pickle.find_class"}


class Target(NamedTuple):
    """A kind of file: valid ones by name, and the readers that meet it."""

    files: dict[str, bytes]
    readers: tuple[Callable[[Path], object], ...]


def mutated(data: bytes) -> st.SearchStrategy[bytes]:
    """A file with up to a handful of changes, anywhere in it or near its beginning."""
    place = st.one_of(st.integers(0, len(data)), st.integers(0, min(len(data), 600)))
    change = st.one_of(
        st.tuples(st.just("flip"), place, st.integers(1, 255)),
        st.tuples(st.just("cut"), place, st.just(0)),
        st.tuples(st.just("drop"), place, st.integers(1, 40)),
        st.tuples(st.just("splice"), place, place),
        st.tuples(st.just("put"), place, st.sampled_from(NASTY)),
        st.tuples(st.just("value"), place, st.sampled_from(NASTY)),
        st.tuples(st.just("word"), place, st.sampled_from([2**63 - 1, 2**32, 2**16, 255, 0])),
    )
    return st.lists(change, min_size=1, max_size=4).map(lambda changes: _changed(data, changes))


def files_like(target: Target) -> st.SearchStrategy[tuple[str, bytes]]:
    """Names and contents: mutated valid files, and random ones under the same names."""
    of_one = [st.tuples(st.just(name), mutated(data)) for name, data in target.files.items()]
    return st.one_of(*of_one, *of_one, st.tuples(st.sampled_from(sorted(target.files)), st.binary(max_size=300)))


def fuzz(name: str, *, examples: int, derandomize: bool) -> dict[str, int]:
    """Run a target; return how often it was read and how often refused. Raises AssertionError with the first fault."""
    counts = {"read": 0, "refused": 0}
    target = TARGETS[name]()

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(files_like(target))
    def one(file: tuple[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file[0]
            path.write_bytes(file[1])
            for reader in target.readers:
                counts["read" if _is_read(reader, path) else "refused"] += 1
            assert path.read_bytes() == file[1] and list(Path(folder).iterdir()) == [path], "a file was written"

    one()
    return counts


def _is_read(reader: Callable[[Path], object], path: Path) -> bool:
    with watched(path.parent):
        try:
            reader(path)
        except DOCUMENTED as error:
            assert path.name in f"{error}{getattr(error, 'filename', '')}", f"{error!r} does not name the file"
            return False
    return True


_watch: dict[str, object] = {"folder": None, "seen": [], "others": set()}


def _audit(event: str, arguments: tuple) -> None:
    folder = _watch["folder"]
    if folder is None or threading.get_ident() in _watch["others"]:
        return
    if event in WRITES | RUNS:
        _watch["seen"].append((event, str(arguments)[:200]))
    elif event == "open" and isinstance(arguments[0], str | bytes):
        path, mode, flags = Path(os.fsdecode(arguments[0])).absolute(), arguments[1] or "", arguments[2]
        writes = set(mode) & set("wax+") or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        known = (folder, sys.prefix, sys.base_prefix, str(ROOT), "/proc", "/sys", "/usr/lib", "/etc/mime.types")
        if writes or not str(path).startswith(tuple(map(str, known))):
            _watch["seen"].append((event, str(path)))


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Raise AssertionError if the block writes, runs, connects, or reads a file that is none of its business.

    What threads do that ran before it (a client of a server that keeps its connection, say) is not the block's.
    """
    if not _watch.get("hooked"):
        sys.addaudithook(_audit)
        _watch["hooked"] = True
    before = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
    _watch.update(folder=folder, seen=[], others=before)
    try:
        yield
    finally:
        _watch["folder"] = None
    assert _watch["seen"] == [], _watch["seen"]


def _changed(data: bytes, changes: list[tuple]) -> bytes:
    for kind, at, value in changes:
        at = min(at, len(data))
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + value :]
        elif kind == "splice":
            data = data[:at] + data[value : value + 64] + data[at:]
        elif kind == "put":
            data = data[:at] + value + data[at:]
        elif kind == "value":  # the field, string or number that stands there
            start = max((data.rfind(mark, 0, at) for mark in (b",", b'"', b"\n", b" ")), default=-1) + 1
            ends = [end for mark in (b",", b'"', b"\n") if (end := data.find(mark, at)) >= 0]
            data = data[:start] + value + data[min(ends, default=len(data)) :]
        elif kind == "word":  # a size or an address in a header
            data = data[: at // 8 * 8] + value.to_bytes(8, "little") + data[at // 8 * 8 + 8 :]
    return data


def _written(write: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"f{suffix}"
        write(path)
        return path.read_bytes()


def _bags() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).standard_normal((N, D)).astype(np.float32), np.arange(2 * N).reshape(N, 2) * 256


def _chunked(path: Path) -> None:
    x, coords = _bags()
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=x, chunks=(1, D), maxshape=(None, D))
        file.create_dataset("coords", data=coords, chunks=(2, 2), compression="gzip")
        file["features"].attrs["encoder"], file["coords"].attrs["patch_size_level0"] = "e", 256


def _stamp(path: Path) -> None:
    x, coords = _bags()
    with h5py.File(path, "w") as file:
        file["feats"], file["coords"] = x, coords * 0.5
        file.attrs["unit"], file.attrs["feat_type"] = "um", "tile"


def _atlaspatch(path: Path) -> None:
    x, coords = _bags()
    with h5py.File(path, "w") as file:
        file["features/uni"], file["coords"] = x, np.pad(coords, ((0, 0), (0, 3)))


def hdf5_files() -> Target:
    x, coords = _bags()
    bag, short = make_bag("s", x, coords, {"encoder": "e"}), make_bag("t", x[:2], coords[:2], {})
    attrs = {"patch_size": 64, "mpp": 0.5, "recipe_hash": "abc"}
    tiling = Tiling(coords, np.ones(N, np.float32), 0, View(0, 1.0, 1.0), attrs)
    files = {
        "ours.h5": _written(lambda path: write_features(path, bag, {}), ".h5"),
        "packed.h5": _written(lambda path: write_packed(path, [bag, short]), ".h5"),
        "chunked.h5": _written(_chunked, ".h5"),
        "stamp.h5": _written(_stamp, ".h5"),
        "atlas.h5": _written(_atlaspatch, ".h5"),
        "tiles.h5": _written(lambda path: write_tiling(path, tiling, {"slide_id": "s"}), ".h5"),
    }
    readers = (
        lambda path: read_bag(path, "s", mpp=0.5),
        count_tiles,
        format_of,
        is_packed,
        read_tiling,
        read_attrs,
        _whole_store,
    )
    return Target(files, readers)


def _whole_store(path: Path) -> None:
    store = PackedStore(path)
    for slide in store.slide_ids:
        store.read(slide)


def bare_files() -> Target:
    x, coords = _bags()
    lines = [",".join(map(str, (*row, *place))) for row, place in zip(x.tolist(), coords.tolist(), strict=True)]
    files = {
        "a.npy": _written(lambda path: np.save(path, x), ".npy"),
        "a.pt": _written(lambda path: torch.save(torch.tensor(x), path), ".pt"),
        "a.csv": "\n".join([",".join([*map(str, range(D)), "x", "y"]), *lines]).encode(),
    }
    return Target(files, (lambda path: read_bag(path, "s"), count_tiles))


def question_tables() -> Target:
    rows = [f"q{i},s{i},Broad,narrow,Which tissue?,fat,nerve,gland,,{'ABC'[i]}" for i in range(3)]
    captions = [
        "ID,Slide,x_px0,y_px0,width_px0,height_px0,Caption",
        "c1,s1,0,0,64,64,Fat.",
        'c2,s1,,,,,"Fat, and nerve."',
    ]
    task = ["ID,Slide,Task,Question,A,B,C,D,Answer", "q,1,grade,Which?,one,two,,,B"]
    files = {"questions": [",".join(COLUMNS), *rows], "captions": captions, "task": task}
    data = {f"{name}.csv": "\n".join(lines).encode() for name, lines in files.items()}
    return Target(data, (read_questions, read_captions, lambda path: read_benchmark(path, slides=["s1"])))


def label_tables() -> Target:
    rows = ["slide_id,case_id,site,label", "s1.svs,c1,A,x", "s2,c2,B,y", "s3,c3,,x"]
    table = pd.DataFrame([row.split(",") for row in rows[1:]], columns=rows[0].split(","))
    files = {
        "labels.csv": "\n".join(rows).encode(),
        "german.csv": "\n".join(rows).replace(",", ";").replace("x", "ü").encode("cp1252"),
        "wide.csv": "\n".join(rows).encode("utf-16"),
        "labels.xlsx": _written(lambda path: table.to_excel(path, index=False), ".xlsx"),
    }
    return Target(files, (read_labels,))


def manifests() -> Target:
    rows = [f"s{i},c{i},A,slides/s{i}.svs,f/s{i}.h5,0.5,{split},,me,CC0" for i, split in enumerate(("train", "test"))]
    header = ",".join([*MANIFEST_COLUMNS, "label_grade"])
    return Target({"manifest.csv": "\n".join([header, *(f"{row},2" for row in rows)]).encode()}, (read_manifest,))


def instruction_files() -> Target:
    said = [{"from": "human", "value": "<image>\nWhat? A) x B) y C) z D) w"}, {"from": "gpt", "value": "B"}]
    items = [{"id": f"i{i}", "image": [f"./BLCA/s{i}.csv"], "conversations": said} for i in range(3)]
    asked = [{"Id": "TCGA-AA-0001", "Question": "Which?", "Choice": ["a", "b"], "Answer": "b"}]
    asked += [{"Id": "TCGA-AA-0002", "Question": "Why?", "Answer": "Because."}]
    data = json.dumps(items).encode()
    files = {"items.json": data, "items.json.gz": gzip.compress(data, mtime=0), "vqa.json": json.dumps(asked).encode()}
    slides = ["TCGA-AA-0001-01Z-00-DX1", "TCGA-AA-0002-01Z-00-DX1"]
    return Target(files, (read_instructions, lambda path: read_benchmark(path, slides=slides)))


def receipt_files() -> Target:
    recipe = Recipe(
        notebook="n", code={"slidesieve.a.b": "1"}, figures={}, parameters={"k": 3}, inputs={"q": {"": "2"}}
    )
    record = {"sha256": "0" * 64, "size": 3, "mtime_ns": 5}
    receipt = {"stage": "t", "digest": "d", "recipe": recipe._asdict(), "outputs": {"a.csv": record}, "given": {"k": 3}}
    return Target({receipts.RECEIPT: json.dumps(receipt).encode()}, (lambda path: _reasons(path.parent, recipe),))


def _reasons(folder: Path, recipe: Recipe) -> None:
    found = receipts.check(folder, recipe)
    assert isinstance(found, list) and all(isinstance(reason, str) for reason in found), found


TARGETS = {
    "hdf5": hdf5_files,
    "bare": bare_files,
    "questions": question_tables,
    "labels": label_tables,
    "manifests": manifests,
    "instructions": instruction_files,
    "receipts": receipt_files,
}


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES
    for name in sys.argv[2:] or TARGETS:
        start = time.monotonic()
        counts = fuzz(name, examples=examples, derandomize=False)
        print(f"{name}: {examples} files: {counts} in {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
