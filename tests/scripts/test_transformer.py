"""The transformer of any size."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformer

SMALL = ["--width=8", "--depth=1", "--heads=2", "--batch=2", "--length=8", "--steps=4"]


def test_its_size_is_what_the_help_says():
    start = partial(transformer.init, characters=100, width=192, depth=4, length=64)
    leaves = jax.tree.leaves(jax.eval_shape(start, jax.random.key(0)))
    assert 1.75e6 < sum(leaf.size for leaf in leaves) < 1.9e6


def test_a_character_is_predicted_from_those_before_it_alone():
    init = partial(transformer.init, characters=5, width=8, depth=2, length=6)
    params = jax.jit(init)(jax.random.key(0))
    seen = jnp.array([[0, 1, 2, 3, 4, 0], [0, 1, 2, 4, 4, 0]])
    one, other = jax.jit(partial(transformer.predict, heads=2))(params, seen)
    np.testing.assert_allclose(one[:3], other[:3], rtol=1e-6)
    assert jnp.all(jnp.abs(one[3:] - other[3:]).max(1) > 1e-3)


def test_minibatches_are_those_of_the_seed_and_inside_the_text():
    text = np.arange(12)
    once, again, other = (transformer.minibatches(text, seed, 50, 10) for seed in (1, 1, 2))
    first = next(once)
    assert np.array_equal(first, next(again)) and not np.array_equal(first, next(other))
    assert np.all(np.diff(first) == 1) and set(first[:, 0]) == {0, 1}


def test_results_are_kept_and_only_of_one_setting(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transformer.contenders, "SECONDS", 0.0)
    out = tmp_path / "found.json"
    transformer.main(["--rules", "sgd", "--rates", "1e-2", *SMALL, "--out", str(out)])
    found = json.loads(out.read_text())
    adamw, sgd = found["results"].values()
    assert 3 < adamw["train"] < 7 and adamw["train"] != sgd["train"] and sgd["ms"] > 0
    found["results"]["sgd"]["train"] = 1.25
    out.write_text(json.dumps(found))
    transformer.main(["--rules", "sgd", "--rates", "1e-2", *SMALL, "--out", str(out)])
    assert "1.25 " in capsys.readouterr().out
    assert json.loads(out.read_text()) == found
    with pytest.raises(SystemExit):
        transformer.main([*SMALL, "--depth", "2", "--out", str(out)])
    assert "holds results of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--heads", "5"], "5 does not divide --width 192"),
        (["--steps", "0"], "--steps: 0 is not allowed"),
        (["--rules", "adm"], "did you mean adam"),
        (["--text", "documantation"], "documentation"),
        (["--length", "1000000"], "length: 1000000 is not allowed"),
        (["--rates"], "--rules must name a rule"),
        (["--out", "no/such/folder.json"], "there is no folder no/such"),
    ],
)
def test_bad_input_is_refused(wrong, message, capsys):
    with pytest.raises(SystemExit):
        transformer.main(wrong)
    assert message in capsys.readouterr().err
