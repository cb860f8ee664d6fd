"""What is asked about a mosaic: of one kind of evidence, of what is there at all, of what it is composed of.

The right option goes round the letters, options are drawn so that each is right equally often (see `mosaics`): whoever
knows the words alone is right in one of as many cases as there are options.

    evidence      subtype    which subtype the small piece of a named kind has              as many options as it has
    coverage      rare       which of four kinds is there: the smallest piece's             three are not there
                  presence   whether a named kind is there                                  yes and no, as many of each
    composition   most       which of four kinds has the most tokens                        three have fewer, or none
                  count      how many kinds there are
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from slidesieve.datasets.mosaics import MAIN, RARE, SUBTYPE, Mosaic
from slidesieve.datasets.questions import COLUMNS, FOUR, LETTERS

BROAD = {
    "subtype": "Evidence",
    "rare": "Coverage",
    "presence": "Coverage",
    "most": "Composition",
    "count": "Composition",
}


def question_table(
    mosaics: Sequence[Mosaic],
    kinds: Sequence[str],
    subtypes: Mapping[str, Sequence[str]],
    numbers: Sequence[int],
    *,
    seed: int,
) -> pd.DataFrame:
    """Ask up to five questions about each mosaic, in SlideBench's columns.

    None on subtypes where none are known, nor on the number of kinds where that is always the same.
    """
    rng, rows, dealt = np.random.default_rng([seed, 7]), [], {}
    yes = rng.permutation(np.arange(len(mosaics)) % 2).astype(bool)
    for i, mosaic in enumerate(mosaics):
        for narrow, text, options, answer in _asked(mosaic, kinds, subtypes, numbers, bool(yes[i]), rng):
            turn = dealt[mosaic.side, narrow] = dealt.get((mosaic.side, narrow), -1) + 1
            others = [str(o) for o in rng.permutation([o for o in options if o != answer])]
            place = turn % len(options)
            shown = [*others[:place], answer, *others[place:]]
            name = f"{mosaic.name}_{narrow.split()[0]}"
            shown += [""] * (len(FOUR) - len(shown))
            rows.append((name, mosaic.name, BROAD[narrow.split()[0]], narrow, text, *shown, LETTERS[place]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def caption_table(mosaics: Sequence[Mosaic]) -> pd.DataFrame:
    """Describe each mosaic: its kinds, the largest piece first; columns ID, Slide, Caption."""
    rows = []
    for mosaic in mosaics:
        first, *others = (piece.kind for piece in sorted(mosaic.pieces, key=lambda piece: -piece.size))
        rows.append((f"{mosaic.name}_caption", mosaic.name, f"most: {first} . also: {' '.join(others)} ."))
    return pd.DataFrame(rows, columns=["ID", "Slide", "Caption"])


def _asked(mosaic: Mosaic, kinds, subtypes, numbers: Sequence[int], yes: bool, rng: np.random.Generator):
    """Yield narrow category, question, options and the right one; options are kinds that are drawn alike."""
    there = {piece.kind for piece in mosaic.pieces}
    (main,), (rare,) = mosaic.of(MAIN), mosaic.of(RARE)
    known = mosaic.of(SUBTYPE)
    alike = [kind for kind in kinds if kind not in {piece.kind for piece in known}]
    absent = [kind for kind in alike if kind not in there]
    for piece in known:
        yield f"subtype {piece.kind}", f"Which subtype is the {piece.kind} ?", subtypes[piece.kind], piece.subtype
    yield "rare", "Which of these is there?", [rare.kind, *rng.choice(absent, 3, replace=False)], rare.kind
    named = str(rng.choice([k for k in alike if k in there] if yes else absent))
    yield "presence", f"Is {named} there?", ["yes", "no"], "yes" if yes else "no"
    fewer = [kind for kind in alike if kind in there - {main.kind}]
    fewer = [*rng.permutation(fewer), *rng.permutation(absent)][:3]
    yield "most", "Which has the most tokens?", [main.kind, *fewer], main.kind
    if len(numbers) > 1:
        yield "count", "How many kinds are there?", [str(n) for n in numbers], str(len(mosaic.pieces))
