"""Tile images -> features: an offline stand-in, and any `transformers` vision model.

Every encoder has `name`, `d`, `tile_px` (the side it was made for, or None), `needs_fit`, `state_hash` (of whatever
it learned, for the provenance of its features) and `encode(tiles uint8 (n h w 3)) -> float32 (n d)`, which treats each
tile on its own: batch size and neighbours change nothing. Of one batch, `encode` is `encode_prepared(prepare(tiles))`:
what a CPU does first, in any thread, and the rest.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from slidesieve.features.known_encoders import STAND_IN, check_loadable, hub_id
from slidesieve.features.stain_texture import describe
from slidesieve.features.tile_batches import Features, Tiles, batches_of
from slidesieve.provenance.files import written_whole


@runtime_checkable
class Encoder(Protocol):
    """What stage 20 asks of an encoder."""

    name: str
    d: int
    tile_px: int | None
    needs_fit: bool

    @property
    def state_hash(self) -> str: ...

    def encode(self, tiles: Tiles) -> Features: ...

    def prepare(self, tiles: Tiles) -> Any: ...

    def encode_prepared(self, prepared: Any) -> Features: ...


def load_encoder(
    name_or_path: str, *, device: str = "cpu", batch_tiles: int = 128, pooling: str = "cls", dtype: str = "float32"
) -> Encoder:
    """Return the stand-in ("stain-texture") or a `transformers` model by folder or hub id.

    `pooling` ("cls", "mean", "cls_mean" or "pooler") says how a transformers model's tokens become one feature, `dtype`
    ("float32" or "bfloat16") in what it computes; the stand-in has no tokens, always runs on the CPU in batches of its
    own, and ignores all four. Raises ValueError for what cannot be loaded here (`check_loadable`).
    """
    check_loadable(name_or_path)
    if name_or_path == StainTexture.name:
        return StainTexture()
    from slidesieve.features.vision_models import TransformersEncoder  # torch's models: seconds to import

    return TransformersEncoder(
        hub_id(name_or_path), device=device, batch_tiles=batch_tiles, pooling=pooling, dtype=dtype
    )


class StainTexture:
    """Stain and texture statistics (`stain_texture`), whitened by PCA to `d` values and clipped to +-CLIP.

    The whitening is fitted once, without labels, on tiles of training slides:
    z = (raw - mean) / sd;  x = clip(z V / sqrt(eigenvalue + SHRINK * mean eigenvalue)).
    """

    name = STAND_IN
    tile_px = None
    needs_fit = True
    SHRINK, CLIP = 0.02, 5.0
    BATCH = 32  # always full, the last one padded: the same sums in the same order, so the same bits for the same tile

    def __init__(self, *, d: int = 96):
        self.d = d
        self._state: dict[str, np.ndarray] | None = None

    def raw(self, tiles: Tiles) -> Float[np.ndarray, "n r"]:
        """Describe tiles before whitening."""
        return self._in_full_batches(tiles, lambda raw: raw)

    def fit(self, tiles: Tiles) -> None:
        """Learn mean, scale and principal axes of `tiles`."""
        raw = self.raw(tiles).astype(np.float64) if len(tiles) else np.empty((0, self.d))
        if len(raw) <= max(raw.shape[1], self.d):
            raise ValueError(
                f"stain-texture: got {len(raw)} tiles to fit on, expected more than {raw.shape[1]} (its raw values); "
                "fit on more slides"
            )
        mean, sd = raw.mean(0), raw.std(0) + 1e-6
        variance, axes = np.linalg.eigh(np.cov(((raw - mean) / sd).T))
        floor = self.SHRINK * variance.mean()
        variance, axes = variance[::-1][: self.d], axes[:, ::-1][:, : self.d]
        axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(self.d)])
        scale = np.sqrt(variance + floor)
        self._state = {
            "mean": mean.astype(np.float32),
            "project": (axes / scale / sd[:, None]).astype(np.float32),
        }

    def encode(self, tiles: Tiles) -> Features:
        """Describe and whiten tiles."""
        state = self._fitted()
        if len(tiles) == 0:
            return np.empty((0, self.d), np.float32)
        return self._in_full_batches(tiles, lambda raw: self._whitened(raw, **state))

    def prepare(self, tiles: Tiles) -> Tiles:
        """Return the tiles: all that is done to them is sums, which want one thread and full batches."""
        return tiles

    encode_prepared = encode

    def save(self, path: Path) -> None:
        """Write the fitted whitening (.npz)."""
        state = self._fitted()
        with written_whole(path) as aside, aside.open("wb") as file:
            np.savez(file, **state)

    def load_state(self, path: Path) -> None:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            if set(stored) != {"mean", "project"} or stored["project"].shape[1] != self.d:
                raise ValueError(
                    f"{path}: got arrays {sorted(stored)}, expected mean and project with {self.d} columns; fit again"
                )
            self._state = dict(stored)

    @property
    def state_hash(self) -> str:
        """Hash of the fitted whitening."""
        return hashlib.sha256(b"".join(self._fitted()[key].tobytes() for key in ("mean", "project"))).hexdigest()

    def _in_full_batches(self, tiles: Tiles, then: Callable[[Features], Features]) -> Features:
        """Describe tiles, do `then`, BATCH tiles at a time."""
        parts = []
        for batch in batches_of(tiles, self.BATCH):
            full = np.concatenate([batch, np.zeros((self.BATCH - len(batch), *batch.shape[1:]), np.uint8)])
            with torch.inference_mode():
                parts.append(then(describe(torch.tensor(full)).numpy())[: len(batch)])
        return np.concatenate(parts)

    def _whitened(self, raw: Features, *, mean: np.ndarray, project: np.ndarray) -> Features:
        """Whiten tiles each by a product of its own: in a common one the last bits depend on the row."""
        return np.clip(((raw - mean)[:, None] @ project)[:, 0], -self.CLIP, self.CLIP)

    def _fitted(self) -> dict[str, np.ndarray]:
        if self._state is None:
            raise ValueError("stain-texture: not fitted; call fit(tiles of training slides) or load_state(path) first")
        return self._state
