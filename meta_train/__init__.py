"""Meta-train optimizers and evaluate them, from Python; the command line is `learned-opt`.

Nothing is imported before it is used, so that `learned-opt --help` starts without JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meta_train.config.model import Config as Config
    from meta_train.estimators import (
        PES as PES,
        BackpropES as BackpropES,
        FullBackprop as FullBackprop,
        FullES as FullES,
        PESBackprop as PESBackprop,
        TruncatedBackprop as TruncatedBackprop,
        TruncatedES as TruncatedES,
    )
    from meta_train.evaluation.entries import Entry as Entry, chosen_entries as chosen_entries
    from meta_train.evaluation.evaluate import evaluate as evaluate
    from meta_train.evaluation.results import Report as Report
    from meta_train.evaluation.tune import tune as tune
    from meta_train.inner.horizons import (
        Exponential as Exponential,
        Fixed as Fixed,
        LogUniform as LogUniform,
    )
    from meta_train.inner.objectives import (
        FinalLoss as FinalLoss,
        LogLoss as LogLoss,
        MeanLoss as MeanLoss,
    )
    from meta_train.inner.unroll import Episodes as Episodes
    from meta_train.learners.gradient import GradientLearner as GradientLearner
    from meta_train.run.job import train as train

_PLACES = {
    "meta_train.config.model": ("Config",),
    "meta_train.estimators": (
        "PES",
        "BackpropES",
        "FullBackprop",
        "FullES",
        "PESBackprop",
        "TruncatedBackprop",
        "TruncatedES",
    ),
    "meta_train.evaluation.entries": ("Entry", "chosen_entries"),
    "meta_train.evaluation.evaluate": ("evaluate",),
    "meta_train.evaluation.results": ("Report",),
    "meta_train.evaluation.tune": ("tune",),
    "meta_train.inner.horizons": ("Exponential", "Fixed", "LogUniform"),
    "meta_train.inner.objectives": ("FinalLoss", "LogLoss", "MeanLoss"),
    "meta_train.inner.unroll": ("Episodes",),
    "meta_train.learners.gradient": ("GradientLearner",),
    "meta_train.run.job": ("train",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
