"""Where the notebooks are, and which one a word means."""

from pathlib import Path

from slidesieve.provenance.files import CHECKOUT
from slidesieve.provenance.parameters import nearest, read_cells, read_parameters

PLACES = (CHECKOUT / "notebooks", Path(__file__).parents[1] / "notebooks")  # a checkout's, an installed package's
NOTEBOOKS = next((place for place in PLACES if place.is_dir()), PLACES[0])


def notebook_named(word: str) -> Path:
    """The notebook of a path, a name, or its first words: `50_tune_answers` or `50`. Raises ValueError for none."""
    if Path(word).suffix == ".ipynb":
        return Path(word)
    names = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    begins = [name for name in names if f"{name}_".startswith(f"{word}_")]
    if len(begins) != 1:
        raise ValueError(f"notebook: got {word!r}{nearest(word, names)}")
    return names[begins[0]]


def described(notebook: Path) -> str:
    """A notebook's title and its parameters: name, type, default and help."""
    first = "".join(read_cells(notebook)[0]["source"]).splitlines()
    lines = [f"{notebook.stem}: {first[0].lstrip('# ')}", "", "Parameters (-p name=value):"]
    for p in read_parameters(notebook).values():
        lines += [f"  {p.name}: {p.type} = {p.default!r}", f"      {p.help}"]
    return "\n".join(lines)


def listed() -> str:
    """All notebooks by name and title."""
    titles = {p.stem: "".join(read_cells(p)[0]["source"]).splitlines()[0] for p in sorted(NOTEBOOKS.glob("*.ipynb"))}
    return "\n".join(["Notebooks:", *(f"  {name:24} {title.lstrip('# ')}" for name, title in titles.items())])
