"""Mosaics: bags joined from pieces of many patients' slides, of which every token's owner is known.

A mosaic of n tokens has one piece each of some kinds of tissue (a kind is a store, or a value of a label column). The
smallest two have the last two of `sizes`, the largest takes what is left of n, so that no bag's length tells how many
pieces there are. Each has a role:

    main      the largest
    subtype   the last but one: of a kind whose subtypes are known; kind and subtype are drawn evenly
    rare      the smallest
    other     what lies between

All kinds but that of the subtype piece are drawn alike, so that no kind is likelier than another to be the largest, the
rarest or there. Pieces are runs of neighbouring tokens, joined in random order; then a bag's tokens are shuffled: the
place of a token must not tell whose it is, or what takes the first, the last and some at even distances between finds
small pieces without looking. Small ones (subtype, rare) come from one slide; larger ones take slide after slide. A
patient lies in one bag only; in training in several, and with `fillers_again` main and other pieces are of patients who
may come again, but never of one whose small piece is asked about.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from slidesieve.datasets.questions import FOUR

MAIN, SUBTYPE, RARE, OTHER = "main", "subtype", "rare", "other"
SMALL = (SUBTYPE, RARE)
SIZES = (64, 32, 32, 16, 8, 4)
NUMBERS = (3, 4, 5, 6)  # of pieces
FEWEST = 3
SIDES = ("train", "val", "test")
SHARES = (0.6, 0.15, 0.25)  # of each kind's patients, or sites


class Run(NamedTuple):
    """Tokens start to stop of a slide."""

    slide_id: str
    start: int
    stop: int


class Piece(NamedTuple):
    """One kind's tokens in a mosaic, in the order in which they stand there."""

    role: str
    kind: str
    subtype: str
    runs: tuple[Run, ...]

    @property
    def size(self) -> int:
        return sum(run.stop - run.start for run in self.runs)


class Mosaic(NamedTuple):
    """A bag's pieces, in the order in which they stand in it."""

    name: str
    side: str
    pieces: tuple[Piece, ...]

    def of(self, role: str) -> list[Piece]:
        return [piece for piece in self.pieces if piece.role == role]


def sides_of(sources: pd.DataFrame, *, by: str, seed: int) -> pd.Series:
    """Divide slides into train, val and test: 60, 15 and 25 % of each kind's groups (`by` a column), none on two sides.

    `sources` has slide_id, kind and the column. Raises ValueError where a group is not named.
    """
    if (sources[by] == "").any():
        raise ValueError(f"mosaics by {by}: {(sources[by] == '').sum()} slides have no {by}; fill the column in")
    rng, side = np.random.default_rng([seed, 0]), {}
    for _, part in sources.groupby("kind"):
        groups = [group for group in sorted(part[by].unique()) if group not in side]
        ends = np.cumsum(SHARES) * len(groups)
        for place, i in enumerate(rng.permutation(len(groups))):
            side[groups[i]] = SIDES[min(int(np.searchsorted(ends, place + 0.5)), 2)]
    return sources[by].map(side)


def make_mosaics(
    sources: pd.DataFrame,
    counts: Mapping[str, int],
    *,
    tokens: int,
    sizes: Sequence[int] = SIZES,
    numbers: Sequence[int] = NUMBERS,
    fillers_again: bool = False,
    seed: int,
) -> list[Mosaic]:
    """Make counts[side] mosaics of each side, as many of each number of pieces.

    `sources` has slide_id, case_id, kind, subtype ("": none), n and side. Raises ValueError where sizes, kinds or
    tokens do not suffice, and says for how many bags they do.
    """
    _check(sources, tokens, sizes, numbers)
    made = []
    for place, (side, count) in enumerate(counts.items()):
        rng = np.random.default_rng([seed, tokens, place + 1])
        own = sources[sources["side"] == side]
        stock = _Stock(own, rng, again=side == "train", fillers_again=fillers_again)
        asked = _subtypes_in_turn(own, count, rng)
        kinds, pieces = sorted(set(own["kind"])), _in_turn(numbers, count, rng)
        drawn = [
            _draw(kinds, subtype, sizes_of(int(m), tokens, sizes), rng)
            for m, subtype in zip(pieces, asked, strict=True)
        ]
        filled: list[list[Piece]] = [[] for _ in drawn]
        for small in (True, False):  # of all bags, before any filler takes their patients
            for i, wanted in enumerate(drawn):
                stock.here = {case for piece in filled[i] for case in stock.cases(piece)}
                try:
                    filled[i] += [stock.filled(piece, size) for piece, size in wanted if (piece.role in SMALL) == small]
                except LookupError as error:
                    raise ValueError(
                        f"mosaics: {side} has slides for {i} of {count} bags of {tokens} tokens ({error}); ask for "
                        "fewer or shorter ones, or let fillers_again take main and other pieces several times"
                    ) from error
        made += [
            Mosaic(f"mosaic_{side}_{i:04d}", side, tuple(bag[j] for j in rng.permutation(len(bag))))
            for i, bag in enumerate(filled)
        ]
    return made


class _Stock:
    """The slides of one side, and whose of them are taken: by the bag at hand, by any bag, by a small piece."""

    def __init__(self, slides: pd.DataFrame, rng: np.random.Generator, *, again: bool, fillers_again: bool):
        self.rng, self.again, self.fillers_again = rng, again, fillers_again
        self.here, self.used, self.asked = set[str](), set[str](), set[str]()
        self.of: dict[tuple[str, str], list[tuple[str, str, int]]] = {}  # by kind and subtype; "" holds all of a kind
        for slide, case, kind, subtype, n in slides[["slide_id", "case_id", "kind", "subtype", "n"]].to_numpy():
            for key in {(kind, subtype), (kind, "")}:
                self.of.setdefault(key, []).append((slide, case, int(n)))
        self._case = dict(zip(slides["slide_id"], slides["case_id"], strict=True))

    def cases(self, piece: Piece) -> set[str]:
        return {self._case[run.slide_id] for run in piece.runs}

    def filled(self, piece: Piece, size: int) -> Piece:
        """The piece with runs of `size` tokens in all, of one slide where it is small. Raises LookupError."""
        small = piece.role in SMALL
        taken = set() if self.again else self.asked if self.fillers_again and not small else self.used
        slides = self.of.get((piece.kind, piece.subtype), [])
        runs, left = [], size
        for i in self.rng.permutation(len(slides)):
            slide, case, n = slides[i]
            if case in taken or case in self.here or n < (size if small else 1):
                continue
            length = min(left, n)
            start = int(self.rng.integers(n - length + 1))
            runs.append(Run(slide, start, start + length))
            self.here.add(case)
            left -= length
            if not left:
                self.used |= self.here
                self.asked |= {case} if small else set()
                return piece._replace(runs=tuple(runs))
        raise LookupError(f"{left} of {size} tokens of {piece.subtype or piece.kind} lack")


def _subtypes_in_turn(slides: pd.DataFrame, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Kind and subtype of each bag's subtype piece, as many bags of each; ("", "") where no subtypes are known."""
    known = slides[slides["subtype"] != ""].groupby("kind")["subtype"].unique()
    if known.empty:
        return [("", "")] * count
    kinds = [str(kind) for kind in _in_turn(sorted(known.index), count, rng)]
    turns = {kind: iter(_in_turn(sorted(known[kind]), kinds.count(kind), rng)) for kind in known.index}
    return [(kind, str(next(turns[kind]))) for kind in kinds]


def _draw(
    kinds: Sequence[str], asked: tuple[str, str], sizes: Sequence[int], rng: np.random.Generator
) -> list[tuple[Piece, int]]:
    """The roles and kinds of pieces of these sizes, as yet without tokens; `asked` is of the last but one."""
    first, subtype = asked
    others = [kind for kind in kinds if kind != first]
    *large, last = (str(kind) for kind in rng.choice(others, size=len(sizes) - bool(first), replace=False))
    pieces = [Piece(MAIN if i == 0 else OTHER, kind, "", ()) for i, kind in enumerate(large)]
    pieces += [Piece(SUBTYPE, first, subtype, ())] if first else []
    pieces.append(Piece(RARE, last, "", ()))
    return list(zip(pieces, sizes, strict=True))


def _in_turn(values: Sequence, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` of the values in random order, each as often as the others."""
    return rng.permutation(np.resize(np.asarray(values), count))


def sizes_of(m: int, tokens: int, sizes: Sequence[int] = SIZES) -> list[int]:
    """The sizes of m pieces of n tokens in all, largest first: the last two as given, the rest in proportion."""
    small, large = list(sizes[-2:]), sizes[: len(sizes) - 2][: m - 2]
    scale = (tokens - sum(small)) / sum(sizes[:-2])
    scaled = [max(small[0], round(size * scale)) for size in large[1:]]
    return [tokens - sum(scaled) - sum(small), *scaled, *small]


def _check(sources: pd.DataFrame, tokens: int, sizes: Sequence[int], numbers: Sequence[int]) -> None:
    kinds, most = sources["kind"].nunique(), max(numbers)
    if len(sizes) < FEWEST or list(sizes) != sorted(sizes, reverse=True) or min(sizes) < 1:
        raise ValueError(f"sizes: got {list(sizes)}; expected {FEWEST} or more tokens a piece, largest first")
    if min(numbers) < FEWEST or most > len(sizes) or len(set(numbers)) != len(numbers) or len(numbers) > len(FOUR):
        raise ValueError(
            f"numbers: got {list(numbers)}; expected up to {len(FOUR)} numbers of pieces, {FEWEST} to the "
            f"{len(sizes)} of the sizes"
        )
    if kinds < most + 3:  # three that are absent stand beside the rare one
        raise ValueError(
            f"mosaics: got {kinds} kinds ({', '.join(sorted(sources['kind'].unique())[:6])}); expected at least "
            f"{most + 3} for {most} pieces; give more stores, a label of more values, or fewer pieces"
        )
    if tokens < sum(sizes):
        raise ValueError(f"tokens: got {tokens}; expected at least the {sum(sizes)} of the sizes {list(sizes)}")
