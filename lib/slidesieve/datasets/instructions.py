"""SlideInstruct's training JSON (SlideChat; WSI-LLaVA's WSI-Bench has the same form) read into checked records.

A list of `{id, image: ["./BLCA/<slide>.csv"], conversations: [{from: "human", value}, {from: "gpt", value}, ...]}`.
The file stem of `image` is the slide. `<image>` is taken out of a human turn wherever it stands: visual tokens always
come first (`models.chat`). Departure: in a conversation of several rounds, SlideChat's later rounds see the earlier
ones; here every round is a turn of its own about the same slide. Turns that stand the wrong way round and a lone
quotation mark at an end are repaired; other faulty items are set aside and counted (`datasets.records`).
"""

import gzip
import json
import re
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from slidesieve.cohort.ids import without_ending
from slidesieve.datasets.records import Fault, Records, corrected, read_corrections, record_hash

PLACEHOLDER = "<image>"
SPEAKERS = ("human", "gpt")
UNPACKED_BYTES = 1 << 30  # of a .json.gz, or
UNPACKED_AT_MOST = 100  # times its size: text shrinks to a tenth
SWAPPED, QUOTED = "turns swapped", "a lone quotation mark"
MOST_INCHES = 4  # characters in which a quotation mark may be a unit


class Instruction(NamedTuple):
    """What one JSON item asks about its slide: (prompt, answer) pairs. Ids name items in errors; they may repeat."""

    id: str
    slide_id: str
    turns: tuple[tuple[str, str], ...]


def is_instructions(path: str | Path) -> bool:
    """Whether a file is read here: `.json` or `.json.gz`."""
    return str(path).endswith((".json", ".json.gz"))


def read_instructions(path: str | Path, *, corrections: Path | None = None) -> list[Instruction]:
    """Read a file in its order, faulty items set aside; ValueError listing them, by number (from 0), if too many."""
    return parse_instructions(path, corrections=corrections).settled(path)


def parse_instructions(path: str | Path, *, corrections: Path | None = None) -> Records:
    """Read a file in its order, and what is wrong with its items."""
    items, used, faults = corrected(_load(Path(path)), read_corrections(corrections)), [], []
    for i, item in enumerate(items):
        found = [(kind, text, False) for kind, text in _faults(item)]
        if not found:
            said, repairs = _repaired(item["conversations"])
            found = [(kind, kind, True) for kind in repairs]
            found += [(kind, text, False) for kind, text in _conversation_faults(said)]
            if all(repaired for *_, repaired in found):
                used.append(Instruction(item["id"], _slide(item["image"]), _turns(said)))
        faults += [Fault(f"item {i}", _name(item), record_hash(item), *one) for one in found]
    return Records(used, faults, len(items))


def load_json(path: Path) -> object:
    """Read JSON, packed (.gz) or not. Raises ValueError naming the file if it is none."""
    try:
        return json.loads(_unpacked(path) if path.suffix == ".gz" else path.read_bytes())
    except (ValueError, EOFError, gzip.BadGzipFile, zlib.error, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error}); expected a list of conversations; download it again") from error


def _load(path: Path) -> list:
    items = load_json(path)
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


def _faults(item) -> list[tuple[str, str]]:
    """Kind and text of each fault that no repair touches."""
    if not isinstance(item, dict):
        return [("no record", f"got {_shown(item)}; expected id, image and conversations")]
    missing = [key for key in ("id", "image", "conversations") if key not in item]
    if missing:
        return [("a field is absent", f"no {', '.join(missing)}; got {', '.join(item)}")]
    faults = [] if is_text(item["id"]) and item["id"] else [f"id is {_shown(item['id'])}; expected a string"]
    faults = [("a field is no text", fault) for fault in faults]
    faults += [("no slide, or several", fault) for fault in _image_faults(item["image"])]
    said = item["conversations"]
    if not isinstance(said, list) or not all(
        isinstance(part, dict) and all(is_text(part.get(key)) for key in ("from", "value")) for part in said
    ):
        told = f"conversations is {_shown(said)}; expected a list of from and value, both strings"
        faults.append(("a field is no text", told))
    return faults


def _image_faults(image) -> list[str]:
    names = [image] if isinstance(image, str) else image
    if not isinstance(names, list) or not all(is_text(name) for name in names) or not names:
        return [f"image is {_shown(image)}; expected one file name in a list"]
    if len(names) > 1:
        return [f"image names {len(names)} files ({', '.join(names[:3])}); expected one: a row is about one slide"]
    return [] if _slide(names) else [f"image is {names[0]!r}; expected a file named like its slide"]


def _repaired(said: list[dict]) -> tuple[list[dict], list[str]]:
    """The conversation as it must have been meant, and what was done to it."""
    repairs = []
    if said and [part["from"] for part in said] == list(SPEAKERS[::-1]) * (len(said) // 2):
        said, repairs = [said[i ^ 1] for i in range(len(said))], [SWAPPED]
    unquoted = [part | {"value": _unquoted(part["value"])} for part in said]
    return unquoted, repairs + ([QUOTED] if unquoted != said else [])


def _unquoted(text: str) -> str:
    """Without a quotation mark at an end that opens or closes nothing; inches keep theirs."""
    words = text.strip()
    if words.count('"') % 2 == 0 or len(words) < MOST_INCHES:
        return text
    return words[:-1] if re.search(r'[^\d"]"$', words) else words[1:] if words[0] == '"' else text


def _conversation_faults(said: list[dict]) -> list[tuple[str, str]]:
    speakers = [part["from"] for part in said]
    if not said or speakers != list(SPEAKERS) * (len(said) // 2):
        told = f"conversations go {', '.join(speakers) or 'nowhere'}; expected human, gpt, human, gpt, ..."
        return [("turns in no order", told)]
    return [
        ("a turn says nothing", f"turn {i} ({part['from']}) says nothing; expected a {('question', 'reply')[i % 2]}")
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
    return without_ending(name)


def _turns(said: list[dict]) -> tuple[tuple[str, str], ...]:
    words = [_words(part) for part in said]
    return tuple(zip(words[::2], words[1::2], strict=True))


def _words(part: dict) -> str:
    return (part["value"].replace(PLACEHOLDER, "") if part["from"] == "human" else part["value"]).strip()


def _shown(value: object) -> str:
    text = json.dumps(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
