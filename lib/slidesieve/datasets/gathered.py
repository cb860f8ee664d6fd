"""A cohort out of what was found: one row a slide, its patient, where its slide and its features lie, on which side.

The patient and the site are a label table's, else the TCGA barcode's, else the slide is its own. Slides asked about of
which nothing was found have a row whose features are absent: their questions count as wrong, and audits list them.
"""

import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int

from slidesieve.cohort.ids import Match, match, tcga_case, without_ending
from slidesieve.cohort.manifest import COLUMNS, Manifest
from slidesieve.cohort.tables import is_missing, read_words
from slidesieve.datasets.asked_files import BOTH, TEST, TRAIN, AskedFile
from slidesieve.datasets.found_files import FeatureFile, Found
from slidesieve.datasets.labels import question_table
from slidesieve.datasets.questions import LETTERS
from slidesieve.features.bag import Bag
from slidesieve.features.known_encoders import MPP, TILE_PX

SLIDE_COLUMNS = ("slide_id", "slide", "Slide", "image_id", "filename", "file_name", "wsi", "WSI")
CASE_COLUMNS = ("case_id", "patient_id", "patient", "case", "bcr_patient_barcode", "submitter_id")
SITE_COLUMNS = ("site", "data_provider", "institution", "center", "hospital")
MOST_VALUES = 20  # of a label; a column of more is no class
FEWEST_CASES = 5  # that are split
NOT_FOUND = "not found"


def chosen_features(found: Found, named: str = "") -> list[FeatureFile]:
    """The features to use: all, or those of the kinds whose name or encoder holds `named`.

    Raises ValueError naming the kinds if a slide has features of two, or widths differ.
    """
    kinds = found.kinds()
    told = "; ".join(
        f"{row.kind} ({row.slides} slides, {row.format}{f', {row.encoder}' if row.encoder else ''}, "
        f"{'width not told' if pd.isna(row.width) else f'{row.width:.0f} wide'})"
        for row in kinds.itertuples()
    )
    chosen = [one for one in found.features if not named or named.lower() in f"{one.kind} {one.encoder}".lower()]
    if named and not chosen:
        raise ValueError(f"features {named!r}: no such kind; got {told or 'none'}; name one of them")
    widths = {one.width for one in chosen if one.width}
    twice = pd.Series([one.slide_id for one in chosen], dtype=object).duplicated()
    if len(widths) > 1 or twice.any():
        why = f"widths {sorted(widths)}" if len(widths) > 1 else f"{int(twice.sum())} slides twice"
        raise ValueError(f"features: {why} among {told}; expected one encoder's; name one kind (--features)")
    return chosen


def slide_names(found: Found, features: Sequence[FeatureFile]) -> tuple[pd.DataFrame, Match]:
    """One row a slide: slide_id, slide_path, feature_path (both where ids meet); and how slides met features.

    Of slide files of one name the first counts; the others are added to the faults.
    """
    slides: dict[str, Path] = {}
    for path in found.slides:
        name = without_ending(path.name)
        if name in slides:
            found.faults.append((path.name, f"a second slide file named {name!r}, after {slides[name]}; rename one"))
        slides.setdefault(name, path)
    own = {one.slide_id: f"{one.path.absolute()}" + (f"#{one.part}" if one.part else "") for one in features}
    met = match(slides, own)
    rows = [(name, str(path.absolute()), own.get(met.found.get(name, ""), "")) for name, path in slides.items()]
    rows += [(name, "", path) for name, path in own.items() if name not in set(met.found.values())]
    return pd.DataFrame(rows, columns=["slide_id", "slide_path", "feature_path"]), met


def with_labels(cohort: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, Match]:
    """Add case_id, site and label_* of a table, met by slide, or by patient where it names no slides."""
    table = read_words(path)
    slide, case, site = (_first(table, names) for names in (SLIDE_COLUMNS, CASE_COLUMNS, SITE_COLUMNS))
    if not slide and not case:
        raise ValueError(f"{path}: got columns {', '.join(table)}; expected slide_id or case_id; rename one")
    if slide:
        met = match(table[slide], cohort["slide_id"])
        row_of = {known: asked for asked, known in met.found.items()}
        key = cohort["slide_id"].map(row_of)
    else:
        cases = cohort["slide_id"].map(lambda name: tcga_case(name) or name)
        met = match(table[case], cases)
        row_of = {known: asked for asked, known in met.found.items()}
        key = cases.map(row_of)
    index = table[slide or case]
    if (twice := index[index.duplicated()]).any():
        raise ValueError(f"{path}: {len(twice)} rows of {twice.iloc[0]!r} and others; expected one row each; keep one")
    rows = table.set_index(index)
    own = {"case_id": case, "site": site}
    for name in table.columns.difference([slide, case, site], sort=False):
        values = table[name][~is_missing(table[name])]
        if name and 2 <= values.nunique() <= MOST_VALUES:
            own[name if name.startswith("label_") else f"label_{name}"] = name
    for new, old in own.items():
        if old:
            words = key.map(rows[old]).fillna("")
            words = words.mask(is_missing(words), "")
            before = cohort.get(new, pd.Series("", index=cohort.index))
            cohort = cohort.assign(**{new: before.where(before != "", words)})
    if case:
        _check_patients(cohort[key.notna()], path, column=case)
    return cohort, met


def _check_patients(met: pd.DataFrame, path: Path, *, column: str) -> None:
    """Refuse a table that names the patients of some slides: of the others each would be a patient of its own."""
    unnamed = (met["case_id"] == "") & ~met["slide_id"].map(tcga_case).astype(bool)
    unknown = met.loc[unnamed, "slide_id"]
    if len(unknown) and (met["case_id"] != "").any():
        raise ValueError(
            f"{path}: {column} is empty of {len(unknown)} slides, the first is {unknown.iloc[0]!r}; expected whose "
            "each slide is, or slides of one patient may come on two sides; fill it in, by a word of its own if unknown"
        )


def with_asked(cohort: pd.DataFrame, files: Sequence[AskedFile]) -> pd.DataFrame:
    """Add a row for each slide that is asked about and was not found."""
    known = set(cohort["slide_id"])
    absent = list(dict.fromkeys(slide for file in files for slide in file.slides if slide not in known))
    rows = pd.DataFrame({"slide_id": absent, "slide_path": "", "feature_path": [f"{NOT_FOUND}/{s}.h5" for s in absent]})
    return pd.concat([cohort, rows], ignore_index=True).fillna("")


def manifest_table(
    cohort: pd.DataFrame,
    files: Sequence[AskedFile],
    *,
    root: Path,
    val_share: float,
    test_share: float,
    seed: int,
    source: str,
) -> pd.DataFrame:
    """Return the manifest: paths relative to DATA_ROOT or else to `root`, sides by patient."""
    base = Path(os.environ.get("DATA_ROOT") or root).resolve()
    barcode = cohort["slide_id"].map(tcga_case)
    case = cohort.get("case_id", pd.Series("", index=cohort.index))
    site = cohort.get("site", pd.Series("", index=cohort.index))
    cohort = cohort.assign(
        case_id=case.where(case != "", barcode.where(barcode != "", cohort["slide_id"])),
        site=site.where(site != "", barcode.str[5:7]),
        source=source,
    )
    for name in ("slide_path", "feature_path"):
        cohort[name] = [_relative(path, base) for path in cohort[name]]
    cohort["split"] = _sides(cohort, files, val_share=val_share, test_share=test_share, seed=seed)
    labels = [name for name in cohort if name.startswith("label_")]
    return cohort.reindex(columns=[*COLUMNS, *labels], fill_value="").sort_values("slide_id").reset_index(drop=True)


def label_to_ask(manifest: Manifest, named: str) -> str:
    """The label column to ask for: the one named, or the only one of 2 to 10 values; "" if there is none.

    Raises ValueError if the one named is not there, or if several could be meant.
    """
    table = manifest.table
    columns = [name for name in table if name.startswith("label_")]
    fit = [name for name in columns if 2 <= table.loc[table[name] != "", name].nunique() <= len(LETTERS)]
    if named:
        if f"label_{named.removeprefix('label_')}" not in fit:
            raise ValueError(
                f"label {named!r}: expected one of {', '.join(fit) or 'none'}, of 2 to 10 values; correct it"
            )
        return f"label_{named.removeprefix('label_')}"
    if len(fit) > 1:
        raise ValueError(f"label: could be {', '.join(fit)}; expected one; name the one to ask for (--label)")
    return fit[0] if fit else ""


def ask_label(manifest: Manifest, column: str, *, text: str, seed: int) -> pd.DataFrame:
    """Ask for a label of every slide that has it, letters balanced within each side and label."""
    rows = manifest.table[manifest.table[column] != ""].reset_index(drop=True)
    asked = rows.assign(label=rows[column], fold=rows["split"])
    return question_table(asked, text=text, label=column.removeprefix("label_"), seed=seed)


def some_grids(bags: Mapping[str, Bag], most: int) -> dict[str, Int[np.ndarray, "n 2"]]:
    """The places of up to `most` bags that have any."""
    known = ((slide, bag) for slide, bag in bags.items() if bag.attrs["has_coords"])
    return {slide: bag.coords for slide, bag in islice(known, most)}


def next_command(
    manifest: Manifest, written: Sequence[str], folder: Path, *, tile_px: int = TILE_PX, mpp: float = MPP
) -> str:
    """What to run on these files, in words and commands; tiles of `tile_px` pixels of `mpp` micrometres are meant."""
    sides = set(manifest.table["split"])
    bare = (manifest.table["feature_path"] == "").sum()
    lines = (
        [f"{bare} slides have no features: they are cut and encoded (--encoder) as the experiment begins"]
        if bare
        else []
    )
    if "questions.csv" not in written:
        return "\n".join([*lines, "nothing is asked of these slides yet: give --questions or --labels"])
    if not {"train", "val", "test"} <= sides:
        told = f"sides are {', '.join(sorted(sides - {''})) or 'none'}; expected train, val and test"
        return "\n".join([*lines, f"{told}: fill in the column split of {folder / 'manifest.csv'}"])
    words = ["slidesieve experiment", f"--manifest {folder / 'manifest.csv'}"]
    for option in ("questions", "open-questions", "captions", "instructions"):
        stem = option.replace("-", "_")
        words += [f"--{option} {folder / name}" for name in written if name.partition(".")[0] == stem][:1]
    other = [f"-p {n}={v:g}" for n, v, usual in (("tile_px", tile_px, TILE_PX), ("mpp", mpp, MPP)) if v != usual]
    words += ["--encoder PATH_OR_ID", *other] if bare else []
    return "\n".join([*lines, " ".join([*words, "--llm PATH_OR_ID", "--out runs/mine", "--dry-run"])])


def _sides(cohort: pd.DataFrame, files: Sequence[AskedFile], *, val_share: float, test_share: float, seed: int) -> list:
    case = dict(zip(cohort["slide_id"], cohort["case_id"], strict=True))
    by_role = {role: {slide for file in files if file.role == role for slide in file.slides} for role in (TRAIN, TEST)}
    rng = np.random.default_rng(seed)
    if by_role[TRAIN] or by_role[TEST]:
        tested = {case[slide] for slide in by_role[TEST]}
        free = sorted({case[slide] for slide in by_role[TRAIN]} - tested)
        held = set(_drawn(free, val_share, rng)) if len(free) > 1 else set()
        side = dict.fromkeys(by_role[TEST], "test")
        for slide in by_role[TRAIN] - by_role[TEST]:
            side[slide] = "" if case[slide] in tested else "val" if case[slide] in held else "train"
        return [side.get(slide, "") for slide in cohort["slide_id"]]
    asked = {slide for file in files if file.role == BOTH for slide in file.slides} or set(case)
    cases = sorted({case[slide] for slide in asked})
    if len(cases) < FEWEST_CASES:
        return [""] * len(cohort)
    tested = set(_drawn(cases, test_share, rng))
    held = set(_drawn([c for c in cases if c not in tested], val_share, rng))
    names = {c: "test" if c in tested else "val" if c in held else "train" for c in cases}
    return [names[case[slide]] if slide in asked else "" for slide in cohort["slide_id"]]


def _drawn(cases: Sequence[str], share: float, rng: np.random.Generator) -> list[str]:
    return [cases[i] for i in rng.permutation(len(cases))[: max(1, round(share * len(cases)))]]


def _first(table: pd.DataFrame, names: Sequence[str]) -> str:
    return next((name for name in names if name in table), "")


def _relative(path: str, base: Path) -> str:
    return path if not path or path.startswith(f"{NOT_FOUND}/") else Path(os.path.relpath(path, base)).as_posix()
