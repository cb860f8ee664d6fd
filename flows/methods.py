"""Methods of an experiment: a compressor, and what differs from its notebooks' defaults, in one word."""

import re
from typing import NamedTuple


class Method(NamedTuple):
    """A compressor and what differs from its notebooks' defaults, written `COMPRESSOR:name=value:40.name=value`.

    `name` is the text itself, which tables show. `alignment=off` starts the method without the alignment.
    """

    name: str
    compressor: str
    changes: tuple[str, ...] = ()
    alignment: bool = True

    @property
    def tag(self) -> str:
        return re.sub(r"[^\w.]+", "-", self.name)

    @property
    def slide_encoder(self) -> str:
        """What the method's own alignment must have in front of the compressor."""
        given = [change.partition("=")[2] for change in self.changes if change.startswith("slide_encoder=")]
        return given[-1] if given else ""


def parse_method(text: str) -> Method:
    """Read `COMPRESSOR:name=value:...`; raise ValueError for a part that is no name=value."""
    compressor, *parts = text.split(":")
    faulty = [part for part in parts if not re.fullmatch(r"(\d+\.)?[a-z_]+=[^=]*", part)]
    if faulty:
        raise ValueError(
            f"compressor {text!r}: got {faulty[0]!r}; write COMPRESSOR:name=value, e.g. sparselearn:gate=scale"
        )
    changes = tuple(part for part in parts if not part.startswith("alignment="))
    off = [part for part in parts if part.startswith("alignment=")]
    if off not in ([], ["alignment=off"]):
        raise ValueError(f"compressor {text!r}: got {off[-1]!r}; alignment can only be off")
    return Method(text, compressor, changes, alignment=not off)
