"""Tokenizers of the classes that real families have, trained on a few words of pathology."""

import json

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CohereTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    GPTNeoXTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5Tokenizer,
    XGLMTokenizer,
)

TEXT = [
    "Which finding is present? necrosis, mitoses, keratin pearls and intercellular bridges",
    "What is the grade? low, high, none of these; Answer: A. B. C. D. yes no",
    "invasive carcinoma of the breast with lymphocytes in the stroma; normal tissue beside the tumour",
]


def _bytes(cls=PreTrainedTokenizerFast, *, special: dict[str, str], bos: bool = False, **more):
    """Byte-level BPE, as GPT-2, Qwen, Cohere and their like have it."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    names = list(dict.fromkeys(special.values()))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=320, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    )
    if cls is not PreTrainedTokenizerFast:
        return cls(**_learnt(trained), **special, **more)
    if bos:
        first = special["bos_token"]
        trained.post_processor = processors.TemplateProcessing(
            single=f"{first} $A", pair=f"{first} $A {first} $B", special_tokens=[(first, trained.token_to_id(first))]
        )
    return cls(tokenizer_object=trained, **special, **more)


def _pieces(cls, *, special: dict[str, str], **more):
    """BPE over pieces with "▁" for a space and a token for each byte, as Llama 2 and Gemma have it."""
    trained = Tokenizer(models.BPE(byte_fallback=True, unk_token=special["unk_token"]))
    trained.normalizer = normalizers.Replace(" ", "▁")
    names = [*special.values(), *(f"<0x{byte:02X}>" for byte in range(256))]
    trained.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=420, special_tokens=names, show_progress=False))
    return cls(**_learnt(trained), **special, **more)


def _unigram(cls, *, special: dict[str, str], first: list[str]):
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        TEXT,
        trainers.UnigramTrainer(
            vocab_size=120, special_tokens=first, unk_token=special["unk_token"], show_progress=False
        ),
    )
    return cls(vocab=[tuple(piece) for piece in json.loads(trained.to_str())["model"]["vocab"]], **special)


def _learnt(trained: Tokenizer) -> dict:
    model = json.loads(trained.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


END, PIECES = "<|endoftext|>", {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
GEMMA = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>", "mask_token": "<mask>"}
COHERE = {"pad_token": "<PAD>", "unk_token": "<UNK>", "bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>"}
TOKENIZERS = {
    "bytes": lambda: _bytes(special={"eos_token": END}),
    "bytes+bos": lambda: _bytes(special={"bos_token": "<|begin|>", "eos_token": END}, bos=True),
    "gpt2": lambda: _bytes(GPT2Tokenizer, special={"eos_token": END, "bos_token": END, "unk_token": END}),
    "opt": lambda: _bytes(
        GPT2Tokenizer, special={"eos_token": "</s>", "bos_token": "</s>", "pad_token": "<pad>"}, add_bos_token=True
    ),
    "neox": lambda: _bytes(GPTNeoXTokenizer, special={"eos_token": END, "bos_token": END, "unk_token": END}),
    "qwen": lambda: _bytes(Qwen2Tokenizer, special={"eos_token": END, "pad_token": END, "unk_token": END}),
    "cohere": lambda: _bytes(CohereTokenizer, special=COHERE, add_bos_token=True),
    "llama": lambda: _pieces(LlamaTokenizer, special=PIECES, add_bos_token=True),
    "gemma": lambda: _pieces(GemmaTokenizer, special=GEMMA, add_bos_token=True),
    "xglm": lambda: _unigram(XGLMTokenizer, special=PIECES, first=["<s>", "<pad>", "</s>", "<unk>"]),
    "t5": lambda: _unigram(
        T5Tokenizer, special={"unk_token": "<unk>", "eos_token": "</s>"}, first=["<pad>", "</s>", "<unk>"]
    ),
}
