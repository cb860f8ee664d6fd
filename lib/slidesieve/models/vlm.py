"""The vision-language model: slide encoder -> compressor -> fusion -> causal language model.

The fusion carries tokens into the language model: a projector in front of it, or for latents (LoC-Path-style) a reader
inside it (`fusion`).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from slidesieve.compressors.result import Compressed
from slidesieve.features.bag import Batch
from slidesieve.features.standardised import StandardisedFeatures
from slidesieve.models.chat import ChatFormat, Texts
from slidesieve.models.fusion import Fusion
from slidesieve.models.positions import PositionIds, check_positions, placed
from slidesieve.models.prefix_lm import Prefix, answer_log_probs

TrainLM = Literal["lora", "full", "none"]


class VLM(StandardisedFeatures):
    """A slide encoder, a compressor and a fusion with a language model.

    The language model itself is frozen; `let_lm_learn` lets it change. `own_lm`: its weights are this model's own.
    """

    def __init__(
        self,
        lm: nn.Module,
        tokenizer,
        compressor: nn.Module,
        fusion: Fusion,
        *,
        d: int,
        slide_encoder: nn.Module | None = None,
        chat_template: str = "own",
        position_ids: PositionIds = "original",
        position_span: int = 4096,
        standardise: bool = True,
        chat: dict[str, str] | None = None,
    ):
        super().__init__(d, standardise=standardise)
        check_positions(position_ids, position_span)
        self.position_ids, self.position_span, self.own_lm = position_ids, position_span, False
        self.lm, self.tokenizer, self.compressor = lm, tokenizer, compressor
        self.slide_encoder = slide_encoder
        for name, part in fusion.parts().items():
            self.add_module(name, part)
        self.__dict__["fusion"] = fusion  # its parts are this model's own, under their own names
        self.chat = ChatFormat(tokenizer, template=chat_template, rendered=chat)
        self.lm.requires_grad_(False)
        fusion.attach(lm)

    def compress(self, batch: Batch, generator: torch.Generator | None = None) -> Compressed:
        """The slide's tokens, at the positions that they claim in the language model."""
        compressed = self.compressor(self.encode(batch), batch.coords, batch.mask, generator)
        return placed(compressed, batch, position_ids=self.position_ids, span=self.position_span)

    def encode(self, batch: Batch) -> Float[Tensor, "b n d"]:
        """Tiles as the compressor gets them: normalised and, where there is a slide encoder, encoded."""
        x = self.normalise(batch)
        return self.slide_encoder(x, batch.mask) if self.slide_encoder is not None else x

    def log_probs(self, compressed: Compressed, texts: Texts) -> Float[Tensor, "b t"]:
        """Log-probability of each answer token given the slide and its own prompt; 0 elsewhere."""
        return answer_log_probs(self.lm, self.chat.head, self.prefix(compressed, texts), texts)

    def prefix(self, compressed: Compressed, texts: Texts) -> Prefix:
        """Hand a slide's tokens over to the language model, for the texts that follow."""
        return self.fusion.feed(self.lm, compressed, texts)

    def trainable(self) -> dict[str, int]:
        """Trainable parameters of each part, by the names of their learning rates."""
        parts = {name: part for name, part in self.named_children() if any(True for _ in part.parameters())}
        return {name: sum(p.numel() for p in part.parameters() if p.requires_grad) for name, part in parts.items()}

    def forward(
        self, batch: Batch, texts: Texts, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, ""]]:
        """Log-probabilities of the answers' tokens, and the compressor's own loss."""
        compressed = self.compress(batch, generator)
        return self.log_probs(compressed, texts), compressed.aux_loss

    def let_lm_learn(self, how: TrainLM, *, rank: int, alpha: int, dropout: float) -> None:
        """Give the language model low-rank adapters (none at rank 0), or let all its weights change, or leave it as is.

        All weights are then kept in float32: steps of a fine-tuning are smaller than what bfloat16 can tell apart.
        """
        if how not in get_args(TrainLM):
            raise ValueError(f"train_lm: got {how!r}; expected one of {get_args(TrainLM)}")
        if how == "full":
            self.lm.float().requires_grad_(True)
            self.own_lm = True
        elif how == "lora" and rank:
            if self.own_lm:
                raise ValueError("train_lm: got lora on a language model that was tuned in full; expected full or none")
            self.add_lora(rank=rank, alpha=alpha, dropout=dropout)

    def add_lora(self, *, rank: int, alpha: int, dropout: float) -> None:
        """Put low-rank adapters on every linear map of the language model's blocks."""
        from peft import LoraConfig, get_peft_model  # seconds to import, and needed by few processes

        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]), without_peft_warnings():
            torch.manual_seed(self.config["seed"])
            self.lm = get_peft_model(self.lm, config)

    def ours(self) -> dict[str, Tensor]:
        """State of everything but the language model."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("lm.")}


@contextmanager
def without_peft_warnings() -> Iterator[None]:
    """peft asks a model for attributes by their former names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
