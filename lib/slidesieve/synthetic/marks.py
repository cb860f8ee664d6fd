"""Things stamped on a toroidal map: nuclei, discs, dots."""

import numpy as np
from jaxtyping import Float

from slidesieve.synthetic.fields import SIZE, Map

Points = Float[np.ndarray, "m 2"]


def ellipses(
    centres: Points,
    radius_px: Float[np.ndarray, " m"],
    *,
    aspect: float | Float[np.ndarray, " m"] = 1.0,
    angle: float | Float[np.ndarray, " m"] = 0.0,
    value: float | Float[np.ndarray, " m"] = 1.0,
    edge_px: float = 1.0,
) -> Map:
    """Stamp soft-edged ellipses of equal area pi r^2; where they overlap the larger value stays."""
    radius, aspect, angle, value = np.broadcast_arrays(radius_px, aspect, angle, value)
    shape = (len(centres),)
    radius, aspect, angle, value = (np.broadcast_to(a, shape)[:, None, None] for a in (radius, aspect, angle, value))
    long, short = radius * np.sqrt(aspect), radius / np.sqrt(aspect)
    half = int(np.ceil(long.max() + edge_px)) + 1
    offset = np.arange(-half, half + 1)
    base = np.floor(centres).astype(int)
    dy = offset[None, :, None] - (centres - base)[:, 0, None, None]
    dx = offset[None, None, :] - (centres - base)[:, 1, None, None]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    distance = (1 - np.hypot(along / long, across / short)) * np.sqrt(long * short)
    stamp = np.clip(distance / edge_px + 0.5, 0, 1) * value
    rows = (base[:, 0, None, None] + offset[None, :, None]) % SIZE
    cols = (base[:, 1, None, None] + offset[None, None, :]) % SIZE
    canvas = np.zeros((SIZE, SIZE), np.float32)
    np.maximum.at(canvas, (rows, cols), stamp.astype(np.float32))
    return canvas


def discs(
    rng: np.random.Generator, centres: Points, radius_px: float, *, jitter: float = 0.1, edge_px: float = 1.5
) -> Map:
    """Stamp round discs with log-normal radii."""
    return ellipses(centres, radius_px * np.exp(jitter * rng.standard_normal(len(centres))), edge_px=edge_px)


def nuclei(
    rng: np.random.Generator,
    centres: Points,
    radius_px: float,
    *,
    density: float,
    jitter: float = 0.12,
    aspect: float = 1.25,
    angle: float = 0.0,
    spread: float = 3.0,
    vesicular: float = 0.0,
    nucleolus_px: float = 0.0,
) -> Map:
    """Stamp nuclei as a haematoxylin map.

    `spread` is the spread of their axes about `angle` (radians); `vesicular` in [0, 1] clears the centre of each;
    `nucleolus_px` puts a dark dot back into it.
    """
    m = len(centres)
    radius = radius_px * np.exp(jitter * rng.standard_normal(m))
    turn = angle + spread * rng.standard_normal(m)
    value = density * np.exp(0.15 * rng.standard_normal(m))
    aspects = 1 + (aspect - 1) * rng.uniform(0.6, 1.4, m)
    body = ellipses(centres, radius, aspect=aspects, angle=turn, value=value)
    if vesicular:
        inside = ellipses(centres, 0.65 * radius, aspect=aspects, angle=turn, edge_px=1.5)
        body *= 1 - vesicular * inside
    if nucleolus_px:
        shift = rng.normal(0, 0.15 * radius_px, (m, 2))
        body = np.maximum(body, ellipses(centres + shift, np.full(m, nucleolus_px), value=1.3 * density))
    return body


def ring(rng: np.random.Generator, centres: Points, radius_px: float, count: int, wobble_px: float = 0.6) -> Points:
    """Place `count` points round each centre."""
    angle = np.arange(count) * 2 * np.pi / count + rng.uniform(0, 2 * np.pi, (len(centres), 1))
    radius = radius_px + wobble_px * rng.standard_normal(angle.shape)
    around = np.stack([np.sin(angle), np.cos(angle)], axis=-1) * radius[..., None]
    return (centres[:, None] + around).reshape(-1, 2) % SIZE


def clear_of(points_: Points, field: Map, below: float) -> Points:
    """Keep the points where the field is under `below`."""
    at = np.floor(points_).astype(int) % SIZE
    return points_[field[at[:, 0], at[:, 1]] < below]
