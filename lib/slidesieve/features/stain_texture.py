"""A tile descriptor without weights: how much of each stain, how coarse, which way it runs.

tiles uint8 -> optical density -> haematoxylin / eosin / residual by fixed deconvolution -> four scales, each the 2 x 2
mean of the one before -> per scale: variances, structure tensor, skewness, and the rectified answers of a fixed bank of
random filters; at scale 1 also stain correlations and soft histograms. Energies enter as logarithms, so that a
stronger stain is a shift. A stand-in for a trained encoder, good enough for the toy cohort and honest about it.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

LAMP = 241.0  # transmitted light that counts as no stain, as a pixel value plus one
SCALES = 4
N_FILTERS, FILTER_PX = 24, 5
SMALLEST_TILE_PX = (FILTER_PX + 1) * 2 ** (SCALES - 1)  # each filter then has at least two answers a side
HISTOGRAM_EDGES = (0.1, 0.25, 0.45, 0.7, 1.0, 1.4, 1.9)
_H, _E = np.array([0.563, 0.720, 0.406]), np.array([0.216, 0.801, 0.558])  # Macenko et al. 2009
_STAINS = np.stack([_H, _E, np.cross(_H, _E) / np.linalg.norm(np.cross(_H, _E))])
_UNMIX = torch.tensor(np.linalg.inv(_STAINS).T.copy(), dtype=torch.float32)
_DENSITY = torch.tensor(-np.log((np.arange(256) + 1) / LAMP), dtype=torch.float32)


def filter_bank(seed: int) -> Float[Tensor, "f 3 s s"]:
    """Draw random filters over the three stains, each of zero mean in every stain and of unit norm."""
    draw = np.random.default_rng(seed).standard_normal((N_FILTERS, 3, FILTER_PX, FILTER_PX))
    draw -= draw.mean(axis=(2, 3), keepdims=True)
    draw /= np.sqrt((draw**2).sum(axis=(1, 2, 3), keepdims=True))
    return torch.tensor(draw, dtype=torch.float32)


_FILTERS = [filter_bank(10 + i) for i in range(SCALES - 1)]


def stain_densities(tiles: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Unmix tiles into haematoxylin, eosin and residual density."""
    return torch.einsum("sc,nhwc->nshw", _UNMIX, _DENSITY[tiles.int()]).contiguous()


def structure(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 9"]:
    """Measure edge energy (log) and its two anisotropies (along the axes, along the diagonals) in each stain."""
    gx, gy = x[..., 1:-1, 2:] - x[..., 1:-1, :-2], x[..., 2:, 1:-1] - x[..., :-2, 1:-1]
    jxx, jyy, jxy = (gx * gx).mean((2, 3)), (gy * gy).mean((2, 3)), (gx * gy).mean((2, 3))
    energy = jxx + jyy + 1e-3
    return torch.cat([torch.log(energy), (jxx - jyy) / energy, 2 * jxy / energy], dim=1)


def moments(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 6"]:
    """Measure variance (log) and skewness of each stain."""
    centred = x - x.mean((2, 3), keepdim=True)
    var = (centred**2).mean((2, 3))
    skew = (centred**3).mean((2, 3)) / (var + 1e-6) ** 1.5
    return torch.cat([torch.log(var + 1e-3), skew.clamp(-4, 4)], dim=1)


def correlations(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3"]:
    """Correlate the stains with each other: h-e, h-r, e-r."""
    centred = x - x.mean((2, 3), keepdim=True)
    sd = torch.sqrt((centred**2).mean((2, 3)) + 1e-6)
    pairs = [(centred[:, i] * centred[:, j]).mean((1, 2)) / (sd[:, i] * sd[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    return torch.stack(pairs, dim=1)


def histogram(x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n e"]:
    """Share of pixels above each density edge, softly, in haematoxylin and in eosin."""
    shares = [torch.sigmoid((x[:, :2] - edge) * 12).mean((2, 3)) for edge in HISTOGRAM_EDGES]
    return torch.cat(shares, dim=1)


def answers(x: Float[Tensor, "n 3 h w"], scale: int) -> Float[Tensor, "n f"]:
    """Log SD of each filter's answer; at scales 1 and 2 also the log means of its two rectified halves."""
    y = F.conv2d(x, _FILTERS[scale - 1], stride=2 if scale == 1 else 1)
    parts = [torch.log(0.02 + y.std((2, 3), correction=0))]
    if scale < 3:
        parts += [torch.log(0.01 + F.relu(y).mean((2, 3))), torch.log(0.01 + F.relu(-y).mean((2, 3)))]
    return torch.cat(parts, dim=1)


def describe(tiles: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n r"]:
    """Measure each tile on its own; tiles of at least SMALLEST_TILE_PX pixels a side."""
    if min(tiles.shape[1:3]) < SMALLEST_TILE_PX:
        raise ValueError(
            f"stain-texture: got tiles of {tuple(tiles.shape[1:3])} px, expected at least {SMALLEST_TILE_PX} a side; "
            "tile with a larger tile_px"
        )
    x = stain_densities(tiles)
    out = [x.mean((2, 3)), moments(x)[:, :3], structure(x)]
    for scale in range(1, SCALES):
        x = F.avg_pool2d(x, 2)
        out += [moments(x), structure(x), answers(x, scale)]
        if scale == 1:
            out += [correlations(x), histogram(x)]
    return torch.cat(out, dim=1)
