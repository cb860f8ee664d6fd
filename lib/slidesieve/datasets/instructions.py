"""SlideInstruct's training JSON (SlideChat; WSI-LLaVA's WSI-Bench has the same form) read into checked records.

A list of `{id, image: ["./BLCA/<slide>.csv"], conversations: [{from: "human", value}, {from: "gpt", value}, ...]}`.
The file stem of `image` is the slide. `<image>` is taken out of a human turn wherever it stands: visual tokens always
come first (`models.chat`). Departure: in a conversation of several rounds, SlideChat's later rounds see the earlier
ones; here every round is a turn of its own about the same slide.
"""

import gzip
import json
import re
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from slidesieve.datasets.questions import raise_faults

PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")
UNPACKED_BYTES = 1 << 30  # of a .json.gz, or
UNPACKED_AT_MOST = 100  # times its size: text shrinks to a tenth
SUFFIXES = r"\.(csv|pt|h5|npy|svs|tiff?|ndpi|mrxs|dcm)$"  # after a dot a slide's name may go on with a UUID


class Instruction(NamedTuple):
    """What one JSON item asks about its slide: (prompt, answer) pairs. Ids name items in errors; they may repeat."""

    id: str
    slide_id: str
    turns: tuple[tuple[str, str], ...]


def is_instructions(path: str | Path) -> bool:
    """Whether a file is read here: `.json` or `.json.gz`."""
    return str(path).endswith((".json", ".json.gz"))


def read_instructions(path: str | Path) -> list[Instruction]:
    """Read a file in its order; raise ValueError listing every fault, with its item's number (from 0) and id."""
    items = _load(Path(path))
    faults = [f"item {i} ({_name(item)}): {fault}" for i, item in enumerate(items) for fault in _faults(item)]
    raise_faults(path, faults)
    return [Instruction(item["id"], _slide(item["image"]), _turns(item["conversations"])) for item in items]


def _load(path: Path) -> list:
    try:
        items = json.loads(_unpacked(path) if path.suffix == ".gz" else path.read_bytes())
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); expected a list of conversations; download it again") from error
    if not isinstance(items, list) or not items:
        raise ValueError(f"{path}: got {_shown(items)}; expected a list of items with id, image and conversations")
    return items


def _unpacked(path: Path) -> bytes:
    most = max(UNPACKED_BYTES, UNPACKED_AT_MOST * path.stat().st_size)
    with gzip.open(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"unpacks to more than {most:,} bytes, {UNPACKED_AT_MOST} times its size")
    return data


def _name(item) -> str:
    return str(item.get("id", "no id")) if isinstance(item, dict) else "no id"


def _faults(item) -> list[str]:
    if not isinstance(item, dict):
        return [f"got {_shown(item)}; expected id, image and conversations"]
    missing = [key for key in ("id", "image", "conversations") if key not in item]
    if missing:
        return [f"no {', '.join(missing)}; got {', '.join(item)}"]
    faults = [] if is_text(item["id"]) and item["id"] else [f"id is {_shown(item['id'])}; expected a string"]
    return faults + _image_faults(item["image"]) + _conversation_faults(item["conversations"])


def _image_faults(image) -> list[str]:
    names = [image] if isinstance(image, str) else image
    if not isinstance(names, list) or not all(is_text(name) for name in names) or not names:
        return [f"image is {_shown(image)}; expected one file name in a list"]
    if len(names) > 1:
        return [f"image names {len(names)} files ({', '.join(names[:3])}); expected one: a row is about one slide"]
    return [] if _slide(names) else [f"image is {names[0]!r}; expected a file named like its slide"]


def _conversation_faults(said) -> list[str]:
    if not isinstance(said, list) or not all(
        isinstance(part, dict) and all(is_text(part.get(key)) for key in ("from", "value")) for part in said
    ):
        return [f"conversations is {_shown(said)}; expected a list of from and value, both strings"]
    speakers = [part["from"] for part in said]
    if not said or speakers != list(SPEAKERS) * (len(said) // 2):
        return [f"conversations go {', '.join(speakers) or 'nowhere'}; expected human, gpt, human, gpt, ..."]
    return [
        f"turn {i} ({part['from']}) says nothing; expected a {'question' if i % 2 == 0 else 'reply'}"
        for i, part in enumerate(said)
        if not _words(part)
    ]


def is_text(value: object) -> bool:
    """Whether it is a string that can be written: JSON may hold halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _slide(image: str | list[str]) -> str:
    name = PurePosixPath(image if isinstance(image, str) else image[0]).name
    return re.sub(SUFFIXES, "", name, flags=re.IGNORECASE)


def _turns(said: list[dict]) -> tuple[tuple[str, str], ...]:
    words = [_words(part) for part in said]
    return tuple(zip(words[::2], words[1::2], strict=True))


def _words(part: dict) -> str:
    return (part["value"].replace(PLACEHOLDER, "") if part["from"] == "human" else part["value"]).strip()


def _shown(value: object) -> str:
    text = json.dumps(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
