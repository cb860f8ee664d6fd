"""A paper's published values as options and settings of an experiment: `--preset NAME`, from presets/NAME.toml."""

import tomllib
from pathlib import Path
from typing import NamedTuple

from lib.parameters import nearest

PRESETS = Path(__file__).parent / "presets"


class Preset(NamedTuple):
    """`options` are values of the experiment's own options, `settings` words as `-p` takes them."""

    options: dict[str, object]
    settings: tuple[str, ...]


def read_preset(name: str) -> Preset:
    """Read a preset; the empty name is the empty preset. Raises ValueError for a name that there is not."""
    if not name:
        return Preset({}, ())
    names = sorted(path.stem for path in PRESETS.glob("*.toml"))
    if name not in names:
        raise ValueError(f"no preset {name!r}{nearest(name, names)}; there are {', '.join(names)}")
    table = tomllib.loads((PRESETS / f"{name}.toml").read_text(encoding="utf-8"))
    return Preset(table.get("options", {}), tuple(table.get("settings", {}).get("all", ())))
