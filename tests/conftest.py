"""What tests of several rooms begin with."""

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from slidesieve.synthetic.language import build_tokenizer


def pytest_collection_modifyitems(items):
    """Files with slow tests go first: at the end one worker would wait for them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


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
