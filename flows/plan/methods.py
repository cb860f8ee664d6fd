"""Methods of an experiment: a compressor, and what differs from its notebooks' defaults, in one word."""

import re
from typing import NamedTuple

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.compressors.result import Compressor
from slidesieve.provenance.parameters import nearest

IN_FRONT = ("slide_encoder", "standardise")  # what the projector learns to read behind
CLAIMED = ("position_ids", "position_span")  # and where, for the compressor whose stage 1 the alignment is
SWITCHES = ("alignment", "pretraining")  # what a method can go without, though it is no notebook's parameter
COARSE = "coarse"


class Method(NamedTuple):
    """A compressor and what differs from its notebooks' defaults, written `COMPRESSOR:name=value:40.name=value`.

    `name` is the text itself, which tables show. `alignment=off` starts the method without the alignment,
    `pretraining=off` without a pre-training of its compressor. `coarse=4` gives it tiles of four times the mpp, a
    sixteenth as many.
    """

    name: str
    compressor: str
    changes: tuple[str, ...] = ()
    alignment: bool = True
    pretraining: bool = True
    coarse: int = 1

    @property
    def made(self) -> type[Compressor]:
        return COMPRESSORS[self.compressor]

    @property
    def tag(self) -> str:
        return re.sub(r"[^\w.]+", "-", self.name)

    @property
    def in_front(self) -> tuple[str, ...]:
        """Those changes that the method's own alignment must have too."""
        names = IN_FRONT + (CLAIMED if self.compressor == "all" else ())
        return tuple(change for change in self.changes if change.partition("=")[0] in names)


def parse_method(text: str) -> Method:
    """Read `COMPRESSOR:name=value:...`; raise ValueError for no compressor, or a part that is no name=value."""
    compressor, *parts = text.split(":")
    if compressor not in COMPRESSORS:
        raise ValueError(f"no compressor {compressor!r}{nearest(compressor, COMPRESSORS)}")
    faulty = [part for part in parts if not re.fullmatch(r"(\d+\.)?[a-z_]+=[^=]*", part)]
    if faulty:
        raise ValueError(
            f"compressor {text!r}: got {faulty[0]!r}; write COMPRESSOR:name=value, e.g. sparselearn:gate=scale"
        )
    changes = tuple(part for part in parts if part.partition("=")[0] not in (*SWITCHES, COARSE))
    switched = dict(part.split("=") for part in parts if part not in changes)
    coarse = switched.pop(COARSE, "")
    if coarse and not re.fullmatch(r"[2-9]|[1-9]\d", coarse):
        raise ValueError(f"compressor {text!r}: got coarse={coarse!r}; expected how many times the mpp: 2 to 99")
    wrong = [f"{name}={value}" for name, value in switched.items() if value != "off"]
    if wrong:
        raise ValueError(f"compressor {text!r}: got {wrong[-1]!r}; {' and '.join(SWITCHES)} can only be off")
    on = {name: name not in switched for name in SWITCHES}
    return Method(text, compressor, changes, **on, coarse=int(coarse or 1))
