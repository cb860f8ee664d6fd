"""The bags of a manifest's slides, from wherever they lie, as what is packed."""

import json
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slidesieve.cohort.manifest import Manifest, read_manifest
from slidesieve.features.bag import Bag
from slidesieve.features.places.packed_folder import packed_folder
from slidesieve.features.places.placed_files import PlacedFiles, places_of
from slidesieve.features.readers import check_exists
from slidesieve.provenance.files import hash_file


class ManifestSources(NamedTuple):
    """Bags of the slides of a manifest, thinned to `most_tiles` (0: all); `run` is another for each run."""

    manifest_path: Path
    features_dir: Path | None
    most_tiles: int
    run: str

    def read(self, slide_id: str) -> Bag:
        files, _ = _placed(self)
        check_exists(files.places[slide_id].path, slide_id)
        return files.read(slide_id)

    def identity(self, slide_id: str) -> str:
        """The sum of the slide's file, or the part that has it; which encoder's, and the mpp that it is read by."""
        path, part, mpp = _placed(self)[0].places[slide_id]
        check_exists(path, slide_id)
        made_of = hash_file(path)[:16] if path.is_file() else packed_folder(path).row(slide_id).part
        return json.dumps([made_of, part, mpp])

    def n_bytes(self, slide_id: str) -> int:
        """The size of the slide's file, or its share of one of several slides."""
        files, sharing = _placed(self)
        path = files.places[slide_id].path
        if path.is_dir():
            return packed_folder(path).n_tiles(slide_id) * packed_folder(path).width * 2
        return path.stat().st_size // sharing[path]


def slides_with_features(manifest: Manifest, features_dir: Path | None) -> list[str]:
    """The slides that a manifest names features of; all where a folder of them is given."""
    table = manifest.table
    return list(table["slide_id"] if features_dir else table.loc[table["feature_path"] != "", "slide_id"])


@lru_cache(maxsize=1)
def _placed(sources: ManifestSources) -> tuple[PlacedFiles, Counter]:
    """Where the bags lie, looked up once a process."""
    manifest = read_manifest(sources.manifest_path)
    places = places_of(manifest, sources.features_dir, slides_with_features(manifest, sources.features_dir))
    return PlacedFiles(places, sources.most_tiles), Counter(place.path for place in places.values())
