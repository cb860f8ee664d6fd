"""Sizes and options of small models around the language model of `lm_folder` (conftest)."""

D, K = 33, 7
LOCPATH = {"latents": 9, "latent_width": 16, "resampler_heads": 2, "resampler_blocks": 1, "n_adapters": 2}
LOCPATH |= {"adapter_width": 12, "adapter_heads": 3, "adapter_gate": 0.5}
SCORER = {"scorer_heads": 3, "scorer_width": 12}
OPTIONS = {"sparselearn": SCORER, "sieve": SCORER, "locpath": LOCPATH, "cropr": {"query_heads": 3}}
