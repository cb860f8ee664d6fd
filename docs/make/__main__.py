"""Make what in docs/ is made: python -m docs.make, after a table in reports/ or a method has changed.

Pictures of methods are drawn from the tables beside them; `--look METHOD ...` puts those methods to work again first
(`--look learned`, `--look alone` or a name): what learns is trained anew, a minute each on a quiet machine.
"""

import sys

import pandas as pd
import torch

from docs.make import figures, ideas, pages

TABLES = ideas.Ideas._fields


def look(names: list[str]) -> None:
    """Put methods to work, and their rows into the tables in the place of older ones."""
    torch.set_num_threads(1)
    ideas.bag_table().to_csv(pages.IDEAS / "bag.csv", index=False)
    for title, made in zip(TABLES, ideas.ideas(names), strict=True):
        path = pages.IDEAS / f"{title}.csv"
        before = pd.read_csv(path) if path.exists() else made.head(0)
        rows = pd.concat([before[~before["method"].isin(names)], made], ignore_index=True)
        order = [*ideas.LEARNED, *ideas.ALONE]
        rows.sort_values("method", key=lambda column: column.map(order.index), kind="stable").to_csv(path, index=False)


def draw() -> None:
    """Draw all pictures from their tables."""
    bag, shares, scores = (pd.read_csv(pages.IDEAS / f"{title}.csv") for title in ("bag", "shares", "scores"))
    for name in shares["method"].unique():
        own = (table[table["method"] == name] for table in (shares, scores))
        figures.save(figures.idea(bag, *own), pages.IDEAS / f"{name}.png")
    figures.save(figures.key(), pages.IDEAS / "key.png")
    league = (pd.read_csv(pages.SHORT / f"{title}.csv") for title in ("over_seeds", "costs"))
    figures.save(figures.league(*league), pages.DOCS / "methods.png")


def main(words: list[str]) -> None:
    """Look again at what is named, draw, and make the pages' parts."""
    groups = {"learned": list(ideas.LEARNED), "alone": list(ideas.ALONE)}
    pages.IDEAS.mkdir(parents=True, exist_ok=True)
    if words[:1] == ["--look"]:
        look([name for word in words[1:] for name in groups.get(word, [word])])
    draw()
    for page in pages.pages():
        page.write_text(pages.made(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
