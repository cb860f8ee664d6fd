"""Which weights a language model has, by content: a fingerprint, and what a hub id stands for in the local cache.

The hub's cache names a large file by its sha256, and the folder of a snapshot by its commit, so nothing is read there.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from slidesieve.provenance.files import hash_file, verifies

WEIGHTS = ("*.safetensors", "*.bin")  # the first kind that is there


def fingerprint(path_or_id: str) -> str:
    """Sixteen hex digits of a language model's weight files, the same for a folder and for a hub id that holds them."""
    folder = Path(path_or_id) if Path(path_or_id).is_dir() else snapshot(path_or_id)
    kinds = (sorted(folder.glob(kind)) for kind in WEIGHTS) if folder is not None else ()
    files = next((found for found in kinds if found), [])
    if not files:
        raise ValueError(f"{path_or_id}: no weights in *.safetensors or *.bin there; give a folder or id that has them")
    sums = {file.name: content_hash(file) for file in files}
    return hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:16]


def content_hash(file: Path) -> str:
    """The sha256 of a file; a blob of the hub's cache bears it as its name, trusted unless the run verifies."""
    blob = file.resolve()
    named = blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) and not verifies()
    return blob.name if named else hash_file(file)


def snapshot(model_id: str) -> Path | None:
    """The folder in the local cache that a hub id stands for now; None if it is not there."""
    repository = hub_cache() / f"models--{model_id.replace('/', '--')}"
    reference = repository / "refs" / "main"
    if not reference.is_file():
        return None
    folder = repository / "snapshots" / reference.read_text().strip()
    return folder if folder.is_dir() else None


def hub_cache() -> Path:
    """Where `huggingface_hub` keeps what it has fetched."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or Path(os.environ.get("HF_HOME") or f"{cache}/huggingface") / "hub").expanduser()
