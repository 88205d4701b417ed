import runpy
from pathlib import Path

import jax
import jax.numpy as jnp

import learned_opt

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_task.py"


def test_the_example_family_trains_in_a_few_lines():
    assert len(EXAMPLE.read_text().splitlines()) < 80
    example = runpy.run_path(str(EXAMPLE))
    family = example["SineRegression"](hidden=8, batch_size=16)
    final_loss = jax.jit(example["final_loss"], static_argnums=(0, 1, 2))
    tx = learned_opt.make("relative_adam", num_steps=200)
    assert final_loss(family, tx, 200) < 0.3 * final_loss(family, tx, 0)


def test_the_example_family_keeps_the_contract():
    family = runpy.run_path(str(EXAMPLE))["SineRegression"]()

    def losses(key):
        task = family.task(family.sample(key), family.load())
        return task.loss(task.init(key), key, task.batch(key, "train"))

    values = jax.jit(jax.vmap(losses))(jax.random.split(jax.random.key(0), 3))
    assert values.shape == (3,) and jnp.all(values > 0) and len(set(values.tolist())) == 3
