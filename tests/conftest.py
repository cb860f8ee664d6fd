"""What tests of several rooms begin with."""

import os

import numpy as np
import pytest
import torch
from filelock import FileLock
from shared_data import INPUTS, SHARED
from transformers import Qwen2Config, Qwen2ForCausalLM

from slidesieve.synthetic.atlas import draw_atlas
from slidesieve.synthetic.language import build_tokenizer

os.environ.setdefault("NUMBA_OPT", "0")  # UMAP is compiled in less time, and its tests embed a few tiles


def pytest_collection_modifyitems(items):
    """Files with slow tests go first: at the end one worker would wait for them. Without real data its tests skip."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    absent = [str(folder) for folder in (SHARED, INPUTS) if not folder.exists()]
    for item in items if absent else ():
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason=f"no {', '.join(absent)}: set DATA_SHARED to the real test data"))


@pytest.fixture(scope="session")
def atlas(tmp_path_factory, worker_id):
    """The textures of seed 0, drawn once for all workers."""
    folder = tmp_path_factory.getbasetemp()
    file = (folder if worker_id == "master" else folder.parent) / "atlas.npy"
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            np.save(file, draw_atlas(0))
    return np.load(file, mmap_mode="r")


@pytest.fixture(scope="session")
def lm_folder(tmp_path_factory):
    """A tiny random Qwen2 with grouped key-value heads and attention that is far from uniform."""
    folder, tokenizer = tmp_path_factory.mktemp("lm"), build_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(tokenizer), hidden_size=24, intermediate_size=40, num_hidden_layers=3,
                num_attention_heads=6, num_key_value_heads=3, initializer_range=0.3,
            )
        )  # fmt: skip
    lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
