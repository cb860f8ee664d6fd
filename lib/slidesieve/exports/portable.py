"""What stands in, in a published folder, for what is not there: jaxtyping, einops, notes of hashes, PEFT.

A published model needs torch, transformers and safetensors alone. `source` puts these in the place of the originals.
"""

import hashlib
import json
import math
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

PLAIN_LORA = {"peft_type": "LORA", "bias": "none", "use_dora": False, "modules_to_save": None}
PLAIN_LORA |= {"rank_pattern": {}, "alpha_pattern": {}}


class Shaped:
    """An annotation of an array with its axes: the array's class alone."""

    def __class_getitem__(cls, of: tuple[type, str]) -> type:
        return of[0]


def rearrange(x: Tensor, pattern: str, **sizes: int) -> Tensor:
    """What einops makes of these patterns: axes split, put in another order, joined; 1 is an axis of length one."""
    left, right = map(_groups, pattern.split("->"))
    length = dict(sizes)
    for group, n in zip(left, x.shape, strict=True):
        rest = n // math.prod(sizes.get(axis, 1) for axis in group)
        length |= {axis: rest for axis in group if axis not in sizes}
    given, wanted = ([axis for group in groups for axis in group] for groups in (left, right))
    split = x.reshape([length[axis] for axis in given])
    return split.permute([given.index(axis) for axis in wanted]).reshape([_joined(group, length) for group in right])


def _groups(side: str) -> list[list[str]]:
    """The axes of one side, by the axes of the tensor that they make up."""
    groups, inside = [], False
    for word in side.replace("(", " ( ").replace(")", " ) ").split():
        if word in "()":
            inside = word == "("
            groups += [[]] if inside else []
        elif inside:
            groups[-1].append(word)
        else:
            groups.append([] if word == "1" else [word])
    return groups


def _joined(group: list[str], length: dict[str, int]) -> int:
    return math.prod(length[axis] for axis in group)


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class LowRank(nn.Module):
    """What a LoRA adapter adds to a linear map: scale B A x, in the adapter's own precision, as PEFT adds it."""

    def __init__(self, a: Tensor, b: Tensor, scale: float):
        super().__init__()
        self.a, self.b, self.scale = nn.Parameter(a.float(), False), nn.Parameter(b.float(), False), scale

    def forward(self, mapped: Tensor, x: Tensor) -> Tensor:
        added = F.linear(F.linear(x.to(self.a.dtype), self.a), self.b) * self.scale
        return (mapped + added).to(mapped.dtype)


def add_adapter(lm: nn.Module, folder: Path) -> int:
    """Put a PEFT adapter's low-rank maps beside the linear maps of `lm`; return how many.

    The linear maps themselves stay as they are: merged weights would round otherwise, and answers would differ in the
    last digits. Raises ValueError for an adapter that is more than plain LoRA.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    other = {name: config[name] for name, plain in PLAIN_LORA.items() if config.get(name) and config[name] != plain}
    if other:
        raise ValueError(f"{folder}: an adapter with {other}; expected plain LoRA; load it with peft")
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    weights = load_file(folder / "adapter_model.safetensors")
    maps = sorted(name.removesuffix(".lora_A.weight") for name in weights if name.endswith(".lora_A.weight"))
    for name in maps:
        linear = lm.get_submodule(name.removeprefix("base_model.model."))
        low_rank = LowRank(weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"], scale)
        linear.add_module("low_rank", low_rank)
        linear.register_forward_hook(lambda linear, args, mapped: linear.low_rank(mapped, args[0]))
    return len(maps)
