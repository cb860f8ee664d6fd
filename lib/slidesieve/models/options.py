"""What a compressor lets be chosen: its options by name, type and allowed words, checked before anything is built."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Literal, NamedTuple, get_args, get_origin, get_type_hints

from torch import nn

from slidesieve.compressors.registry import COMPRESSORS
from slidesieve.models.fusion import fusion_of
from slidesieve.provenance.parameters import fits


class Option(NamedTuple):
    """A keyword of a compressor, or of what reads it: the type of its value, its default, the words that it may be."""

    name: str
    type: str  # as the parameters of a notebook are typed
    default: object
    words: tuple[str, ...] = ()


def options_of(made: type[nn.Module]) -> dict[str, Option]:
    """The options of a compressor, or of what reads it: its keyword-only arguments but the seed."""
    hints = get_type_hints(made.__init__)
    given = [p for p in signature(made).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name != "seed"]
    return {p.name: _option(p.name, hints[p.name], p.default) for p in given}


def all_options_of(compressor: str) -> dict[str, Option]:
    """The options of a compressor by its name, and of the fusion that carries its tokens."""
    made = COMPRESSORS[compressor]
    return options_of(made) | options_of(fusion_of(made))


def own_options(made: type[nn.Module], options: Mapping[str, object]) -> dict[str, object]:
    """Those of the options that a class knows."""
    known = options_of(made)
    return {name: value for name, value in options.items() if name in known}


def defaults_of(compressor: str) -> dict[str, object]:
    """The options' defaults; None where the width of the features decides."""
    return {name: option.default for name, option in all_options_of(compressor).items()}


def check_options(known: Mapping[str, Option], given: Mapping[str, object], *, of: str) -> None:
    """Raise ValueError listing options that a compressor does not have, and values that they may not take."""
    faults = []
    for name, value in given.items():
        if name not in known:
            faults.append(f"no option {name!r}; there {_are(known)}")
        elif known[name].words and value not in known[name].words:
            faults.append(f"{name}: got {value!r}; expected {' or '.join(known[name].words)}")
        elif not known[name].words and not fits(value, known[name].type):
            faults.append(f"{name}: got {value!r}; expected {known[name].type}")
    if faults:
        raise ValueError(f"{of}: " + "; ".join(faults))


def _are(known: Mapping[str, Option]) -> str:
    return f"are {', '.join(known)}" if known else "are none"


def _option(name: str, hint: object, default: object) -> Option:
    if get_origin(hint) is Literal:
        return Option(name, "str", default, get_args(hint))
    if get_origin(hint) is Sequence:
        return Option(name, f"list[{get_args(hint)[0].__name__}]", list(default))
    plain = next((each for each in get_args(hint) if each is not type(None)), hint)
    return Option(name, plain.__name__, default)
