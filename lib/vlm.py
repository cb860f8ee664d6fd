"""The vision-language model: slide encoder -> compressor -> projector -> causal language model.

Or, for latents that a few decoder layers read (LoC-Path-style): slide encoder -> compressor -> reader in the language
model, without a projector's work and without a visual prefix.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from jaxtyping import Float
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from lib.batch import Batch
from lib.compressors.result import Compressed
from lib.latent_reader import LatentReader
from lib.positions import PositionIds, check_positions, placed
from lib.prefix_lm import Prefix, answer_log_probs
from lib.prompts import ChatFormat, Texts
from lib.standardised import StandardisedFeatures

TrainLM = Literal["lora", "full", "none"]


class Projector(nn.Sequential):
    """Two linear maps with a GELU between, from tile features to the language model's embeddings (SlideChat)."""

    def __init__(self, d: int, hidden: int, h: int):
        super().__init__(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, h))


class VLM(StandardisedFeatures):
    """A slide encoder, a compressor and a projector in front of a language model.

    The language model itself is frozen; `let_lm_learn` lets it change. `own_lm`: its weights are this model's own.
    """

    PARTS = ("slide_encoder", "compressor", "projector", "reader", "lm")

    def __init__(
        self,
        lm: nn.Module,
        tokenizer,
        compressor: nn.Module,
        *,
        d: int,
        projector_width: int,
        slide_encoder: nn.Module | None = None,
        reader: LatentReader | None = None,
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
        self.reader = reader
        h = lm.get_input_embeddings().embedding_dim
        self.projector = Projector(d, projector_width, h) if reader is None else None
        self.chat = ChatFormat(tokenizer, template=chat_template, rendered=chat)
        self.lm.requires_grad_(False)
        if reader is not None:
            reader.attach(lm)

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
        """Project a slide's tokens into the language model's embeddings, or let the reader take them up: no prefix."""
        c, h = compressed, self.lm.get_input_embeddings().embedding_dim
        dtype = self.lm.get_input_embeddings().weight.dtype
        if self.reader is not None:
            self.reader.read(self.lm, c.tokens, texts)
            none = c.positions[:, :0]
            return Prefix(
                c.tokens.new_zeros(len(none), 0, h).to(dtype), none.bool(), none, none.sum(-1), self.reader.place
            )
        return Prefix(self.projector(c.tokens).to(dtype), c.mask, c.positions, c.span)

    def count(self, part: str) -> int:
        """Trainable parameters of one of PARTS."""
        module = getattr(self, part)
        return sum(p.numel() for p in module.parameters() if p.requires_grad) if module is not None else 0

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
        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]), without_peft_warnings():
            torch.manual_seed(self.recipe["seed"])
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
