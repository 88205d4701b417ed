"""The config.gin that google/learned_optimization keeps beside its weights."""

import ast
import re
from pathlib import Path
from typing import Any

from learned_opt.locate import WeightsError

NAME = "config.gin"
_BINDING = re.compile(r"^\s*(?:[\w.]+\.)?HyperV2\.(\w+)\s*=\s*(.+?)\s*$")

# What HyperV2 is without a binding, and here always.
_FIXED: dict[str, Any] = {
    "ff_hidden_layers": 2,
    "initial_momentum_decays": (0.9, 0.99, 0.999),
    "initial_rms_decays": (0.999,),
    "initial_adafactor_decays": (0.9, 0.99, 0.999),
    "mix_layers": True,
    "adafactor_accumulator": True,
    "precondition_output": False,
    "rnn_state_decay": 0.0,
    "constant_loss": False,
}
_FEATURES = """
    g m m_feat rms rms_feat rms_norm_g rsqrt_rms p fac_norm_g fac_rms fac_rsqrt grad_clip_feat
    fac_mom_mult rms_only_norm_g
"""
_FIXED |= {f"with_{name}": True for name in _FEATURES.split()}
# What says nothing about the rule: the first has no effect, the others ask for summaries.
_UNREAD = {"reparam_decay", "summarize_each_layer", "summarize_all_control"}
# The constructor's default, and the field of this package's rule.
_CHOICES: dict[str, tuple[Any, str]] = {
    "lstm_hidden_size": (128, "hidden"),
    "param_inits": (64, "banks"),
    "ff_hidden_size": (4, "units"),
    "exp_mult": (0.001, "exp_mult"),
    "step_mult": (0.001, "step_mult"),
    "param_scale_mult": (True, "param_scale_mult"),
    "clip_param_scale_amount": (None, "clip_param_scale_amount"),
    "use_bugged_loss_features": (True, "use_bugged_loss_features"),
    "use_bugged_next_lstm_state": (False, "use_bugged_next_lstm_state"),
}
_VALIDATION = ("with_validation_feature_dim", "validation_mode")


def choices(path: Path) -> dict[str, Any]:
    """The fields of `Velo` that a config.gin sets, constructor defaults for what it leaves out.

    Only bindings of HyperV2 are read. Raises WeightsError with every one that is not a plain value,
    not known, or not to be had here.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: cannot be read as text: {error}") from None
    bound, problems = _bindings(text)
    known = {*_FIXED, *_UNREAD, *_CHOICES, *_VALIDATION}
    for name, value in bound.items():
        if name not in known:
            problems.append(f"HyperV2.{name}: not a choice of HyperV2 that is known here")
        elif name in _FIXED and _plain(value) != _FIXED[name]:
            problems.append(f"HyperV2.{name} = {value!r}: only {_FIXED[name]!r} can be had here")
    if problems:
        raise WeightsError(f"{path}: " + "; ".join(problems))
    if not bound:
        raise WeightsError(f"{path}: binds nothing of HyperV2, so this is no config of VeLO")
    found = {field: bound.get(name, default) for name, (default, field) in _CHOICES.items()}
    with_flag = bound.get("with_validation_feature_dim", False)
    flag = bool(bound.get("validation_mode", False)) if with_flag else None
    return found | {"validation_flag": flag}


def _bindings(text: str) -> tuple[dict[str, Any], list[str]]:
    """The values of HyperV2 by name; lines end in a backslash where they go on."""
    bound: dict[str, Any] = {}
    problems: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        if match := _BINDING.match(line):
            try:
                bound[match[1]] = ast.literal_eval(match[2])
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                problems.append(f"HyperV2.{match[1]} = {match[2]}: not a plain value")
    return bound, problems


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
