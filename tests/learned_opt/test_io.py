"""Weight files: what is written comes back, and every kind of damage ends in one sentence."""

import json
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy

import learned_opt
from learned_opt import io, registry, use
from learned_opt.anchors.relative_adam import RelativeAdam
from learned_opt.io import WeightsError


@dataclass(frozen=True)
class Scaled:
    """Gradient descent with one rate per listed width."""

    widths: tuple[int, ...] = (2, 3)
    mode: Literal["plain", "signed"] = "plain"
    decay: float = 0.5
    nested: bool = True
    limit: float | None = None

    def __post_init__(self):
        if self.decay >= 1:
            raise ValueError(f"decay: {self.decay} must be below 1")

    def init(self, key):
        rates = {f"layer{i}": {"w": jnp.ones((n, 2))} for i, n in enumerate(self.widths)}
        return {"rates": rates, "bias": jax.random.normal(key, ())}

    def opt(self, theta, horizon, key=None, learning_rate=None):
        del horizon, key
        rate = theta["bias"] if learning_rate is None else learning_rate
        return optax.scale(-rate)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.LEARNED, "scaled", Scaled)


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "rule.safetensors"
    rule = Scaled()
    io.write(path, rule, rule.init(jax.random.key(1)), {"licence": "Apache-2.0", "meta_steps": 3})
    return path


def refuse(path: Any, *parts: str) -> None:
    with pytest.raises(WeightsError) as caught:
        io.read(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (*parts, str(path)):
        assert part in message


def rewrite(path: Path, change=lambda leaves: leaves, **header: Any) -> None:
    """The same file with other leaves or another header."""
    card = io.card(path) | header
    leaves = change(safetensors.numpy.load_file(path))
    path.write_bytes(safetensors.numpy.save(leaves, {io.CARD_KEY: json.dumps(card)}))


@pytest.mark.parametrize(
    "rule", [Scaled(), Scaled(widths=(), limit=2.0), Scaled(mode="signed", nested=False)]
)
def test_what_is_written_comes_back(tmp_path, rule):
    theta = rule.init(jax.random.key(3))
    path = tmp_path / "new folder" / "a.safetensors"
    io.write(path, rule, theta, {"results": {"loss": np.float32(2), "bad": float("nan")}})
    again, weights, card = io.read(path)
    assert again == rule
    assert jax.tree.structure(weights) == jax.tree.structure(theta)
    jax.tree.map(np.testing.assert_array_equal, weights, theta)
    assert card["results"] == {"loss": 2.0, "bad": None}
    assert card["format"] == 1 and card["kind"] == "scaled"
    assert io.card(path) == card
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_reading_and_writing_again_gives_the_same_card(saved, tmp_path):
    rule, theta, card = io.read(saved)
    io.write(tmp_path / "b.safetensors", rule, theta, card)
    assert io.card(tmp_path / "b.safetensors") == card


def test_arrays_that_are_not_contiguous_are_written_right(tmp_path):
    rule = Scaled(widths=(3,))
    theta = rule.init(jax.random.key(0))
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    theta["rates"]["layer0"]["w"] = turned
    io.write(tmp_path / "a.safetensors", rule, theta, {})
    np.testing.assert_array_equal(
        io.read(tmp_path / "a.safetensors")[1]["rates"]["layer0"]["w"], turned
    )


@pytest.mark.parametrize("kind", sorted(registry.LEARNED))
def test_every_learned_rule_survives_the_round_trip(tmp_path, kind):
    rule = registry.LEARNED[kind]()
    theta = rule.init(jax.random.key(0))
    io.write(tmp_path / "a.safetensors", rule, theta, {})
    again, weights, _ = io.read(tmp_path / "a.safetensors")
    assert again == rule
    jax.tree.map(np.testing.assert_array_equal, weights, theta)


OLDER = [
    ("anchored_mlp", {"anchor": "nominal", "hidden": 3}, {"anchor": RelativeAdam(), "hidden": 3}),
    ("hierarchical_rnn", {"output": "learned_rate"}, {}),
    (
        "hierarchical_rnn",
        {"output": "nominal", "use_relative_lr": False},
        {"anchor": RelativeAdam(), "use_relative_lr": False},
    ),
    ("tensor_lstm", {"output": "direction"}, {}),
    ("tensor_lstm", {"output": "nominal"}, {"anchor": RelativeAdam()}),
]


@pytest.mark.parametrize("kind, spec, fields", OLDER)
def test_files_of_older_versions_read(tmp_path, kind, spec, fields):
    path, rule = tmp_path / "a.safetensors", registry.LEARNED[kind](**fields)
    io.write(path, rule, rule.init(jax.random.key(0)), {})
    rewrite(path, spec=spec)
    assert io.read(path)[0] == rule


def test_an_anchor_that_is_gone_is_named(tmp_path):
    path, rule = tmp_path / "a.safetensors", registry.LEARNED["anchored_mlp"]()
    io.write(path, rule, rule.init(jax.random.key(0)), {})
    rewrite(path, spec={"anchor": "adam"})
    refuse(path, "spec.anchor: 'adam' is not {kind: relative_adam} or {kind: relative_soap}")


def test_every_packaged_file_reads():
    for name in io.packaged():
        rule, theta, card = io.read(name)
        assert registry.LEARNED[card["kind"]] is type(rule)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(theta))
        assert card["licence"] == "Apache-2.0"


def test_a_failed_write_leaves_the_old_file_alone(saved, monkeypatch):
    before = saved.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("learned_opt.files.os.replace", full)
    with pytest.raises(OSError):
        io.write(saved, Scaled(), Scaled().init(jax.random.key(9)), {})
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_what_cannot_be_read_again_is_not_written(tmp_path):
    path = tmp_path / "a.safetensors"
    theta = Scaled().init(jax.random.key(0))
    with pytest.raises(WeightsError, match="bias: 1 of 1 values are not finite"):
        io.write(path, Scaled(), theta | {"bias": jnp.float32(jnp.nan)}, {})
    with pytest.raises(WeightsError, match="bias: missing; extra: not part"):
        io.write(path, Scaled(), {"rates": theta["rates"], "extra": theta["bias"]}, {})
    with pytest.raises(WeightsError, match="bias: bfloat16, must be float32"):
        io.write(path, Scaled(), theta | {"bias": jnp.bfloat16(1)}, {})
    with pytest.raises(WeightsError, match="card cannot be written"):
        io.write(path, Scaled(), theta, {"when": object()})
    assert not path.exists()


@pytest.mark.parametrize("keep", [1, 7, 8, 9, 20, 60, 0.5, 0.9, -1])
def test_truncated(saved, keep):
    content = saved.read_bytes()
    kept = int(keep * len(content)) if isinstance(keep, float) else keep
    saved.write_bytes(content[:kept])
    refuse(saved)


def test_empty(saved):
    saved.write_bytes(b"")
    refuse(saved, "empty")


def test_no_flipped_header_byte_escapes_as_another_error(saved):
    content = bytearray(saved.read_bytes())
    header = int.from_bytes(content[:8], "little")
    for position in [*range(16), *range(16, 8 + header, 7)]:
        damaged = content.copy()
        damaged[position] ^= 0x15
        saved.write_bytes(damaged)
        try:
            rule, theta, _ = io.read(saved)
        except WeightsError as error:
            assert str(saved) in str(error)
        else:  # a flip inside the card's free text, or a default's other legal value
            assert jax.tree.structure(theta) == jax.tree.structure(rule.init(jax.random.key(0)))


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**31, 10**6])
def test_huge_header(saved, length):
    saved.write_bytes(struct.pack("<Q", length) + saved.read_bytes()[8:])
    refuse(saved, "header")


def test_all_differences_are_named_at_once(saved):
    def change(leaves):
        leaves.pop("bias")
        leaves["rates/layer0/w"] = np.zeros((3, 3), np.float32)
        leaves["rates/layer1/w"] = np.full((3, 2), np.nan, np.float16)
        leaves["new"] = np.zeros(1, np.float32)
        return leaves

    rewrite(saved, change)
    refuse(
        saved,
        "bias: missing",
        "rates/layer0/w: shape (3, 3), must be (2, 2)",
        "rates/layer1/w: float16, must be float32",
        "rates/layer1/w: 6 of 6 values are not finite",
        "new: not part of this rule",
    )


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ({"format": 2}, "written in format 2"),
        ({"format": "1"}, "format is '1'"),
        ({"format": True}, "format is True"),
        ({"kind": "scale"}, "unknown kind 'scale'; did you mean scaled?"),
        ({"kind": ["scaled"]}, "unknown kind"),
        ({"spec": 3}, "no spec"),
        ({"spec": {"width": [1]}}, "spec.width: unknown field; did you mean widths?"),
        ({"spec": {"widths": [1, "2"]}}, "spec.widths: (1, '2') is not tuple[int, ...]"),
        ({"spec": {"nested": 1}}, "spec.nested: 1 is not bool"),
        ({"spec": {"mode": "loud"}}, "spec.mode: 'loud' is not Literal"),
        ({"spec": {"decay": 2.0}}, "decay: 2.0 must be below 1"),
        ({"spec": {"widths": [-1, 2]}}, "scaled"),
        ({"spec": {"widths": [10**30, 2]}}, f"must be ({10**30}, 2)"),
        (
            {"kind": "hierarchical_rnn", "spec": {"cell_scale": 10**400}},
            "hierarchical_rnn: int too large",
        ),
    ],
)
def test_wrong_headers(saved, header, part):
    rewrite_raw = io.card(saved) | header
    leaves = safetensors.numpy.load_file(saved)
    saved.write_bytes(safetensors.numpy.save(leaves, {io.CARD_KEY: json.dumps(rewrite_raw)}))
    refuse(saved, part)


def test_a_foreign_safetensors_file(saved):
    safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, saved)
    refuse(saved, "no card")
    safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, saved, {io.CARD_KEY: "[]"})
    refuse(saved, "not an object")
    safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, saved, {io.CARD_KEY: "{"})
    refuse(saved, "not valid JSON")


class Trap:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_the_name_is_refused_and_not_executed(saved, tmp_path, protocol):
    marker = tmp_path / "executed"
    saved.write_bytes(pickle.dumps(Trap(marker), protocol=protocol))
    refuse(saved, "pickle" if protocol >= 2 else "not a safetensors file")
    assert not marker.exists()


def test_other_formats_are_named(saved):
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("data.pkl", b"")
    refuse(saved, "zip archive")
    with saved.open("wb") as file:
        np.save(file, np.zeros(3))
    refuse(saved, ".npy array")


def test_folders(saved, tmp_path):
    assert io.read(tmp_path)[0] == Scaled()
    (tmp_path / "second.safetensors").write_bytes(saved.read_bytes())
    refuse(tmp_path, "2 of them", "rule.safetensors, second.safetensors")
    (tmp_path / "weights").mkdir()
    refuse(tmp_path / "weights", "and no .safetensors file")
    for name, steps in (("last", 1), ("best", 2)):
        rewrite(saved, meta_steps=steps)
        (tmp_path / "weights" / f"{name}.safetensors").write_bytes(saved.read_bytes())
        assert io.card(tmp_path)["meta_steps"] == steps


def test_names(saved, monkeypatch):
    monkeypatch.setattr("learned_opt.locate.packaged", lambda: {"pretty_rule": saved})
    assert io.read("pretty_rule")[0] == Scaled()
    refuse("pretty_rul", "did you mean pretty_rule?", "packaged weights: pretty_rule")
    refuse(saved.parent / "absent.safetensors", "no such file")
    refuse("velo", "no weights of this kind are packaged", "packaged weights: pretty_rule")


def test_load_gives_an_optax_transformation_for_weights_and_for_names(saved):
    params = {"a": jnp.ones(3)}
    for tx in (
        learned_opt.load(saved, num_steps=5, learning_rate=0.5),
        learned_opt.load("sgd", learning_rate=0.5),
        learned_opt.load("adam"),
    ):
        assert isinstance(tx, optax.GradientTransformationExtraArgs)
        state = tx.init(params)
        updates, _ = tx.update(params, state, params, value=jnp.float32(1.0), unknown=3)
        assert updates["a"].shape == (3,)
    with pytest.raises(ValueError, match="num_steps: 0 is not allowed"):
        learned_opt.load(saved, num_steps=0)
    with pytest.raises(ValueError, match="num_steps: 2147483648 is not allowed"):
        learned_opt.load(saved, num_steps=2**31)
    with pytest.raises(WeightsError, match="did you mean relative_adam?"):
        learned_opt.load("relative_adm")


@pytest.mark.parametrize("num_steps", [None, 5])
def test_load_without_a_name_takes_the_default(num_steps):
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}
    named, default = learned_opt.load(use.DEFAULT, num_steps), learned_opt.load(None, num_steps)
    steps = [tx.update(params, tx.init(params), params)[0] for tx in (named, default)]
    jax.tree.map(np.testing.assert_array_equal, *steps)


def test_a_loaded_rule_is_traced_once(saved):
    tx = learned_opt.load(saved)
    traces = 0

    @jax.jit
    def step(params, state):
        nonlocal traces
        traces += 1
        updates, state = tx.update(params, state, params, value=jnp.float32(0.0))
        return optax.apply_updates(params, updates), state

    params = {"a": jnp.ones(3)}
    state = tx.init(params)
    for _ in range(3):
        params, state = step(params, state)
    assert traces == 1
