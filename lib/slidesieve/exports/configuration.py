"""The config of a published model: how it is built, and how it was asked when it was scored."""

from transformers import PreTrainedConfig


class SlideSieveConfig(PreTrainedConfig):
    """What `config.json` says.

    `model`: what `build_vlm` takes, the language model's name and fingerprint among it (`lm`). `own_lm`: whether the
    folder holds the language model as this model tuned it. `asking`: `answer_form`, `rotations`, `max_tiles`, `dtype`.
    """

    model_type = "slidesieve"
