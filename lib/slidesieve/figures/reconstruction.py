"""Figures of the masked pre-training: slides with hidden tokens predicted, and the cosine beside its floors."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle
from sklearn.decomposition import PCA

from slidesieve.analyses.reconstruction import Picture
from slidesieve.figures.style import BLUE, GREY, ORANGE, clean, shortened

NAMES = {"predicted": ("predicted from the latents", BLUE), "nearest": ("nearest visible token", ORANGE)}
NAMES |= {"mean": ("mean of the visible tokens", GREY)}


def colours(picture: Picture) -> tuple[Float[np.ndarray, "w 3"], Float[np.ndarray, "w 3"]]:
    """The slide's three principal axes as red, green and blue: of the true tokens, and of the predicted ones."""
    axes = PCA(n_components=min(3, *picture.target.shape)).fit(picture.target)
    true, predicted = axes.transform(picture.target), axes.transform(picture.predicted)
    low, high = np.quantile(true, [0.02, 0.98], axis=0)
    return tuple(_rgb((part - low) / np.maximum(high - low, 1e-9)) for part in (true, predicted))


def reconstruction(axes: list[Axes], picture: Picture, *, title: str, side: int) -> None:
    """Draw one slide three times: all its merged tokens, the visible ones, and these with the hidden ones predicted."""
    true, predicted = colours(picture)
    shown = {"the slide's tokens": (true, None), "what was visible": (true, ~picture.hidden)}
    shown |= {"hidden ones predicted": (predicted, None)}
    for ax, (name, (colour, which)) in zip(axes, shown.items(), strict=True):
        which = np.ones(len(colour), dtype=bool) if which is None else which
        boxes = [Rectangle((x - side / 2, y - side / 2), side, side) for x, y in picture.places[which]]
        ax.add_collection(PatchCollection(boxes, facecolor=colour[which], edgecolor="none"))
        low, high = picture.places.min(0) - side, picture.places.max(0) + side
        ax.set(xlim=(low[0], high[0]), ylim=(high[1], low[1]), aspect="equal", xlabel="column (tiles)")
        ax.set_title(f"{shortened(title)}\n{name}", fontsize=10)
    axes[0].set_ylabel("row (tiles)")


def cosine_beside_floors(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw the share of slides below each cosine, for the prediction and for what needs no learning."""
    share = np.arange(1, len(table) + 1) / len(table)
    for column, (label, colour) in NAMES.items():
        ax.step(np.sort(table[column]), 100 * share, where="post", color=colour, label=label)
    ax.set(xlabel="mean cosine with a slide's hidden tokens", ylabel="slides at or below (%)", ylim=(0, 102))
    ax.legend(frameon=False)
    return clean(ax)


def _rgb(values: Float[np.ndarray, "w c"]) -> Float[np.ndarray, "w 3"]:
    missing = 3 - values.shape[1]
    return np.clip(np.pad(values, [(0, 0), (0, missing)], constant_values=0.5), 0, 1)
