"""A paper's published values as options and settings of an experiment: `--preset NAME`, from published/NAME.toml."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.parameters import nearest

PRESETS = Path(__file__).parent / "published"


class Preset(NamedTuple):
    """`options` are values of the experiment's own options, `settings` words as `-p` takes them.

    `tiles` are such words too: the tiles that the preset's own encoder was given, and no other is.
    """

    options: dict[str, object]
    settings: tuple[str, ...]
    tiles: tuple[str, ...] = ()


def read_preset(name: str) -> Preset:
    """Read a preset; the empty name is the empty preset. Raises ValueError for a name that there is not."""
    if not name:
        return Preset({}, ())
    names = sorted(path.stem for path in PRESETS.glob("*.toml"))
    if name not in names:
        raise ValueError(f"no preset {name!r}{nearest(name, names)}; there are {', '.join(names)}")
    table = tomllib.loads((PRESETS / f"{name}.toml").read_text(encoding="utf-8"))
    words = table.get("settings", {})
    return Preset(table.get("options", {}), tuple(words.get("all", ())), tuple(words.get("tiles", ())))


def words_for(compressors: Iterable[str], words: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a preset's words that these compressors know: it may name options of its own method beside others."""
    from slidesieve.compressors.registry import COMPRESSORS
    from slidesieve.models.options import all_options_of

    asked = {name.partition(":")[0] for name in compressors} & set(COMPRESSORS)
    known = {name: set(all_options_of(name)) for name in COMPRESSORS}
    foreign = set().union(*known.values()) - set().union(*(known[name] for name in asked))
    return tuple(word for word in words if word.partition("=")[0].rpartition(".")[2] not in foreign)
