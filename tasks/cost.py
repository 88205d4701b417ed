"""What one training step of a family costs: parameters and floating-point operations."""

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax.extend import core

from tasks.base import TaskFamily


class Cost(NamedTuple):
    """parameters: numbers the optimizer updates. operations: of one loss and its gradient."""

    parameters: int
    operations: int


@dataclass(frozen=True)
class Limit:
    """The most a task may cost; None admits everything."""

    parameters: int | None = None
    operations: int | None = None

    def excess(self, family: TaskFamily) -> str:
        """What of the family is above the limit, in words; empty where nothing is."""
        if self.parameters is None and self.operations is None:
            return ""
        found = cost(family)
        return "; ".join(
            f"{value:,} {what} are above the limit of {most:,}"
            for what, value, most in (
                ("parameters", found.parameters, self.parameters),
                ("operations a step", found.operations, self.operations),
            )
            if most is not None and value > most
        )

    def admits(self, family: TaskFamily) -> bool:
        return not self.excess(family)


@functools.lru_cache(maxsize=4096)
def cost(family: TaskFamily) -> Cost:
    """Counted on the traced program of a step, loops multiplied out; nothing is compiled or run.

    An addition, a multiplication, a comparison and an elementary function are one operation each; a
    product of (n, k) and (k, m) is 2 n k m.
    """
    data, key = family.load(), jax.random.key(0)

    def start(data, key):
        cfg = family.sample(key)
        task = family.task(cfg, data)
        return cfg, task.init(key), task.batch(key, "train")

    cfg, params, batch = jax.eval_shape(start, data, key)

    def step(params, cfg, data, key, batch):
        return jax.value_and_grad(family.task(cfg, data).loss)(params, key, batch)

    program = jax.make_jaxpr(step)(params, cfg, data, key, batch)
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(params)]
    return Cost(sum(sizes), _operations(program.jaxpr))


# Moves and relabels numbers: free beside arithmetic.
_FREE = {
    "broadcast_in_dim", "concatenate", "convert_element_type", "copy", "device_put",
    "dynamic_slice", "dynamic_update_slice", "gather", "iota", "pad", "reshape", "rev", "scatter",
    "select_n", "slice", "split", "squeeze", "stop_gradient", "transpose",
}  # fmt: skip
_RANDOM = {"random_bits", "random_fold_in", "random_seed", "random_split", "random_unwrap",
           "random_wrap", "threefry2x32"}  # fmt: skip


def _operations(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name in _FREE or name in _RANDOM:
        return 0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = params["dimension_numbers"].rhs_spec[0]
        return 2 * equation.outvars[0].aval.size * kernel.size // kernel.shape[outputs]
    inner = [_operations(program) for program in _programs(params)]
    if inner:
        if name == "cond":
            return max(inner)
        return sum(inner) * params.get("length", 1)
    if name.startswith(("reduce_", "argm", "cum", "sort")):
        return sum(variable.aval.size for variable in equation.invars[:1])
    return sum(getattr(variable.aval, "size", 0) for variable in equation.outvars)


def _programs(params: dict[str, Any]) -> list[Any]:
    """The programs an equation holds: bodies of loops, branches, called functions."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, core.Jaxpr):
                found.append(item)
    return found
