"""SlideInstruct's JSON: what becomes a turn, what is refused and how it is named; real conversations of one form."""

import gzip
import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from shared_data import SHARED

from slidesieve.cohort.manifest import COLUMNS as MANIFEST_COLUMNS
from slidesieve.cohort.manifest import read_manifest
from slidesieve.datasets.examples import read_examples
from slidesieve.datasets.instructions import Instruction, is_instructions, parse_instructions, read_instructions
from slidesieve.datasets.questions import in_cohort

SLIDE = "TCGA-2F-A9KO-01Z-00-DX1"
UUID = "195576CF-B739-4BD9-B15B-4A70AE287D3E"
READ = {"answer_form": "text", "slide_prompt": "unused", "region_prompt": "unused"}


def item(*said: str, id="train::0", image=(f"./BLCA/{SLIDE}.csv",)) -> dict:
    """A conversation, human and gpt by turns."""
    conversations = [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(said)]
    return {"id": id, "image": list(image) if isinstance(image, tuple) else image, "conversations": conversations}


def write(path: Path, items: object) -> Path:
    path.write_text(json.dumps(items), encoding="utf-8")
    return path


def test_an_item_is_one_example_with_a_turn_for_each_round(tmp_path):
    items = [
        item("<image>\nWhich grade?\nA. low\nB. high", "B"),
        item("Describe it.\n<image>", " A carcinoma of 3 µm.\n", id="train::1", image=(f"./LGG/{SLIDE}.{UUID}.pt",)),
        item("Is <image>it?", "Yes <image>.", "And?", "No.", id="train::1", image="TCGA-LUSC/s-2.csv"),
    ]
    path = write(tmp_path / "train.json", items)
    assert read_instructions(path)[2] == Instruction("train::1", "s-2", (("Is it?", "Yes <image>."), ("And?", "No.")))
    assert read_examples(path, **READ) == [
        (SLIDE, None, (("Which grade?\nA. low\nB. high", "B"),)),
        (f"{SLIDE}.{UUID}", None, (("Describe it.", "A carcinoma of 3 µm."),)),
        ("s-2", None, (("Is it?", "Yes <image>."), ("And?", "No."))),
    ]
    packed = tmp_path / "train.json.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_examples(packed, **READ) == read_examples(path, **READ)
    assert is_instructions(packed) and not is_instructions("questions.csv")


def test_a_slides_name_keeps_its_dots(tmp_path):
    for image, slide in ((f"./{SLIDE}.{UUID}", f"{SLIDE}.{UUID}"), ("1.csv", "1"), ("a/b/S.1.SVS", "S.1")):
        assert read_instructions(write(tmp_path / "t.json", [item("?", "!", image=(image,))]))[0].slide_id == slide


def test_every_fault_is_listed_with_its_item(tmp_path):
    items = [
        item("<image>\nQ", "A"),
        item("Q", "A", id=7),
        item("Q", "A", id="b", image=("x/s1.csv", "x/s2.csv")),
        item("Q", "A", id="c", image=()),
        item("Q", "A", "more?", id="d"),
        item("<image>\n", "", id="e"),
        {"id": "f", "image": ["s.csv"]},
        "g",
        item("Q", "A", id="h") | {"conversations": [{"from": "gpt", "value": "A"}, {"from": "gpt", "value": "Q"}]},
        item("Q", "A", id="i") | {"conversations": [{"from": "human", "value": None}]},
        item("Q", "A", id="j", image=("x/.csv",)),
    ]
    with pytest.raises(ValueError) as error:
        read_instructions(write(tmp_path / "t.json", items))
    message = str(error.value)
    assert "t.json: 11 faults" in message and "item 0 " not in message
    for fault in (
        "item 1 (7): id is int 7; expected a string",
        "item 2 (b): image names 2 files (x/s1.csv, x/s2.csv); expected one: a row is about one slide",
        "item 3 (c): image is list []; expected one file name in a list",
        "item 4 (d): conversations go human, gpt, human; expected human, gpt, human, gpt, ...",
        "item 5 (e): turn 0 (human) says nothing; expected a question",
        "item 5 (e): turn 1 (gpt) says nothing; expected a reply",
        "item 6 (f): no conversations; got id, image",
        'item 7 (no id): got str "g"; expected id, image and conversations',
        "item 8 (h): conversations go gpt, gpt;",
        "item 9 (i): conversations is list [",
        "item 10 (j): image is 'x/.csv'; expected a file named like its slide",
    ):
        assert fault in message


def test_a_few_faulty_items_are_set_aside_and_what_can_be_meant_one_way_is_repaired(tmp_path, capsys):
    items = [item("Q", "A", id=str(i)) for i in range(399)]
    items[7]["conversations"].reverse()
    items[9] = item("Q", "", id="9")
    items[11] = item('Is it "odd"?"', 'Yes, "odd".', id="11")
    items[13] = item("How wide is it?", '3"', id="13")
    items[15] = item("Q", "A", "Q2", "A2", id="15")
    items[15]["conversations"] = [items[15]["conversations"][i] for i in (1, 0, 3, 2)]
    path = write(tmp_path / "t.json", items)
    read = parse_instructions(path)
    assert [(f.place, f.id, f.kind, f.repaired) for f in read.faults] == [
        ("item 7", "7", "turns swapped", True),
        ("item 9", "9", "a turn says nothing", False),
        ("item 11", "11", "a lone quotation mark", True),
        ("item 15", "15", "turns swapped", True),
    ]
    used = {one.id: one.turns for one in read_instructions(path)}
    assert "9" not in used and len(used) == 398 and used["7"] == (("Q", "A"),) and used["13"][0][1] == '3"'
    assert used["11"] == (('Is it "odd"?', 'Yes, "odd".'),) and used["15"] == (("Q", "A"), ("Q2", "A2"))
    told = capsys.readouterr().out
    assert "398 of 399 records used; 1 set aside: a turn says nothing; 2 repaired: turns swapped; 1 repaired: " in told
    with pytest.raises(ValueError, match=r"1 faults in 1 of 40 records, more than a share of 0.01"):
        read_instructions(write(tmp_path / "t.json", items[:40]))


def test_a_correction_finds_its_record_by_its_hash(tmp_path):
    items = [item("Q", "A"), item("Q", "", id="b"), item("Q", "", id="c")]
    path = write(tmp_path / "t.json", items)
    wrong = {fault.id: fault.sha256 for fault in parse_instructions(path).faults}
    table = tmp_path / "corrections.csv"
    rows = [(wrong["b"], json.dumps(item("Q", "B", id="b"))), (wrong["c"], ""), ("0" * 16, "{}")]
    pd.DataFrame(rows, columns=["sha256", "record"]).to_csv(table, index=False)
    assert [one.turns[0][1] for one in read_instructions(path, corrections=table)] == ["A", "B"]
    table.write_text("sha256,record\n0,{\n")
    with pytest.raises(ValueError, match=r"corrections.csv: a record is no JSON"):
        read_instructions(path, corrections=table)


def test_what_is_no_list_of_items_is_refused(tmp_path):
    for content, got in (({"id": 1}, 'dict {"id": 1}'), ([], r"list \[\]")):
        with pytest.raises(ValueError, match=f"got {got}; expected a list of items with id, image and conversations"):
            read_instructions(write(tmp_path / "t.json", content))
    (tmp_path / "t.json").write_text('[{"id": ')
    with pytest.raises(ValueError, match=r"not JSON .*download it again"):
        read_instructions(tmp_path / "t.json")
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(b"[1, 2, 3]" * 99)[:-9])
    with pytest.raises(ValueError, match="not JSON"):
        read_instructions(tmp_path / "t.json.gz")


def test_slides_must_be_in_the_manifest(tmp_path):
    row = dict.fromkeys(MANIFEST_COLUMNS, "") | {"slide_id": SLIDE, "case_id": SLIDE[:12], "feature_path": "s.csv"}
    table = tmp_path / "manifest.csv"
    table.write_text("\n".join(",".join(part) for part in (row.keys(), row.values())))
    manifest = read_manifest(table)
    read = read_instructions(write(tmp_path / "t.json", [item("Q", "A"), item("Q", "A", id="b", image=("x/s9.csv",))]))
    assert in_cohort(read[:1], manifest, what="t.json") == read[:1]
    with pytest.raises(ValueError, match=r"slides of t.json: 2 asked for, 1 found .*1 lost: 's9' .*share of 0.50"):
        in_cohort(read, manifest, what="t.json")
    assert in_cohort(read, manifest, what="t.json", least=0.5) == read[:1]


@pytest.mark.shared
def test_real_conversations_of_the_same_form():
    path = SHARED / "vqa/wsi_bench/train/Grading_train.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    examples = read_examples(path, **READ)
    raw = json.loads(gzip.decompress(path.read_bytes()))
    assert len(examples) == len(raw) == 4600
    assert all(len(e.turns) == 1 and e.box is None and "<image>" not in e.turns[0][0] for e in examples)
    assert Counter(e.slide_id for e in examples) == Counter(r["image"].split("/")[-1][: -len(".pt")] for r in raw)
    assert [e.turns[0][1] for e in examples] == [r["conversations"][1]["value"].strip() for r in raw]


@pytest.mark.shared
def test_the_one_record_that_refused_a_published_file_is_repaired():
    path = SHARED / "vqa/wsi_bench/train/Staging_choice_train.json.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    read = parse_instructions(path)
    (fault,) = read.faults
    assert (fault.place, fault.kind, fault.repaired, len(read.used)) == ("item 1626", "turns swapped", True, 2562)
    ((asked, said),) = read.used[1626].turns
    assert asked.startswith("For a patient with a primary tumor") and said == "A"
