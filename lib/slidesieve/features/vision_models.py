"""Any `transformers` vision model as an encoder: the right feature of a tile, or a refusal when it is loaded.

Of a two-tower model (CLIP, SigLIP, PLIP) the vision tower is taken. A masked autoencoder sees every patch. `cls` is for
models that have a class token; of others it would be the corner patch. `cls_mean` joins it with the mean of the
patches, registers left out. What these rules miss, a probe finds: fixed tiles are encoded twice, alone and in company,
and with one corner changed. A timm model must have every weight of its file, and no other.
"""

import hashlib
import inspect
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from slidesieve.features.known_encoders import known
from slidesieve.features.tile_batches import Features, Tiles, batches_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
POOLINGS = ("cls", "mean", "cls_mean", "pooler")
CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")  # how models name the parameter
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}  # of a feature's length, between two ways of having it
HEADS = ("head.", "fc.", "classifier.")  # of a timm classifier, which a feature does without
CORNER = 8  # a corner's side is a tile's over this


class TransformersEncoder:
    """Any vision model that AutoModel loads, with its own image processor on PIL (never torchvision's)."""

    needs_fit = False

    def __init__(self, name_or_path: str, *, device: str, batch_tiles: int, pooling: str, dtype: str = "float32"):
        if pooling not in POOLINGS:
            raise ValueError(f"pooling: got {pooling!r}, expected one of {', '.join(POOLINGS)}")
        if dtype not in DTYPES:
            raise ValueError(f"dtype of the encoder: got {dtype!r}, expected one of {', '.join(DTYPES)}")
        from transformers import AutoImageProcessor

        self.name, self.device, self.batch_tiles, self.pooling = name_or_path, device, batch_tiles, pooling
        self._processor = AutoImageProcessor.from_pretrained(name_or_path, backend="pil")
        self._model = _vision_model(name_or_path, DTYPES[dtype]).eval().to(device)
        self._how = _of_masked_autoencoder(self._model)
        names = {name.rpartition(".")[2] for name, _ in self._model.named_parameters()}
        self._has_cls = bool(names & set(CLASS_TOKENS))
        registers = getattr(self._model.config, "num_register_tokens", 0) or 0
        special = self._has_cls + registers + ("distillation_token" in names)
        self._special = getattr(getattr(self._model, "timm_model", None), "num_prefix_tokens", special)
        if pooling in ("cls", "cls_mean") and not self._has_cls:
            raise ValueError(
                f"{self.name}: has no class token: cls would be its first patch, the tile's corner; set pooling to "
                "'mean' or 'pooler'"
            )
        self.tile_px = _side(self._processor)
        self._values = _values_of_pixels(self._processor, self.tile_px)
        self.d = self._probed(TOLERANCE[dtype])

    def encode(self, tiles: Tiles) -> Features:
        """Run the model in evaluation mode."""
        if len(tiles) == 0:
            return np.empty((0, self.d), np.float32)
        parts = [self.encode_prepared(self.prepare(batch)) for batch in batches_of(tiles, self.batch_tiles)]
        return np.concatenate(parts)

    def prepare(self, tiles: Tiles) -> Tensor:
        """Resize, crop and normalise a batch as the model's own processor does: about 2 ms of a CPU a tile.

        Tiles of the model's own side are handed on as they are (n h w 3), where they only want the values of a table.
        """
        if self._values is not None and tiles.shape[1:3] == (self.tile_px, self.tile_px):
            return torch.from_numpy(np.ascontiguousarray(tiles))
        return self._processor(images=list(tiles), return_tensors="pt")["pixel_values"]

    @torch.inference_mode()
    def encode_prepared(self, prepared: Tensor) -> Features:
        """Run the model on a batch that is prepared."""
        pixels = prepared.to(self.device)
        if pixels.dtype == torch.uint8:
            pixels = _looked_up(pixels, self._values.to(self.device))
        out = self._model(pixel_values=pixels.to(self._model.dtype), **self._how(len(pixels)))
        return self._pooled(out).float().cpu().numpy()

    @property
    def state_hash(self) -> str:
        """Hash of the weights, in the order of their names."""
        digest = hashlib.sha256()
        for name, weight in sorted(self._model.state_dict().items()):
            digest.update(name.encode() + weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _pooled(self, out) -> Float[Tensor, "n d"]:
        hidden = out.last_hidden_state
        if self.pooling == "pooler":
            if getattr(out, "pooler_output", None) is None:
                raise ValueError(f"{self.name}: has no pooler output; set pooling to 'cls' or 'mean'")
            if out.pooler_output.ndim == 3:
                raise ValueError(
                    f"{self.name}: its pooler gives tokens; set pooling to another of {', '.join(POOLINGS)}"
                )
            return out.pooler_output.flatten(1)
        if hidden.ndim != 3:
            raise ValueError(f"{self.name}: its output is {tuple(hidden.shape)}, not tokens; set pooling to 'pooler'")
        cls, mean = hidden[:, 0], hidden[:, self._special :].mean(1)
        return {"cls": cls, "mean": mean, "cls_mean": torch.cat([cls, mean], 1)}[self.pooling]

    def _probed(self, tolerance: float) -> int:
        """Encode fixed tiles in ways that must agree, and return the width. Raises ValueError where they do not."""
        side = self.tile_px or 224
        tiles = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
        corner = slice(max(1, side // CORNER))
        tiles[2:] = tiles[0]
        tiles[2, corner, corner] = 255 - tiles[2, corner, corner]  # the corner changed
        tiles[3] = 255 - tiles[3]
        tiles[3, corner, corner] = tiles[0, corner, corner]  # all but the corner
        together, again = self.encode(tiles), self.encode(tiles)
        alone = np.concatenate([self.encode(tile[None]) for tile in tiles])
        size = np.linalg.norm(together, axis=1).max()
        if not np.isfinite(together).all() or size == 0:
            raise ValueError(f"{self.name}: features of a fixed tile are {together[0, :3]} ...; expected numbers")
        for other, what in ((again, "when it is asked again"), (alone, "alone and in company")):
            gap = np.abs(together - other).max() / size
            if gap > tolerance:
                raise ValueError(
                    f"{self.name}: one tile has two features {what}, {gap:.2g} of their length apart; expected one and "
                    "the same: its forward pass draws at random, or looks at other tiles; take another model"
                )
        of_corner, of_rest = (np.linalg.norm(together[0] - together[i]) for i in (2, 3))
        if of_corner > of_rest:
            raise ValueError(
                f"{self.name}: its {self.pooling} follows the tile's corner ({of_corner / size:.2f} of its length) "
                f"more than all the rest ({of_rest / size:.2f}); set pooling to another of {', '.join(POOLINGS)}"
            )
        return together.shape[1]


def _values_of_pixels(processor: object, side: int | None) -> Float[Tensor, "3 256"] | None:
    """What a processor makes of each of a pixel's 256 values, channel by channel, where it does nothing else to a tile.

    That is tried on a tile drawn at random, to the last bit; None where it is otherwise, as where it resizes.
    """
    if side is None or side * side < 256:
        return None
    tiles = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    tiles[0].reshape(-1, 3)[:256] = np.arange(256)[:, None]
    made = processor(images=list(tiles), return_tensors="pt")["pixel_values"]
    if made.shape != (2, 3, side, side) or made.dtype != torch.float32:
        return None
    values = made[0].reshape(3, -1)[:, :256].clone()
    return values if torch.equal(_looked_up(torch.from_numpy(tiles), values), made) else None


def _looked_up(tiles: UInt8[Tensor, "n h w 3"], values: Float[Tensor, "3 256"]) -> Float[Tensor, "n 3 h w"]:
    return torch.stack([values[channel][tiles[..., channel].long()] for channel in range(3)], 1)


def _vision_model(name_or_path: str, dtype: torch.dtype) -> nn.Module:
    """The model, or the vision tower of a two-tower one."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(name_or_path)
    if config.model_type == "timm_wrapper":
        return _timm_model(name_or_path, config, dtype)
    model = AutoModel.from_pretrained(name_or_path, dtype=dtype)
    tower = getattr(model, "vision_model", None)
    if getattr(model.config, "vision_config", None) is not None and tower is None:
        raise ValueError(
            f"{name_or_path}: a {model.config.model_type} of several parts without a vision_model; expected a vision "
            "model; save its vision tower alone"
        )
    return model if tower is None or getattr(model.config, "vision_config", None) is None else tower


def _timm_model(name_or_path: str, config, dtype: torch.dtype) -> nn.Module:
    """A timm model with every weight of its file; what its config cannot say is told by its name."""
    from transformers import AutoModel

    if (found := known(name_or_path)) and found.swiglu:
        swiglu = {"mlp_layer": import_module("timm.layers").SwiGLUPacked, "act_layer": nn.SiLU}
        config.model_args = (config.model_args or {}) | swiglu
    try:
        model, told = AutoModel.from_pretrained(name_or_path, config=config, dtype=dtype, output_loading_info=True)
        amiss = sorted({*told["missing_keys"], *told["unexpected_keys"]})
    except RuntimeError as error:
        raise ValueError(_misfit(name_or_path, "weights of other shapes")) from error
    if amiss := [name for name in amiss if not name.removeprefix("timm_model.").startswith(HEADS)]:
        raise ValueError(_misfit(name_or_path, f"{len(amiss)} weights missing or left over, {amiss[0]} among them"))
    return model


def _misfit(name: str, got: str) -> str:
    return (
        f"{name}: its config.json does not describe its weights: {got}; expected every weight in its place; correct "
        "model_args there, or make its features elsewhere and name them in the manifest's feature_path"
    )


def _of_masked_autoencoder(model: nn.Module):
    """What the forward pass is told besides: of a masked autoencoder that no patch is masked, or moved."""
    if "noise" not in inspect.signature(model.forward).parameters:
        return lambda n: {}
    model.config.mask_ratio = 0.0
    embeddings = getattr(model, "embeddings", None)
    if hasattr(getattr(embeddings, "config", None), "mask_ratio"):
        embeddings.config.mask_ratio = 0.0
    patches = embeddings.patch_embeddings.num_patches
    return lambda n: {"noise": torch.arange(patches, dtype=torch.float32, device=model.device).expand(n, -1)}


def _side(processor: object) -> int | None:
    """Read the side of the image a processor makes, or None if it makes none in particular."""
    if data := getattr(processor, "data_config", None):  # timm's
        return data["input_size"][-1]
    size = getattr(processor, "crop_size", None) if getattr(processor, "do_center_crop", False) else None
    size = dict(size or getattr(processor, "size", None) or {})
    return size.get("height") or size.get("shortest_edge")
