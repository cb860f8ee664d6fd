"""The style of all figures: a look for each group, intervals where they lie, labelled axes, legends below."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image, display
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from slidesieve.answers import palette
from slidesieve.answers.palette import DARK, GREY, Mark, ink_of

# Okabe and Ito's colours: told apart under the common colour-vision deficiencies.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
PALE = "#D9D9D9"
DPI = 130
SHOWN = 88  # px an inch of a figure, in a notebook and on its page
COLUMNS = 3  # of panels
MOST_PANELS = 6  # that are said one by one
LINE_STYLES = ("--", ":", "-.")
SHADES = (("", 0.0), ("white", 0.45), ("black", 0.4))  # of one method's variants: mixed with what, how much
ROUNDS = tuple(zip(("-", *LINE_STYLES), ("o", "s", "^", "D"), (None, "///", "...", "xxx"), strict=True))


class Look(NamedTuple):
    """How one group is told from the others, be it a line, a cloud or a bar."""

    colour: str
    dash: str
    marker: str | Mark
    hatch: str | None

    @property
    def line(self) -> dict[str, str]:
        """What `plot` needs."""
        return {"color": self.colour, "linestyle": self.dash}

    @property
    def bar(self) -> dict[str, str | None]:
        """What `bar` needs."""
        return {"color": self.colour, "hatch": self.hatch, "hatchcolor": "white"}


def told_apart(verdict: pd.Series) -> Iterator[tuple[pd.Series, dict[str, object]]]:
    """Yield the rows of each kind of verdict and how to draw them: of methods, of these runs only, neither."""
    told, here = verdict.str.match("above|below"), verdict.str.endswith("in these runs")
    yield told & ~here, {"color": DARK, "label": "95 %, told apart (Holm)"}
    if (told & here).any():
        yield told & here, {"color": DARK, "mfc": "white", "label": "95 %, apart in these runs, too few seeds"}
    yield ~told, {"color": GREY, "label": "95 %, not told apart"}


def looks(groups: Iterable[str], colours: Sequence[str] = CYCLE) -> dict[str, Look]:
    """Give each group a look of its own: the colours in turn, then again with another dash, marker and hatch."""
    return _handed_out(groups, [Look(colour, *others) for others in ROUNDS for colour in colours])


def method_looks(methods: Iterable[str]) -> dict[str, Look]:
    """Give each method the look that it has in every figure, and its variants other dashes, hatches and shades."""
    names, of = list(dict.fromkeys(methods)), {}
    for name in sorted(names, key=lambda name: (":" in name, names.index(name))):
        of.setdefault(ink_of(name)._replace(dash=""), []).append(name)
    found = {}
    for (colour, mark, _), own in of.items():
        shades = [_mixed(colour, *shade) for shade in SHADES]
        found |= _handed_out(own, [Look(shade, dash, mark, hatch) for shade in shades for dash, _, hatch in ROUNDS])
    return {name: found[name] for name in names}


def _mixed(colour: str, other: str, share: float) -> str:
    return to_hex((1 - share) * np.array(to_rgb(colour)) + share * np.array(to_rgb(other or colour))).upper()


def floor_looks(groups: Iterable[str]) -> dict[str, Look]:
    """Give each floor that is a line across a panel its own grey and dash, and others those that are left."""
    names = list(dict.fromkeys(groups))
    known = {name: Look(ink.colour, ink.dash, "", None) for name in names if (ink := palette.METHODS.get(name))}
    free = [Look(colour, dash, "", None) for colour in (GREY, DARK) for dash in LINE_STYLES]
    left = _handed_out([n for n in names if n not in known], [look for look in free if look not in known.values()])
    return {name: (known | left)[name] for name in names}


def _handed_out(groups: Iterable[str], ready: list[Look]) -> dict[str, Look]:
    names = list(dict.fromkeys(groups))
    if len(names) > len(ready):
        raise ValueError(f"{len(names)} groups in one panel, at most {len(ready)} can be told apart; draw fewer")
    return dict(zip(names, ready[: len(names)], strict=True))


def interval(
    ax: Axes,
    place: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    value: ArrayLike | None = None,
    axis: str = "x",
    fmt: str = "o",
    **style: object,
) -> None:
    """Draw intervals along `axis` from low to high and, if given, their values, which may lie outside of them."""
    place, low, high = (np.atleast_1d(np.asarray(part, dtype=float)) for part in (place, low, high))
    start = (low, place) if axis == "x" else (place, low)
    reach = {f"{axis}err": np.stack([np.zeros(len(low)), high - low])}
    drawn = ax.errorbar(*start, **reach, fmt="none" if value is None else fmt, **style)
    if value is not None:
        value = np.atleast_1d(np.asarray(value, dtype=float))
        points = (value, place) if axis == "x" else (place, value)
        drawn.lines[0].set_data(*points)
        ax.update_datalim(np.column_stack(points))
        ax.autoscale_view()


def panels(
    n: int, *, columns: int = COLUMNS, width: float = 4.2, height: float = 3.2, sharex: bool = True, sharey: bool = True
) -> tuple[Figure, list[Axes]]:
    """Return a figure with n panels in rows of `columns`, each width x height inches, sharing their axes."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        sharex=sharex,
        sharey=sharey,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[n:]:
        ax.remove()
    for ax in axes.flat[max(n - columns, 0) : n]:  # the lowest panel of each column keeps its numbers
        ax.tick_params(labelbottom=True)
    return figure, list(axes.flat[:n])


def figure(*, width: float = 6.4, height: float = 4.0) -> tuple[Figure, Axes]:
    """Return a figure of one panel, in inches."""
    return plt.subplots(figsize=(width, height), layout="constrained")


def legend_below(drawn: Figure) -> None:
    """Give the whole figure one legend, of all its panels' labels, below them; the figure grows by its rows."""
    labelled = {}
    for ax in drawn.axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    if not labelled:
        return
    columns = min(len(labelled), max(1, int(drawn.get_figwidth() // 2.3)))  # an entry is up to 2.3 inches wide
    rows = -(-len(labelled) // columns)
    drawn.set_figheight(drawn.get_figheight() + 0.22 * rows)
    drawn.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=columns, frameon=False)


def shortened(name: str, most: int = 26) -> str:
    """Cut a long slide id to fit over a panel."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def save(drawn: Figure, path: Path) -> None:
    """Write a PNG or JPEG and close the figure's state in pyplot; the figure object can still be displayed.

    Displayed on a page it has an alternative text, which a PNG holds as its description: see `in_words`.
    """
    said = in_words(drawn)
    drawn._repr_mimebundle_ = lambda **_: ({}, {"image/png": {"alt": said}})  # asked for by IPython's display
    drawn.savefig(path, dpi=DPI, **({"metadata": {"Description": said}} if Path(path).suffix == ".png" else {}))
    plt.close(drawn)


def show(drawn: Figure, path: Path, *, alt: str) -> str:
    """Write a figure, show that very file in a notebook, and return its name.

    `alt` says in a sentence what is to be seen, for who cannot see it; it becomes the figure's label, and so what file
    and page hold as the image's description.
    """
    drawn.set_label(alt)
    save(drawn, path)
    display(Image(filename=str(path), alt=alt, width=round(SHOWN * drawn.get_figwidth())))
    return path.name


def in_words(drawn: Figure) -> str:
    """Say what a figure shows to those who do not see it: its label, or what stands at its panels and their lines."""
    panels = list(dict.fromkeys(filter(None, map(_panel_in_words, drawn.axes))))
    more = [f"and {len(panels) - MOST_PANELS} panels more"] if len(panels) > MOST_PANELS else []
    return drawn.get_label() or "Figure. " + "; ".join([*panels[:MOST_PANELS], *more])


def _panel_in_words(ax: Axes) -> str:
    title, x, y = (" ".join(text.split()) for text in (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()))
    lines = ", ".join(dict.fromkeys(ax.get_legend_handles_labels()[1]))
    measured = " against ".join(filter(None, (y, x)))
    return ": ".join(filter(None, (title, measured))) + (f" ({lines})" if lines else "")


def clean(ax: Axes, *, grid: str = "y") -> Axes:
    """Remove the box, keep a faint grid behind the data along one axis."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=PALE, linewidth=0.6)
    ax.set_axisbelow(True)
    return ax
