"""The files of a training that can be resumed: a checkpoint and the one before it, best weights, losses.

    checkpoint.pt             what learns, its moments, the step, what validations saw
    checkpoint.previous.pt    the same, of one save earlier
    checkpoint.best-<step>.pt the best weights, written once when they are found; a checkpoint names its own
    checkpoint.losses.csv     a row a batch, appended to; a checkpoint knows how far, and the checksum up to there

Each is whole whenever a process is killed, and carries a checksum. A checkpoint also says which recipe it belongs to: a
stage's folder for resume state has the digest in a file. Whatever is damaged, or another recipe's, is set aside under
another name, with a line that says so, and the training goes on from what is whole.
"""

import hashlib
import os
from pathlib import Path

import torch

from slidesieve.provenance.files import WORK_MARK, is_sealed, seal, written_whole

HEADER = b"step,loss,lr\n"


class Losses:
    """A CSV file of losses that only grows: `rows` of them are written, `done` is its length in bytes."""

    def __init__(self, path: Path, *, rows: int = 0, done: int = 0):
        self.path, self.rows, self.done = path, rows, done

    def append(self, rows: list[tuple[int, float, float]]) -> dict[str, int | str]:
        """Write what is new of `rows`, over what a killed run may have left there; return what names this state."""
        new = "".join(f"{step},{loss!r},{lr!r}\n" for step, loss, lr in rows[self.rows :]).encode()
        with self.path.open("rb+" if self.path.exists() else "wb+") as file:
            file.truncate(self.done)
            file.seek(self.done)
            file.write(new if self.done else HEADER + new)
            file.flush()
            os.fsync(file.fileno())
            self.rows, self.done = len(rows), file.tell()
            file.seek(0)
            return {"rows": self.rows, "done": self.done, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def read_losses(path: Path, state: dict[str, int | str]) -> list[tuple[int, float, float]] | None:
    """The rows that a checkpoint knows of; None if the file does not hold them."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        known = file.read(state["done"])
    if hashlib.sha256(known).hexdigest() != state["sha256"]:
        return None
    cells = (line.split(",") for line in known.decode().splitlines()[1:])
    return [(int(step), float(loss), float(lr)) for step, loss, lr in cells]


def previous_of(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".previous.pt")


def best_of(checkpoint: Path, step: int) -> Path:
    return checkpoint.with_suffix(f".best-{step}.pt")


def losses_of(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".losses.csv")


def recipe_beside(checkpoint: Path) -> str:
    """The digest of the recipe that the checkpoint's folder is for; an empty string where no stage opened it."""
    mark = checkpoint.with_name(WORK_MARK)
    return mark.read_text() if mark.exists() else ""


def write_sealed(content: dict, path: Path) -> None:
    """Save tensors and numbers whole, with a checksum."""
    with written_whole(path) as aside:
        torch.save(content, aside)
        seal(aside)


def write_checkpoint(content: dict, path: Path) -> None:
    """Save a checkpoint, keep the one before it, and remove best weights that neither names."""
    named, new = {best_of(path, content["best_step"])}, path.with_suffix(".next.pt")
    write_sealed(content, new)
    if path.exists():
        path.replace(previous_of(path))
    new.replace(path)
    if previous_of(path).exists():
        named.add(best_of(path, _load(previous_of(path), mmap=True)["best_step"]))
    for other in set(path.parent.glob(f"{path.stem}.best-*.pt")) - named:
        other.unlink()


def last_whole(checkpoint: Path, recipe: str) -> Path | None:
    """The latest checkpoint of `recipe` that is whole, its best weights and losses too; others are set aside and named.

    One that does not say whose it is is nobody's.
    """
    for path in (checkpoint, previous_of(checkpoint)):
        if path.exists():
            fault, kind = _fault(path, checkpoint), "damaged"
            if not fault and (other := _load(path, mmap=True).get("recipe", "")) != recipe:
                fault, kind = f"of recipe {other or 'unknown'}, not of {recipe or 'none'}", "other-recipe"
            if not fault:
                return path
            aside = path.with_name(f"{path.name}.{kind}")
            path.replace(aside)
            print(f"{path.name}: {fault}; it is set aside as {aside.name}", flush=True)
    return None


def load_checkpoint(path: Path, checkpoint: Path) -> dict:
    """What a whole checkpoint holds, with `best` weights and loss `rows`."""
    saved = _load(path)
    best = _load(best_of(checkpoint, saved["best_step"])) if saved["best_step"] >= 0 else {}
    return saved | {"best": best, "rows": read_losses(losses_of(checkpoint), saved["losses"])}


def _fault(path: Path, checkpoint: Path) -> str:
    if not is_sealed(path):
        return "damaged, its checksum does not fit"
    saved = _load(path, mmap=True)
    best = best_of(checkpoint, saved["best_step"])
    if saved["best_step"] >= 0 and not is_sealed(best):
        return f"its best weights, {best.name}, are damaged"
    if read_losses(losses_of(checkpoint), saved["losses"]) is None:
        return f"its losses, {losses_of(checkpoint).name}, are damaged"
    return ""


def _load(path: Path, *, mmap: bool = False) -> dict:
    return torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
