"""Learned optimizers for JAX: load one into an optax loop, or read one to meta-train it further."""

from importlib.metadata import version as _version

from learned_opt import loss_side as loss_side, mup as mup
from learned_opt.base import (
    EvalPoint as EvalPoint,
    LearnedOptimizer as LearnedOptimizer,
    eval_params as eval_params,
)
from learned_opt.controller.facade import controller as controller
from learned_opt.controller.schedule import replay as replay, schedules as schedules
from learned_opt.hand.spec import HandDesigned as HandDesigned
from learned_opt.io import card as card, read as read, write as write
from learned_opt.locate import WeightsError as WeightsError, packaged as packaged
from learned_opt.monitoring.record import record as record, records as records
from learned_opt.registry import (
    HAND_DESIGNED as HAND_DESIGNED,
    LEARNED as LEARNED,
    inject as inject,
    make as make,
)
from learned_opt.use import load as load

__version__ = _version("learned-opt")
