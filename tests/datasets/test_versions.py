"""Which version a published file is: by its content, else by how much it holds of whom; and when nothing is known."""

import gzip
import hashlib
import json

import pytest
from shared_data import SHARED

from slidesieve.datasets.asked_files import file_table, read_asked_files
from slidesieve.datasets.versions import DISTINCT, KNOWN, UNKNOWN, WHOLE, Published, content_hash, version_of
from slidesieve.evaluation import published
from slidesieve.provenance.code_reach import reach
from slidesieve.provenance.files import ROOT

BCNB, TCGA = "SlideBench-VQA-BCNB, SlideChat 975a735", "SlideBench-VQA-TCGA, SlideChat 975a735"


def test_sha256_are_whole_and_each_stands_once():
    digests = [one.sha256 for one in KNOWN if one.sha256]
    assert len(digests) == len(set(digests)) == 4 + 27 + 24
    assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in digests)
    assert all(one.sha256 or (one.rows and one.slides) for one in KNOWN)
    held = [(one.rows, one.slides) for one in WHOLE if one.slides]
    assert len(held) == len(set(held)) and all(rows >= DISTINCT for rows, _ in held)


def test_counts_of_versions_are_those_that_the_papers_scores_are_of():
    by_name = {str(one): one for one in WHOLE}
    whole, left = by_name[TCGA], next(one for one in WHOLE if "no mpp" in one.name)
    assert (whole.rows, left.rows) == tuple(published.BENCHMARKS[v].n_questions for v in ("v1", "v1 with features"))
    assert whole.rows - left.rows == 21 and whole.slides - left.slides == 8


def test_a_file_is_known_by_its_content_packed_or_not_or_by_what_it_holds(tmp_path):
    content = b'[{"id": 1}]'
    digest = hashlib.sha256(content).hexdigest()
    known = (*WHOLE, Published("mine", "me", digest, 1_200, 7))
    (tmp_path / "a.json").write_bytes(content)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(content))
    for path in (tmp_path / "a.json", tmp_path / "b.json.gz"):
        assert content_hash(path) == digest and version_of(path, rows=1_200, slides=7, known=known) == "mine, me"
        assert version_of(path, rows=1_100, slides=7, known=known) == "mine, me; 1,100 of its 1,200 rows"
    (tmp_path / "c.json").write_bytes(content + b"\n")
    other = tmp_path / "c.json"
    assert version_of(other, rows=1_200, slides=7, known=known) == "rows and slides as in mine, me; another file"
    assert version_of(other, rows=7_274, slides=1_058) == f"rows and slides as in {BCNB}; another file"
    assert "without the 8 slides that have no mpp" in version_of(other, rows=1_473, slides=583)
    for rows, slides in ((1_473, 584), (1_494, 583), (7_273, 1_058), (175_734, 4_152)):
        assert version_of(other, rows=rows, slides=slides) == UNKNOWN


def test_few_rows_tell_nothing(tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("x")
    few = [(one.rows, one.slides) for one in KNOWN if one.rows and one.slides and one.rows < DISTINCT]
    assert len(few) == 21 and {version_of(path, rows=rows, slides=slides) for rows, slides in few} == {UNKNOWN}


def test_a_table_of_files_says_which_version_each_is(tmp_path):
    rows = [f"{i},{i % 1_058 + 1},Grading,Which?,low,high,,,B" for i in range(7_274)]
    (tmp_path / "bcnb.csv").write_text("\n".join(["ID,Slide,Task,Question,A,B,C,D,Answer", *rows]))
    (tmp_path / "less.csv").write_text("\n".join(["ID,Slide,Task,Question,A,B,C,D,Answer", *rows[1:]]))
    names = ["bcnb.csv", "less.csv"]
    files = read_asked_files([tmp_path / name for name in names], ["1", "2"], corrections=None)
    assert file_table(files)["version"].tolist() == [f"rows and slides as in {BCNB}; another file", UNKNOWN]


@pytest.mark.shared
@pytest.mark.parametrize("path", sorted(SHARED.glob("vqa/wsi_bench/*/*.json.gz")), ids=lambda path: path.name)
def test_the_copies_of_wsi_bench_are_known_and_counted_right(path):
    (file,) = read_asked_files([path], [], corrections=None)
    name = f"WSI-Bench {path.name.split('.')[0]}, WSI-LLaVA 4935038 without TCGA-BRCA"
    assert file_table([file]).loc[0, "version"] == name
    slides = {item["image"] for item in json.loads(gzip.decompress(path.read_bytes()))}
    one = next(one for one in KNOWN if str(one) == name)
    assert (one.rows, one.slides) == (file.n, len(file.match.lost)) == (file.n, len(slides))


def test_to_learn_of_one_more_version_makes_no_answer_stale():
    _, reached = reach(ROOT / "notebooks" / "60_answer_questions.ipynb", {})
    assert "slidesieve.answers.answering.answer_all" in reached.code
    assert not [name for name in reached.code if "datasets.versions" in name]
