"""Where ids meet: a label's slide and a feature file's, a question's and the manifest's, are they one?

Exact first, then looser, a rule at a time (`RULES`, then TCGA barcodes of which one is the beginning of the other). A
looser match counts only where it is unique among all ids on both sides: two slides are never taken for one.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

EXTENSIONS = r"(\.(svs|ndpi|tiff?|dcm|mrxs|scn|svslide|bif|vms|h5|hdf5|pt|npy|csv))+$"
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # of GDC's file names
UUID = rf"(?<=.)[._ -]{_UUID}.*$|^{_UUID}[._ -](?=.)"  # after a name, with what makers add; or before it
NOT_SEEN = r"[\u200b\u2060\ufeff]"  # spaces of no width
TYPED = r"^(?:=\"(.*)\"|'(?=\d)(.*))$"  # as text, for a spreadsheet to leave it alone
FOLDER = r"^.*[/\\](?=.)"
AFTER_BARCODE = r"^(tcga-\w{2}-\w{4}[\w-]*)\..*$"
BARCODE = r"tcga-\w{2}-\w{4}(-.+)?$"
SCIENTIFIC = r"\d([.,]\d+)?[eE]\+\d+"
LOST_DIGITS = "a spreadsheet wrote it with an exponent, digits are lost: write the column again, as text"
MIN_COVERAGE = 0.9
SHOWN = 3


def _without_uuid(name: str) -> str:
    return re.sub(UUID, "", re.sub(AFTER_BARCODE, r"\1", name, flags=re.IGNORECASE), flags=re.IGNORECASE)


def _as_typed(name: str) -> str:
    """Without what is not seen of it, and without the signs that make a spreadsheet take it for text."""
    plain = re.sub(NOT_SEEN, "", unicodedata.normalize("NFC", name)).strip()
    return re.sub(TYPED, lambda mark: mark[1] or mark[2] or "", plain)


RULES: tuple[tuple[str, Callable[[str], str]], ...] = (  # each on top of those before it
    ("as they are", lambda name: name),
    ("but for spaces or how letters are composed", _as_typed),
    (
        "but for the file's extension",
        lambda name: re.sub(EXTENSIONS, "", name, flags=re.IGNORECASE),
    ),
    ("but for a UUID", _without_uuid),
    ("but for case", str.casefold),
    ("but for its folder", lambda name: re.sub(FOLDER, "", name)),
    ("but for leading zeros", lambda name: re.sub(r"^0*(\d+)(\.0+)?$", r"\1", name)),
)
BY_BARCODE = "by TCGA barcode, one the beginning of the other"


class Match(NamedTuple):
    """What became of the ids asked for.

    `found` maps each to the known id, `how` counts by rule, `lost` says why each of the others has none.
    """

    n_known: int
    found: dict[str, str]
    how: dict[str, int]
    lost: dict[str, str]

    @property
    def coverage(self) -> float:
        """The share of those asked that are found; 1 where none is asked."""
        return len(self.found) / max(1, len(self.found) + len(self.lost))

    @property
    def coverage_of_smaller(self) -> float:
        """The share found of the smaller side: a table of all slides may stand beside the features of a few."""
        return len(self.found) / max(1, min(self.n_known, len(self.found) + len(self.lost)))

    def line(self, what: str) -> str:
        """Say it in one line: asked, found, matched how, lost."""
        asked = len(self.found) + len(self.lost)
        how = ", ".join(f"{n} {rule}" for rule, n in self.how.items())
        text = f"{what}: {asked} asked for, {len(self.found)} found" + (f" ({how})" if how else "")
        return text + (f", {len(self.lost)} lost: {self.first_lost()}" if self.lost else ", none lost")

    def first_lost(self) -> str:
        """Name the first three that are lost, and why."""
        named = "; ".join(f"{name!r} ({why})" for name, why in list(self.lost.items())[:SHOWN])
        return named + (f"; and {len(self.lost) - SHOWN} more" if len(self.lost) > SHOWN else "")


def match(asked: Iterable[str], known: Iterable[str]) -> Match:
    """Find each id asked for among those known; linear in both."""
    asked, known = list(dict.fromkeys(asked)), list(dict.fromkeys(known))
    found, how, alike = {}, {}, {}
    ours, theirs = {name: name for name in asked}, {name: name for name in known}
    for rule, looser in RULES:
        ours = {name: looser(key) for name, key in ours.items()}
        theirs = {name: looser(key) for name, key in theirs.items()}
        pairs, doubtful = _unique(ours, theirs, taken=found)
        alike |= doubtful
        _take(pairs, rule, found, how)
    pairs, doubtful = _by_barcode(ours, theirs, taken=found)
    _take(pairs, BY_BARCODE, found, how)
    why = {name: LOST_DIGITS for name in asked if re.fullmatch(SCIENTIFIC, name.strip())} | alike | doubtful
    lost = {name: why.get(name, "no such id") for name in asked if name not in found}
    return Match(len(known), {name: found[name] for name in asked if name in found}, how, lost)


def matched(
    asked: Iterable[str], known: Iterable[str], *, what: str, least: float = MIN_COVERAGE, of_smaller: bool = False
) -> dict[str, str]:
    """Map ids asked for to known ones; the line of coverage is printed.

    Raises ValueError if fewer than a share `least` of those asked for (or of the smaller side) are found.
    """
    known = list(dict.fromkeys(known))
    result = match(asked, known)
    share = result.coverage_of_smaller if of_smaller else result.coverage
    if share < least:
        example = f"; those known are like {known[0]!r}" if known else ""
        raise ValueError(
            f"{result.line(what)}; a share of {share:.2f}, expected {least:g} or more (min_coverage){example}; "
            "correct the ids, or lower min_coverage if the others are not meant"
        )
    print(result.line(what), flush=True)
    return result.found


def common(asked: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Map ids to known ones without a word, for callers that count what is left out themselves."""
    return match(asked, known).found


def without_ending(slide_id: str) -> str:
    """A slide's name without its file's extension (a UUID stays)."""
    return re.sub(EXTENSIONS, "", slide_id.strip(), flags=re.IGNORECASE)


def tcga_case(slide_id: str) -> str:
    """Return the patient part of a TCGA barcode, or "" if it is none."""
    match = re.match(r"TCGA-\w{2}-\w{4}(?!\w)", slide_id)
    return match.group() if match else ""


def _take(pairs: dict[str, str], rule: str, found: dict[str, str], how: dict[str, int]) -> None:
    found |= pairs
    if pairs:
        how[rule] = len(pairs)


def _unique(
    ours: dict[str, str], theirs: dict[str, str], *, taken: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Pairs of equal keys that no other id on either side has; and why others have no partner though keys agree."""
    of_key = defaultdict(list)
    for name, key in theirs.items():
        of_key[key].append(name)
    times, gone = Counter(ours.values()), set(taken.values())
    pairs, doubtful = {}, {}
    for name, key in ours.items():
        if name in taken or not key or key not in of_key:
            continue
        partners = of_key[key]
        if len(partners) == 1 and times[key] == 1 and partners[0] not in gone:
            pairs[name] = partners[0]
        elif len(partners) > 1:
            doubtful[name] = f"{len(partners)} are alike: {', '.join(partners[:SHOWN])}"
        else:
            doubtful[name] = f"{partners[0]!r} is alike, and another's"
    return pairs, doubtful


def _by_barcode(
    ours: dict[str, str], theirs: dict[str, str], *, taken: dict[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Pairs of TCGA barcodes of which one goes on where the other ends (a patient and her only slide, say)."""
    below_ours, below_theirs = _beginnings(ours), _beginnings(theirs)
    by_key, gone = {key: name for name, key in theirs.items()}, set(taken.values())
    pairs, doubtful = {}, {}
    for name, key in ours.items():
        if name in taken or not re.match(BARCODE, key):
            continue
        longer = below_theirs[key]
        shorter = [by_key[start] for start in _parts(key) if start in by_key and below_ours[start] == [name]]
        partners = [other for other in longer + shorter if other not in gone]
        if len(longer) + len(shorter) == 1 and partners:
            pairs[name] = partners[0]
        elif len(longer) > 1:
            doubtful[name] = f"{len(longer)} of this patient: {', '.join(longer[:SHOWN])}"
    return pairs, doubtful


def _parts(key: str) -> list[str]:
    """The barcode's beginnings, from the patient on, itself not among them."""
    parts = key.split("-")
    return ["-".join(parts[:n]) for n in range(3, len(parts))]


def _beginnings(keys: dict[str, str]) -> defaultdict[str, list[str]]:
    below = defaultdict(list)
    for name, key in keys.items():
        for start in _parts(key) if re.match(BARCODE, key) else ():
            below[start].append(name)
    return below
