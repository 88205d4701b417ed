"""Adam and its relatives, from optax: a momentum over the root of a second moment."""

from typing import Any

import jax.numpy as jnp
import optax

from learned_opt.hand.assemble import Direction, Whole
from learned_opt.hand.hyperparameters import Hyperparameter, Scalar
from learned_opt.hand.parts.base import check_count
from learned_opt.hand.running_adam import scale_by_running_adam
from learned_opt.hand.spec import HandDesigned
from learned_opt.naming import check_name

DEBIAS = {"count": optax.scale_by_adam, "running": scale_by_running_adam}
_SMALL_EPS = tuple((name, Hyperparameter("log", 1e-16, 1e-4)) for name in ("eps", "eps_root"))


def _adam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    debias: str = "count",
):
    """debias: `running` where b1 and b2 change during a run; see running_adam."""
    check_name("debias", debias, DEBIAS)
    return DEBIAS[debias](b1, b2, eps, eps_root)


def _nadam(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, eps_root: Scalar = 0.0):
    return optax.scale_by_adam(b1, b2, eps, eps_root, nesterov=True)


def _radam(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    threshold: Scalar = 5.0,
):
    return optax.scale_by_radam(b1, b2, eps, eps_root, threshold)


def _amsgrad(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8, eps_root: Scalar = 0.0):
    return optax.scale_by_amsgrad(b1, b2, eps, eps_root)


def _adabelief(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16, eps_root: Scalar = 1e-16):
    return optax.scale_by_belief(b1, b2, eps, eps_root)


def _acprop(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-16, eps_root: Scalar = 1e-16):
    return optax.contrib.scale_by_acprop(b1, b2, eps, eps_root)


def _adamax(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-8):
    return optax.scale_by_adamax(b1, b2, eps)


def _yogi(b1: Scalar = 0.9, b2: Scalar = 0.999, eps: Scalar = 1e-3):
    return optax.scale_by_yogi(b1, b2, eps)


def _novograd(
    learning_rate: Any,
    b1: Scalar = 0.9,
    b2: Scalar = 0.25,
    eps: Scalar = 1e-6,
    weight_decay: Scalar = 0.0,
):
    return optax.novograd(learning_rate, b1, b2, eps, weight_decay=weight_decay)


def _adopt(b1: Scalar = 0.9, b2: Scalar = 0.9999, eps: Scalar = 1e-6, nesterov: bool = False):
    return optax.contrib.scale_by_adopt(b1, b2, eps, nesterov=nesterov)


def _ademamix(
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 5.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
    warmup_steps: int = 0,
):
    """warmup_steps: over which alpha grows from 0, and b3 from b1 linearly in its half-life."""
    if not warmup_steps:
        return optax.contrib.scale_by_ademamix(b1, b2, b3, alpha, eps, eps_root)
    check_count("warmup_steps", warmup_steps)

    def grown(count: Any) -> Any:
        return jnp.minimum(1.0, (count + 1.0) / warmup_steps)

    def half_life(b: Any) -> Any:
        return jnp.log(0.5) / jnp.log(b) - 1.0

    def slow(count: Any) -> Any:
        length = (1.0 - grown(count)) * half_life(b1) + grown(count) * half_life(b3)
        return jnp.exp2(-1.0 / (length + 1.0))

    return optax.contrib.scale_by_ademamix(
        b1, b2, slow, lambda count: grown(count) * alpha, eps, eps_root
    )


def _simplified_ademamix(
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    alpha: Scalar = 0.0,
    eps: Scalar = 1e-8,
    eps_root: Scalar = 0.0,
):
    return optax.contrib.scale_by_simplified_ademamix(b1, b2, alpha, eps, eps_root)


ENTRIES = (
    HandDesigned(
        "adam",
        Direction(_adam),
        1e-3,
        source="arXiv:1412.6980",
        formula="u = m_hat / (sqrt(v_hat + eps_root) + eps)",
    ),
    HandDesigned(
        "adamw",
        Direction(_adam, weight_decay=1e-4),
        1e-3,
        source="arXiv:1711.05101",
        formula="adam, w <- w - rate * (u + weight_decay * w)",
        needs=("params",),
    ),
    HandDesigned(
        "nadam",
        Direction(_nadam),
        1e-3,
        source="Dozat 2016",
        formula="adam with m_hat = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t)",
    ),
    HandDesigned(
        "nadamw",
        Direction(_nadam, weight_decay=1e-4),
        1e-3,
        source="Dozat 2016, arXiv:1711.05101",
        formula="nadam, w <- w - rate * (u + weight_decay * w)",
        needs=("params",),
    ),
    HandDesigned(
        "radam",
        Direction(_radam),
        1e-3,
        source="arXiv:1908.03265",
        formula="u = r_t m_hat / (sqrt(v_hat) + eps), or m_hat while v is known too badly",
        ranges=(("threshold", Hyperparameter("linear", 4.0, 8.0, least=4.0)),),
    ),
    HandDesigned(
        "amsgrad",
        Direction(_amsgrad),
        1e-3,
        source="Reddi et al. 2018",
        formula="adam with the largest v_hat so far",
    ),
    HandDesigned(
        "adabelief",
        Direction(_adabelief),
        1e-3,
        source="arXiv:2010.07468",
        formula="adam with s = EMA((g - m)^2; b2) + eps_root in place of v",
        ranges=_SMALL_EPS,
    ),
    HandDesigned(
        "acprop",
        Direction(_acprop),
        1e-3,
        source="arXiv:2110.05454",
        formula="u = m / (sqrt(s_hat of the step before) + eps), s = EMA((g - m_before)^2; b2)",
        ranges=_SMALL_EPS,
    ),
    HandDesigned(
        "adamax",
        Direction(_adamax),
        1e-3,
        source="arXiv:1412.6980",
        formula="u = m_hat / n, n = max(|g| + eps, b2 n)",
    ),
    HandDesigned(
        "adamaxw",
        Direction(_adamax, weight_decay=1e-4),
        1e-3,
        source="arXiv:1412.6980, arXiv:1711.05101",
        formula="adamax, w <- w - rate * (u + weight_decay * w)",
        needs=("params",),
    ),
    HandDesigned(
        "yogi",
        Direction(_yogi),
        1e-2,
        source="Zaheer et al. 2018",
        formula="adam with v <- v - (1 - b2) sign(v - g^2) g^2, m and v from 1e-6",
    ),
    HandDesigned(
        "novograd",
        Whole(_novograd),
        1e-2,
        source="arXiv:1905.11286",
        formula="m <- b1 m + g / (sqrt(v) + eps) + weight_decay w, v = EMA(||g||^2; b2) per leaf",
        needs=("params",),
        ranges=(("b2", Hyperparameter("one_minus", 0.1, 0.99, most=1.0)),),
    ),
    HandDesigned(
        "adopt",
        Direction(_adopt),
        1e-3,
        source="arXiv:2411.02853",
        formula="u = EMA(clip(g / max(sqrt(v of the step before), eps), t^(1/4)); b1)",
    ),
    HandDesigned(
        "ademamix",
        Direction(_ademamix),
        1e-3,
        source="arXiv:2409.03137",
        formula="u = (m_hat + alpha EMA(g; b3)) / (sqrt(v_hat + eps_root) + eps)",
        ranges=(("alpha", Hyperparameter("log", 0.5, 50.0)),),
    ),
    HandDesigned(
        "simplified_ademamix",
        Direction(_simplified_ademamix),
        1e-4,
        source="arXiv:2502.02431",
        formula="m <- b1 m + g; u = (m + alpha g) / (sqrt(v_hat + eps_root) + eps)",
        ranges=(("alpha", Hyperparameter("linear", 0.0, 100.0)),),
    ),
)
