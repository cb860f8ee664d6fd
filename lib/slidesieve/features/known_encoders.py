"""Encoders known by name (`known_encoders.toml`): what tiles they were made for, what loads them, and what may not.

An encoder is refused before any weights are opened where it cannot serve: no config, an unknown kind, a package or code
of its own (never run), or timm's and no timm here.
"""

import json
import re
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.hdf5 import attributes, open_hdf5
from slidesieve.provenance.weights import snapshot

TABLE = Path(__file__).with_suffix(".toml")
STAND_IN = "stain-texture"  # statistics without weights: `encoders.StainTexture`
TILE_PX, MPP, POOLING = 256, 0.5, "cls"  # where a name says nothing
INSTALL_TIMM = "pip install 'slidesieve[timm]' (in a checkout: pip install -e '.[timm]')"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")


class KnownEncoder(NamedTuple):
    """Facts of an encoder; None or "" where one could not be established. `tile_px` is in pixels of `mpp` µm."""

    id: str
    loaded_by: str
    tile_px: int | None = None
    mpp: float | None = None
    pooling: str | None = None
    licence: str = ""
    gated: bool | None = None
    trident: str = ""
    swiglu: bool = False

    @property
    def name(self) -> str:
        """The last part of its id."""
        return self.id.rpartition("/")[2]

    @property
    def terms(self) -> str:
        """What its weights are had under."""
        return (
            ", ".join([*(["gated"] if self.gated else []), *filter(None, [self.licence])]) or "licence not known here"
        )


@cache
def known_encoders() -> tuple[KnownEncoder, ...]:
    """Every encoder of the table."""
    rows = tomllib.loads(TABLE.read_text(encoding="utf-8"))["encoder"]
    return tuple(KnownEncoder(**row) for row in rows)


def known(name_or_path: str) -> KnownEncoder | None:
    """The known encoder that this hub id, last part of one, or folder whose name ends so is; None for none."""
    cached = [part for part in Path(name_or_path).parts if part.startswith("models--")]  # of the hub's own cache
    given = _plain(cached[-1].rpartition("--")[2] if cached else Path(name_or_path).name)
    ends = [e for e in known_encoders() if re.search(rf"(^|[^0-9a-z]){re.escape(_plain(e.name))}$", given)]
    return max(ends, key=lambda encoder: len(encoder.name), default=None)


def hub_id(name_or_path: str) -> str:
    """The id of an encoder that is named by the last part of it; anything else as it is."""
    found = known(name_or_path)
    bare = found and "/" not in name_or_path and not Path(name_or_path).exists()
    return found.id if bare and _plain(name_or_path) == _plain(found.name) else name_or_path


def own_pooling(name_or_path: str, pooling: str) -> str:
    """`pooling` if there is any, else the encoder's own, else the class token."""
    found = known(name_or_path)
    return pooling or (found.pooling if found else None) or POOLING


def departures(name_or_path: str, *, tile_px: int, mpp: float, pooling: str) -> str:
    """What differs from what a known encoder was made for, in words; "" if nothing, or if it is not known.

    `tile_px` in pixels of `mpp` micrometres; a scale within 2 % is the same.
    """
    found = known(name_or_path)
    if not found:
        return ""
    scale_differs = bool(found.mpp) and abs(mpp - found.mpp) > 0.02 * found.mpp
    told = [
        f"{what} {given:g}, made for {own:g}"
        for what, given, own, differs in (
            ("tile_px", tile_px, found.tile_px, tile_px != found.tile_px),
            ("mpp", mpp, found.mpp, scale_differs),
        )
        if own and differs
    ]
    told += [f"pooling {pooling}, made for {found.pooling}"] if found.pooling and pooling != found.pooling else []
    return f"{found.name}: {'; '.join(told)}" if told else ""


def departures_of_tiles(name_or_path: str, pooling: str, tiles: Path) -> str:
    """`departures` of a folder of stage 10's tile files, told by its first one; "" if there is none."""
    if (first := next(iter(sorted(tiles.glob("*.h5"))), None)) is None:
        return ""
    with open_hdf5(first) as file:
        attrs = attributes(file["coords"]) | attributes(file)
    return departures(name_or_path, tile_px=int(attrs["patch_size"]), mpp=float(attrs["mpp"]), pooling=pooling)


def check_loadable(name_or_path: str, *, tile_px: int | None = None, mpp: float | None = None) -> None:
    """Raise ValueError, in one line, if an encoder cannot be loaded here; read its config if that is at hand.

    A hub id that is neither known nor in the cache passes: the hub will say. The remedy speaks of tiles of `tile_px`
    pixels of `mpp` micrometres, or of the encoder's own.
    """
    if not name_or_path:
        raise ValueError(
            "encoder: got none; slides have to be encoded: name a vision model by folder or hub id (--encoder "
            f"PATH_OR_ID), or the stand-in without weights ({STAND_IN}), or name features in the manifest's "
            "feature_path"
        )
    if name_or_path == STAND_IN:
        return
    found, folder = known(name_or_path), _folder(name_or_path)
    if folder is None:
        kind = found.loaded_by if found else ""
    elif (folder / "config.json").is_file():
        kind = _kind(name_or_path, folder)
    elif found and found.loaded_by not in ("transformers", "timm"):
        kind = found.loaded_by
    else:
        raise ValueError(f"{name_or_path}: no config.json there; expected the folder of a vision model; correct it")
    if kind == "timm" and not (find_spec("timm") and find_spec("torchvision")):
        raise ValueError(
            f"{name_or_path}: a model of timm; got no timm here, expected it beside transformers: {INSTALL_TIMM}"
        )
    if kind not in ("", "transformers", "timm"):
        raise ValueError(
            f"{name_or_path}: needs {kind}, which is never run here; expected a model that transformers or timm loads; "
            f"{_by_other_means(found, tile_px, mpp)}"
        )


def _by_other_means(found: KnownEncoder | None, tile_px: int | None, mpp: float | None) -> str:
    named = found.trident if found and found.trident else "NAME"
    side = tile_px or (found.tile_px if found else None) or TILE_PX
    scale = mpp or (found.mpp if found else None) or MPP
    return (
        f"make its features with TRIDENT (--patch_encoder {named} --patch_size {side} --mag {10 / scale:g}) and name "
        "them in the manifest's feature_path"
    )


def _folder(name_or_path: str) -> Path | None:
    """Where its files lie: a folder, or what the hub's cache has of an id; None if neither is here."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    return snapshot(hub_id(name_or_path))


def _kind(name_or_path: str, folder: Path) -> str:
    """Read from a config.json what loads it: transformers, timm or other code; raise ValueError if nothing does."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "pretrained_cfg" in config:
        return "timm"
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # seconds to import

    model_type = config.get("model_type", "")
    if model_type not in CONFIG_MAPPING_NAMES:
        if "auto_map" in config:
            return "code of its own"
        raise ValueError(
            f"{name_or_path}: its config.json says model_type {model_type!r}, which transformers does not know; "
            "expected a vision model of transformers or timm; name another"
        )
    if not any((folder / name).is_file() for name in PROCESSORS):
        raise ValueError(
            f"{name_or_path}: a {model_type} without {PROCESSORS[0]}, which says how pixels are scaled; expected a "
            "vision model with it; put the file there, or name another"
        )
    return "transformers"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
