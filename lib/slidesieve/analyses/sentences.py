"""Sentences made of numbers: the words of a template, filled from tables, so that no number is ever typed.

A template (Jinja2) lies beside its notebook and holds a macro for each sentence. A line's end in it is a space, and no
space stands before a closing mark, so that each case may have lines of its own. It may ask `share | percent`,
`difference | points`, `table | by("column", ...)` and `number is known` (not nan).
"""

import re
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    environment.tests["known"] = pd.notna
    said = getattr(environment.get_template(template.name).module, sentence)(**about)
    return re.sub(r" ([;,.)])", r"\1", re.sub(r"[ \n]+", " ", said)).strip(" ")


def percent(share: float) -> str:
    """Say a share in per cent, to one decimal, or to two digits below one per cent."""
    number = 100 * share
    return (f"{number:.2g}" if 0 < number < 1 else f"{number:.1f}" if number % 1 else f"{number:.0f}") + UNIT


def points(difference: float) -> str:
    """Say a difference of shares in points (of per cent), with its sign."""
    return f"{100 * difference:+.1f}"


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
