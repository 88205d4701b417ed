"""The kinds of published weights that can be read, and what is to be said of each."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learned_opt.learned.celo import Celo
from learned_opt.learned.celo2 import PRESETS as CELO2_PRESETS
from learned_opt.learned.celo_adam import CeloAdam
from learned_opt.learned.small_fc import SmallFC
from learned_opt.learned.velo import Velo
from learned_opt.locate import WeightsError
from learned_opt.spec import build_rule
from meta_train.published import gin_config
from meta_train.published.container import Published
from meta_train.published.layouts import NETWORK, Layout, Leaves, controller, network, size

CELO = "https://github.com/amoudgl/celo"
CELO2 = "https://github.com/amoudgl/celo2"
GOOGLE = "https://github.com/google/learned_optimization"
TIME_AND_LOSS = 18  # inputs of a schedule's LSTM
VELO_INPUTS = 30


class Format(NamedTuple):
    """A kind of published weights.

    layout: of a file that has these leaves, for choices given on the command line. source, licence:
    of all such files; empty where several projects publish them. notes: what a user must know.
    """

    layout: Callable[[Published, dict[str, Any]], Layout]
    source: str
    licence: str
    notes: tuple[str, ...]


def velo(file: Published, chosen: dict[str, Any]) -> Layout:
    """chosen: fields of `Velo`, and `config`, the path of a config.gin or None.

    Raises WeightsError where a config or a choice asks for a rule that cannot be.
    """
    chosen = dict(chosen)
    config = chosen.pop("config", None)
    beside = file.path.parent / gin_config.NAME
    if config is None and file.checkpoint and beside.is_file():
        config = beside
    found = file.leaves
    fields: dict[str, Any] = {
        "hidden": size(found, "lstm_init_state/hidden", -1, 512),
        "banks": size(found, f"{NETWORK}/b0", 0, 256),
        "units": size(found, f"{NETWORK}/b0", -1, 4),
    }
    if size(found, "rnn_params/linear_1/w", 0, VELO_INPUTS) == VELO_INPUTS + 1:
        fields["validation_flag"] = False
    if file.old:
        fields |= {"use_bugged_loss_features": True, "use_bugged_next_lstm_state": True}
    if config is not None:
        fields |= gin_config.choices(Path(config))
    try:
        rule = build_rule(Velo, fields | chosen)
    except ValueError as error:
        raise WeightsError(f"{config or file.path}: {error}") from None
    inputs = VELO_INPUTS + (rule.validation_flag is not None)
    lstm = controller("controller/", inputs, rule.hidden, rule.banks)
    return Layout(rule, lstm | network("bank/", rule.units, rule.banks))


def celo(file: Published, chosen: dict[str, Any]) -> Layout:
    hidden = size(file.leaves, "lstm_init_state/hidden", -1, 64)
    rule = Celo(hidden=hidden, units=size(file.leaves, f"{NETWORK}/b0", -1, 4), **chosen)
    schedule = controller("scheduler/", TIME_AND_LOSS, hidden, 1)
    return Layout(rule, schedule | network("network/", rule.units, 1))


def celo_adam(file: Published, chosen: dict[str, Any]) -> Layout:
    hidden = size(file.leaves, "lstm_init_state/hidden", -1, 64)
    return Layout(CeloAdam(hidden=hidden, **chosen), controller("", TIME_AND_LOSS, hidden, 0))


def celo2(file: Published, chosen: dict[str, Any]) -> Layout:
    """chosen: `base` where these are weights of Celo2-base."""
    preset = CELO2_PRESETS["base" if chosen.get("base") else "orthogonal"]
    hidden = size(file.leaves, f"{NETWORK}/b0", -1, preset.hidden)
    return Layout(dataclasses.replace(preset, hidden=hidden), network("", hidden))


def small_fc(file: Published, chosen: dict[str, Any]) -> Layout:
    inputs, layer = 39, "nn/~"
    hidden = size(file.leaves, f"{layer}/b0", -1, 4)
    sizes = (inputs, hidden, hidden, 2)
    leaves: Leaves = {
        "momentum_offset": {"momentum_decays": (3,)},
        "square_offset": {"rms_decays": (1,)},
        "factored_offset": {"adafactor_decays": (3,)},
    }
    for i in range(3):
        leaves[f"w{i}"] = {f"{layer}/w{i}": sizes[i : i + 2]}
        leaves[f"b{i}"] = {f"{layer}/b{i}": sizes[i + 1 : i + 2]}
    return Layout(SmallFC(hidden=hidden, **chosen), leaves)


_NEEDS_LOSS = "update needs value=, the training loss, and load needs num_steps"
_BARE_ROOT = "entries of tensors without two axes divide by a root to which nothing is added"
FORMATS: Mapping[str, Format] = {
    "velo": Format(
        velo,
        GOOGLE,
        "Apache-2.0",
        (
            _NEEDS_LOSS,
            "trained for at most 200,000 updates; its authors average gradients beyond 150,000",
            "kept as trained: the variance of the squares is taken about the mean of the momenta",
            f"kept as trained: {_BARE_ROOT}",
        ),
    ),
    "celo": Format(celo, CELO, "MIT", (_NEEDS_LOSS, f"kept as trained: {_BARE_ROOT}")),
    "celo_adam": Format(celo_adam, CELO, "MIT", (_NEEDS_LOSS,)),
    "celo2": Format(
        celo2,
        CELO2,
        "MIT",
        ("its rate is constant unless one is given; its authors use a cosine after a warm-up",),
    ),
    "small_fc": Format(small_fc, "", "", ("gradients beyond 1000 are clipped, unlike there",)),
}
