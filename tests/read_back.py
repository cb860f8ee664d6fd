"""What an axes holds, read back as numbers (to nine decimals), so that a figure is tested on what it drew."""

from collections.abc import Iterable, Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

Point = tuple[float, float]


def fresh(rows: int = 1, columns: int = 1) -> Axes | np.ndarray:
    """Axes that pyplot does not know."""
    return Figure().subplots(rows, columns)


def closed(drawn: Figure) -> Figure:
    """Take a figure out of pyplot; it can still be read."""
    plt.close(drawn)
    return drawn


def rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 9) for value in values]


def pairs(xy: Iterable[Iterable[float]]) -> list[Point]:
    return [tuple(rounded(point)) for point in xy]


def points(line: Line2D) -> list[Point]:
    return pairs(zip(*line.get_data(orig=False), strict=True))


def curve(ax: Axes, label: str) -> Line2D:
    """The one line of this label."""
    (found,) = [line for line in ax.lines if line.get_label() == label]
    return found


def dots(ax: Axes, marker: str) -> list[list[Point]]:
    """The points of each line that is drawn with this marker, those of error bars included."""
    return [points(line) for line in ax.lines if line.get_marker() == marker]


def rules(ax: Axes, axis: str) -> list[tuple[str, float]]:
    """Label ("" if none) and place of each line across the whole axes: upright ones for "x", level ones for "y"."""
    across = {"x": ax.get_xaxis_transform(which="grid"), "y": ax.get_yaxis_transform(which="grid")}[axis]
    own = "xy".index(axis)
    return [(_shown(line), points(line)[0][own]) for line in ax.lines if line.get_transform() == across]


def intervals(ax: Axes, label: str | None = None) -> list[tuple[float, float, float]]:
    """Place, low and high of every error bar in turn, or of those of one label only."""
    return [
        bar
        for container in ax.containers
        if isinstance(container, ErrorbarContainer) and label in (None, container.get_label())
        for bar in _error_bars(container)
    ]


def centres(ax: Axes, label: str | None = None) -> list[Point]:
    """The points in the middle of error bars, in the order of `intervals`."""
    chosen = [c for c in ax.containers if isinstance(c, ErrorbarContainer) and label in (None, c.get_label())]
    return [point for container in chosen for point in points(container.lines[0])]


def upright(ax: Axes, label: str | None = None) -> list[tuple[float, float, float]]:
    """Middle, foot and height of every bar, or of those of one label only."""
    boxes = _boxes(ax, label)
    return [tuple(rounded((b.get_x() + b.get_width() / 2, b.get_y(), b.get_height()))) for b in boxes]


def lying(ax: Axes, label: str | None = None) -> list[tuple[float, float, float]]:
    """Middle, left end and width of every horizontal bar, or of those of one label only."""
    boxes = _boxes(ax, label)
    return [tuple(rounded((b.get_y() + b.get_height() / 2, b.get_x(), b.get_width()))) for b in boxes]


def segments(ax: Axes) -> list[tuple[Point, Point]]:
    """Both ends of every hline and vline, error bars left out."""
    of_bars = {id(c) for container in ax.containers for c in _collections(container)}
    lone = [c for c in ax.collections if isinstance(c, LineCollection) and id(c) not in of_bars]
    return [tuple(pairs(segment)) for lines in lone for segment in lines.get_segments()]


def clouds(ax: Axes) -> dict[str, list[Point]]:
    """The points of each scatter, by its label."""
    return {c.get_label(): pairs(c.get_offsets()) for c in ax.collections if isinstance(c, PathCollection)}


def bands(ax: Axes) -> list[list[tuple[float, float, float]]]:
    """x, lower and upper end of each fill_between."""
    filled = [c for c in ax.collections if not isinstance(c, (LineCollection, PathCollection))]
    return [_band(collection.get_paths()[0].vertices) for collection in filled]


def squares(collection: Collection) -> list[tuple[float, float, float, float]]:
    """Left, upper end (the smaller y), width and height of each rectangle of a collection."""
    boxes = [path.get_extents() for path in collection.get_paths()]
    return [tuple(rounded((box.x0, box.y0, box.width, box.height))) for box in boxes]


def ticks(axis: Axis) -> list[tuple[float, str]]:
    texts = [tick.get_text() for tick in axis.get_ticklabels()]
    return list(zip(rounded(axis.get_ticklocs()), texts, strict=True))


def names(axis: Axis) -> list[str]:
    """The texts of ticks at 0, 1, 2 ..."""
    found = ticks(axis)
    assert [place for place, _ in found] == list(range(len(found)))
    return [text for _, text in found]


def titles(ax: Axes) -> tuple[str, str]:
    """What the axes say: of x, and of y."""
    return ax.get_xlabel(), ax.get_ylabel()


def legend(drawn: Axes | Figure) -> list[str]:
    boxes = [drawn.get_legend()] if isinstance(drawn, Axes) else drawn.legends
    return [text.get_text() for box in boxes for text in box.get_texts()]


def named(ax: Axes) -> list[str]:
    """The labels that a legend of the whole figure would take up."""
    return ax.get_legend_handles_labels()[1]


def written(ax: Axes) -> list[tuple[str, float, float]]:
    """Text and place (in data coordinates, for an annotation that of its point) of what is written into the axes."""
    return [(text.get_text(), *rounded(getattr(text, "xy", text.get_position()))) for text in ax.texts]


def hex_of(colour: object) -> str:
    """A colour as the style's constants are written; of a collection's colours the first."""
    return to_hex(np.asarray(colour)[0] if np.ndim(colour) == 2 else colour).upper()


def outside(ax: Axes) -> list[Point]:
    """What lies beyond the limits of the axes and would be cut off."""
    low, high = np.sort([ax.get_xlim(), ax.get_ylim()], axis=1).T
    slack = 1e-9 * (high - low)
    vertices = np.array([*_vertices(ax)], dtype=float).reshape(-1, 2)
    beyond = (vertices < low - slack) | (vertices > high + slack)
    return pairs(vertices[beyond.any(axis=1)])


def _vertices(ax: Axes) -> Iterator[Point]:
    x, y = np.mean([ax.get_xlim(), ax.get_ylim()], axis=1)
    yield from ((place, y) for _, place in rules(ax, "x"))
    yield from ((x, place) for _, place in rules(ax, "y"))
    for line in ax.lines:
        yield from points(line) if line.get_transform() == ax.transData else ()
    for collection in ax.collections:
        if isinstance(collection, PathCollection):
            yield from pairs(collection.get_offsets())
        else:
            yield from (corner for path in collection.get_paths() for corner in path.get_extents().get_points())
    for patch in ax.patches:
        yield from patch.get_patch_transform().transform_path(patch.get_path()).get_extents().get_points()


def _shown(line: Line2D) -> str:
    return "" if line.get_label().startswith("_") else line.get_label()


def _collections(container: object) -> Iterable[Collection]:
    return container.lines[2] if isinstance(container, ErrorbarContainer) else ()


def _error_bars(container: ErrorbarContainer) -> Iterator[tuple[float, float, float]]:
    for collection in container.lines[2]:
        for start, end in map(pairs, collection.get_segments()):
            along = 0 if container.has_xerr else 1
            assert start[1 - along] == end[1 - along]
            yield start[1 - along], start[along], end[along]


def _boxes(ax: Axes, label: str | None) -> list:
    groups = [c for c in ax.containers if isinstance(c, BarContainer) and label in (None, c.get_label())]
    return [box for group in groups for box in group.patches]


def _band(vertices: np.ndarray) -> list[tuple[float, float, float]]:
    ends: dict[float, list[float]] = {}
    for x, y in pairs(vertices):
        ends.setdefault(x, []).append(y)
    return [(x, min(found), max(found)) for x, found in sorted(ends.items())]
