"""Sentences made of numbers: the words of a template, filled from tables, so that no number is ever typed.

A template (Jinja2) lies beside its notebook and holds a macro for each sentence. A line's end in it is a space, and no
space stands before a closing mark, so that each case may have lines of its own. It may ask `share | percent`,
`difference | points`, either with its interval (`share | percent_within(low, high)`), `table | by("column", ...)`,
`named(method, k)`, `called(method)` and `number is known` (not nan).
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pandas.io.formats.style import Styler

from slidesieve.answers.names import called, run_name
from slidesieve.provenance.parameters import template_of
from slidesieve.provenance.receipts import notebook_of

UNIT = "\N{NO-BREAK SPACE}%"


def beside(notebook: str) -> Path:
    """Return the template of the notebook of that name, which may lie in a checkout or in an installed package."""
    path = template_of(notebook_of(notebook))
    if not path.is_file():
        raise ValueError(f"{notebook}: no template {path}; expected it beside the notebook; copy both together")
    return path


def fill(template: Path, sentence: str, **about: object) -> str:
    """Say the macro `sentence` of a template about tables and numbers; what it asks for and is not given raises."""
    environment = Environment(loader=FileSystemLoader(template.parent), undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "points": points, "by": by}
    environment.globals |= {"named": run_name, "called": called}
    environment.filters |= {"percent_within": percent_within, "points_within": points_within}
    environment.tests["known"] = pd.notna
    said = getattr(environment.get_template(template.name).module, sentence)(**about)
    return re.sub(r" ([;,.)])", r"\1", re.sub(r"[ \n]+", " ", said)).strip(" ")


def percent(share: float) -> str:
    """Say a share in per cent, to one decimal, or to two digits below one per cent; none and all are whole."""
    number = 100 * share
    return (f"{number:.2g}" if number < 1 else f"{number:.1f}" if share < 1 else f"{number:.0f}") + UNIT


def points(difference: float) -> str:
    """Say a difference of shares in points (of per cent), with its sign."""
    return f"{100 * difference:+.1f}"


def percent_within(share: float, low: float, high: float) -> str:
    """Say a share and its interval: "81.4 % (77.7 to 84.8)"; without an interval the share alone."""
    return f"{100 * share:.1f}{UNIT}" + _ends(low, high)


def points_within(difference: float, low: float, high: float) -> str:
    """Say a difference of shares and its interval: "+4.2 points (-1.0 to +9.3)"."""
    return f"{points(difference)} points" + _ends(low, high, sign="+")


def intervals(table: pd.DataFrame, columns: tuple[str, str, str], *, sign: str = "") -> list[str]:
    """Say three columns of a table (value, low, high) in per cent or, with "+" as sign, in points; "" for nan."""
    rows = table[list(columns)].itertuples(index=False)
    return ["" if pd.isna(value) else f"{100 * value:{sign}.1f}{_ends(*ends, sign=sign)}" for value, *ends in rows]


def set_out(columns: Mapping[str, Iterable[object]]) -> pd.DataFrame:
    """A table for reading, of columns by their titles: the first one names the rows."""
    table = pd.DataFrame({title: list(cells) for title, cells in columns.items()})
    first = table.columns[0]
    return table.set_index(first).rename_axis(index=None, columns=first)


def listed(table: pd.DataFrame, *, none: str = "None.") -> Styler | Markdown:
    """A table of rows without names, for reading: words at the left, broken where they are long; `none` if empty."""
    if not len(table):
        return Markdown(none)
    words = {"text-align": "left", "white-space": "normal"}
    return table.style.format(escape="html", precision=3).set_properties(**words).hide()


def by_run(table: pd.DataFrame) -> pd.DataFrame:
    """Name the rows of a table that is indexed by method and k, for reading."""
    names = [run_name(*run) for run in table.index]
    return table.set_axis(names).rename_axis(index=None, columns="method")


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Set out a table of pairings (`evaluation.pairs`) for reading: differences in points, and what may be said."""
    names = [run_name(*run) for run in zip(table["method"], table["k"], strict=True)]
    others = [run_name(*run) for run in zip(table["other"], table["other_k"], strict=True)]
    points = intervals(table, ("difference", "ci_low", "ci_high"), sign="+")
    return set_out(
        {"method": names, "beside": others, "difference (points)": points, "verdict": list(table["verdict"])}
    )


def _ends(low: float, high: float, *, sign: str = "") -> str:
    return "" if pd.isna(low) else f" ({100 * low:{sign}.1f} to {100 * high:{sign}.1f})"


def by(table: pd.DataFrame, *columns: str) -> dict[object, dict[str, object]]:
    """Return a table's rows by what stands in one column, or in several (then a tuple); no two may be alike."""
    return table.set_index(list(columns)).to_dict("index")


def of_training(history: pd.DataFrame, *, over: int = 20) -> dict[str, object]:
    """What there is to say of a training: its best (the first of equals) and last validation, and where its loss began.

    Losses are means over so many steps, of the first and of the last.
    """
    taken = history.dropna(subset="score")
    ends = {"first_loss": history["loss"].head(over).mean(), "last_loss": history["loss"].tail(over).mean()}
    best, last = taken.loc[taken["score"].idxmax()].to_dict(), taken.iloc[-1].to_dict()
    return {"best": best, "last": last, "evaluations": len(taken), **ends}
