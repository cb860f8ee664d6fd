"""A paper's preset: its values reach the stages, the command line wins, and its model has the published size."""

import re

import pytest
import torch
import typer
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM
from typer.testing import CliRunner

from flows import experiment
from flows.plan.graph import Options, plan
from flows.plan.presets import PRESETS, read_preset, words_for
from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.models.fusion import Projector
from slidesieve.models.longnet import LongNet

QWEN = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.fixture
def planned(monkeypatch, tmp_path):
    """Plan the arguments of a command line instead of running them."""
    caught = {}

    def catch(options: Options):
        caught["options"] = options
        return []

    monkeypatch.setattr(experiment, "plan", catch)
    monkeypatch.setattr(experiment, "conduct", lambda *_, **__: 0)
    app = typer.Typer()
    app.command()(experiment.main)

    def run(*words: str) -> Options:
        required = ["--manifest", "m.csv", "--questions", "q.csv", "--out", "runs/x"]
        result = CliRunner().invoke(app, [*required, *words])
        assert result.exit_code == 0, result.output
        return caught["options"]

    return run


def test_the_papers_options_and_settings(planned):
    options = planned("--preset", "sparselearn")
    assert options.k == (32,) and options.llm == "Qwen/Qwen2.5-7B-Instruct" and not options.alignment
    preset = read_preset("sparselearn")
    assert preset.tiles == ("tile_px=224", "mpp=0.5") and options.encoder == "MahmoodLab/CONCH"
    assert options.settings == (*preset.settings, *preset.tiles)
    other = planned("--preset", "sparselearn", "--encoder", "UNI2-h")  # whose tiles are others
    assert other.settings == preset.settings and other.encoder == "UNI2-h"


def test_the_command_line_wins_over_the_preset(planned):
    options = planned("--preset", "sparselearn", "--k", "16,64", "--alignment", "-p", "50.epochs=1")
    assert options.k == (16, 64) and options.alignment and options.llm == "Qwen/Qwen2.5-7B-Instruct"
    assert options.settings[-1] == "50.epochs=1"
    assert planned("--k", "4").settings == ()


def test_a_preset_that_there_is_not_is_named():
    with pytest.raises(ValueError, match=r"no preset 'sparselern'.*sparselearn"):
        read_preset("sparselern")


PUBLISHED = {  # by preset: values of both stages, slides a step of each, LoRA's rank, both stages' rates of some parts
    "sparselearn": (
        {"gate": "vp", "denoiser": "diagonal", "position_ids": "scaled", "k": 32, "max_tiles": 4096},
        (64, 64),
        64,
        {"lr_slide_encoder": (1e-4, 0)},
    ),
    "tcssa": (
        {"top": 2, "balance": 0.1, "expert_hidden": 512, "k": 32},
        (288, 128),
        64,
        {"lr_compressor": (1e-4, 0), "lr_projector": (1e-3, 0)},
    ),
    "locpath": (
        {"window": 2, "latents": 128, "latent_width": 512, "n_adapters": 4, "adapter_gate": 0, "k": 32},
        (64, 64),
        16,
        {"lr_compressor": (1e-4, 1e-4), "lr_reader": (1e-4, 1e-4)},
    ),
    "slidechat": (
        {"max_tiles": 10_240, "position_ids": "contiguous", "standardise": False, "chat_template": "chatml"}
        | {"slide_encoder": "longnet_released", "projector_width": 3584, "weight_decay": 0, "warmup": 0, "lr_end": 0},
        (64, 64),
        None,
        {"lr_slide_encoder": (1e-3, 2e-5), "epochs": (3, 1)},
    ),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS.glob("*.toml")))
def test_every_setting_reaches_a_real_notebook(name, monkeypatch):
    monkeypatch.setattr("flows.plan.graph.check_options", lambda options: False)
    preset = read_preset(name)
    method = preset.options["compressors"]
    options = Options(
        "m.csv", "q.csv", "runs/x", compressors=(method,), k=(32,), llm="Qwen/Qwen2.5-7B", settings=preset.settings
    )
    stages = {s.id: s.parameters for s in plan(options)}
    tag = "all_s0" if method == "all" else f"{method}_k32_s0"
    first, second = stages[f"40_align_captions/{tag}"], stages[f"50_tune_answers/{tag}"]
    values, together, rank, rates = PUBLISHED[name]
    for stage, slides in zip((first, second), together, strict=True):
        given = stage | stage.get("options", {})
        assert {key: given[key] for key in values} == values
        assert stage["batch"] * stage["accumulate"] == slides
    if rank is None:
        assert second["train_lm"] == "full" and second["lr_lora"] == second["lr_projector"] == 2e-5
        assert first["lr_alignment"] == 1e-3 and stages[f"60_answer_questions/{tag}"]["max_tiles"] == 38_400
    else:
        assert second["lora_rank"] == rank and second["lora_alpha"] == 2 * rank
    assert {rate: (first[rate], second.get(rate, 0)) for rate in rates} == rates
    encoder = {"sparselearn": "longnet", "slidechat": "longnet_released"}.get(name, "none")
    assert stages["40_align_captions/all_s0"]["slide_encoder"] == encoder


@pytest.mark.parametrize(
    ("compressor", "words", "message"),
    [
        ("tcssa:gate=scale", (), "'gate' is neither a parameter .* tcssa has top, routing_noise"),
        ("sparselearn:gate=vpp", (), "sparselearn: gate: got 'vpp'; expected vp or scale or sqrt or gumbel-ste"),
        ("sparselearn:scorer_layers=two", (), "scorer_layers = 'two': expected int"),
        ("sparselearn:gaet=vp", (), "has a parameter 'gaet'; did you mean 'gate'"),
        ("locpath", ("n_adapters=2", "importance=rank"), "importance: got 'rank'; expected question or none"),
        ("locpath", ('options={"k": 3}',), "locpath: no option 'k'; there are window, merge_above"),
        ("locpath", ("top=2",), "locpath has window.*text_only has none"),
    ],
)
def test_an_option_of_no_method_here_is_refused_when_planned(compressor, words, message, monkeypatch):
    monkeypatch.setattr("flows.plan.graph.check_options", lambda options: False)
    options = Options("m.csv", "q.csv", "runs/x", compressors=(compressor,), settings=words, floors=bool(words))
    with pytest.raises(ValueError, match=message):
        plan(options)


def test_an_option_reaches_the_stages_of_its_method_alone(monkeypatch):
    monkeypatch.setattr("flows.plan.graph.check_options", lambda options: False)
    words = ("latents=9", "50.scorer_heads=2", "adapter_layers=1,3")
    asked = ("sparselearn", "sparselearn:gate=scale", "locpath", "tcssa")
    stages = plan(Options("m.csv", "q.csv", "runs/x", compressors=asked, llm="Qwen/Qwen2.5-7B", settings=words))
    given = {s.id: s.parameters["options"] for s in stages if "options" in s.parameters}
    latents = {"latents": 9, "adapter_layers": [1, 3]}
    assert given == {
        "50_tune_answers/sparselearn_k8_s0": {"scorer_heads": 2},
        "40_align_captions/sparselearn-gate-scale_k8_s0": {"gate": "scale"},
        "50_tune_answers/sparselearn-gate-scale_k8_s0": {"scorer_heads": 2, "gate": "scale"},
        **{f"{stage}/locpath_k8_s0": latents for stage in ("40_align_captions", "50_tune_answers")},
        "30_pretrain_resampler/locpath_s0": latents,
    }


def test_of_a_preset_beside_another_method_what_that_knows_is_kept():
    words = ("gate=vp", "40.top=2", "epochs=3", "50.scorer_width=512")
    assert words_for(("tcssa:top=1", "mean"), words) == ("40.top=2", "epochs=3")
    assert words_for(("sparselearn", "tcssa"), words) == words


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_value_of_a_preset_says_where_it_is_from(path):
    for line in path.read_text().splitlines():
        if re.match(r'\s*"?[\w.]+"? *=|\s*"[\w.]+=', line) and not line.startswith(("all", "tiles", "compressors")):
            assert re.search(r"# \[[PSLO]\]", line), line


def test_parameters_of_the_papers_model():
    """The exact table: SlideChat's encoder and projector (methods: 4.2 M and 14.69 M), SparseLearn's module, LoRA."""
    with torch.device("meta"):
        lm = Qwen2ForCausalLM(Qwen2Config(**QWEN))
        base = sum(p.numel() for p in lm.parameters())
        targets = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        lora = get_peft_model(lm, LoraConfig(r=64, lora_alpha=128, **targets))
        module = COMPRESSORS["sparselearn"](512, 32, scorer_layers=2, scorer_width=512, scorer_heads=8)
        counts = {
            "slide encoder": sum(p.numel() for p in LongNet(512).parameters()),
            "scorer": sum(p.numel() for p in module.scorer.parameters()),
            "denoiser": sum(p.numel() for p in module.denoiser.parameters()),
            "projector": sum(p.numel() for p in Projector(512, 3584, 3584).parameters()),
            "lora": sum(p.numel() for p in lora.parameters() if p.requires_grad),
            "language model": base,
        }
    block = 12 * 512**2 + 13 * 512
    assert counts == {
        "slide encoder": 4_212_736,
        "scorer": 2 * block + 2 * 512 + 512 + 1,
        "denoiser": block,
        "projector": 14_687_232,
        "lora": 28 * 64 * (2 * 3584 + 2 * (3584 + 512) + 2 * 3584 + 3 * (3584 + 18_944)),
        "language model": 7_615_616_512,
    }
