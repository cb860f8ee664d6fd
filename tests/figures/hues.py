"""In which colours an axes holds its error bars and clouds."""

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from read_back import hex_of


def bar_hues(ax: Axes) -> list[str]:
    """The colour of each set of error bars, in turn."""
    return [hex_of(c.lines[2][0].get_edgecolor()) for c in ax.containers if isinstance(c, ErrorbarContainer)]


def cloud_hues(ax: Axes) -> dict[str, str]:
    """The colour of each scatter that is filled, by its label."""
    return {
        c.get_label(): hex_of(c.get_facecolor())
        for c in ax.collections
        if isinstance(c, PathCollection) and len(c.get_facecolor())
    }
