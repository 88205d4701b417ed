"""Configs: what is refused and in which words, and that a resolved config is the same config."""

import re
from dataclasses import fields
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings, strategies as st

from learned_opt import packaged
from learned_opt.anchors.relative_soap import RelativeSoap
from learned_opt.learned.hierarchical_rnn import PRESETS
from meta_train import yaml_subset
from meta_train.config import loading
from meta_train.config.errors import ConfigError
from meta_train.config.model import Config
from meta_train.config.reference import reference
from meta_train.config.schema import blocks
from meta_train.learners.meta_optimizers import META_OPTIMIZERS

ROOT = Path(__file__).parents[3]
GOOD = """
steps: 100
optimizer: {kind: hierarchical_rnn, preset: nominal}
tasks: [{kind: quadratic, dim: 3}, {kind: mlp_classifier, weight: 2}]
horizon: {kind: log_uniform, low: 50, high: 100}
estimator: {kind: pes, length: 20, std: 1e-2}
"""


def refused(*overrides: str, text: str = GOOD) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loading.parse(text, "F.yaml", overrides)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return caught.value.lines


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ("estimator.lenght=3", "estimator.lenght", "unknown key; did you mean length? (allowed:"),
        ("tasks.0.dmi=3", "tasks.0.dmi", "unknown key; did you mean dim? (allowed:"),
        ("optimizer.use_atention=true", "optimizer.use_atention", "did you mean use_attention?"),
        ("stpes=3", "stpes", "did you mean steps?"),
        ("wandb.mod=offline", "wandb.mod", "did you mean mode?"),
        ("wandb.mode=on", "wandb.mode", '"on" is not allowed; did you mean online?'),
        ("estimator={kind: pess}", "estimator.kind", '"pess" is not allowed; did you mean pes?'),
        (
            "horizon={low: 1}",
            "horizon.kind",
            "missing (allowed: exponential, fixed, ",
        ),
        ("tasks.1={dim: 3}", "tasks.1.kind", "missing (allowed: "),
        ("optimizer.kind=hirarchical_rnn", "optimizer.kind", "did you mean hierarchical_rnn?"),
        ("optimizer.preset=papr", "optimizer.preset", "did you mean paper?"),
        ("objective=log_loss", "objective", '"log_loss" is not allowed; it must be a mapping'),
        ("steps=1e2", "steps", "100.0 is not allowed; it must be an integer"),
        ("steps='100'", "steps", '"100" is not allowed; it must be an integer'),
        ("steps=0", "steps", "0 is not allowed; it must be at least 1"),
        ("ema=1", "ema", "1 is not allowed; it must be below 1"),
        ("seed=-1", "seed", "-1 is not allowed; it must be at least 0"),
        ("family_scale=unit", "family_scale", '"unit" is not allowed; did you mean unit_norm?'),
        ("optimizer.learnable_decay=yes", "optimizer.learnable_decay", "it must be true"),
        ("tasks=[]", "tasks", "[] is not allowed; it must not be empty"),
        ("tasks.0=3", "tasks.0", "3 is not allowed; it must be a mapping"),
        ("tasks.1.weight=0", "tasks.1.weight", "0 is not allowed; it must be above 0"),
        ("tasks.1.widths=8", "tasks.1.widths", "8 is not allowed; it must be a list"),
        ("tasks.1.widths=[8, a]", "tasks.1.widths.1", '"a" is not allowed; it must be an integer'),
        ("tasks.1.dataset=digit", "tasks.1", "did you mean digits?"),
        ("tasks.0.name=a/b c", "tasks.0.name", "'a/b c' is not allowed; it must be of letters"),
        ("optimizer.level_sizes=[1, 2, 3, 4]", "optimizer.level_sizes", "(1, 2, 3, 4) must be"),
        ("meta_optimizer.learning_rate=-1", "meta_optimizer.learning_rate", "must be above 0"),
        ("meta_optimizer.learning_rate=.nan", "meta_optimizer.learning_rate", '".nan" is not'),
        (
            "meta_optimizer={kind: learned, name: hierarchical_rn}",
            "meta_optimizer.name",
            "hierarchical_rn: no such file or name; did you mean hierarchical_rnn?",
        ),
        ("meta_optimizer={kind: learned}", "meta_optimizer.name", "missing"),
        (
            "meta_optimizer={kind: learned, name: hierarchical_rnn, learning_rate: 0}",
            "meta_optimizer.learning_rate",
            "must be above 0",
        ),
        ("version=2", "version", "2 is not allowed (allowed: 1)"),
        ("checkpoint.every_seconds=soon", "checkpoint.every_seconds", "it must be a number"),
    ],
)
def test_a_mistake_is_one_line_with_source_path_value_and_way_out(override, path, words):
    (line,) = refused(override)
    assert line.startswith(f"override {override}: {path}")
    assert words in line


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("foo", "must be key=value"),
        ("=3", "must be key=value"),
        ("tasks..dim=3", "must be key=value"),
        ("tasks.7.dim=1", "tasks.7: no such entry; the list has 2"),
        ("tasks.x=1", "tasks.x: no such entry"),
        ("steps.a=3", "steps is 100, it has no keys"),
        ("steps=010", "must not start with a zero"),
        ("steps=[", "line 1"),
    ],
)
def test_an_override_that_cannot_be_applied_says_so(override, words):
    (line,) = refused(override)
    assert line.startswith(f"override {override}: ") and words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a mapping"),
        ("- a", "must be a mapping"),
        ("steps: 010", "line 1: 010: a number must not start with a zero"),
        ("steps: 1\nsteps: 2", "line 2: key 'steps' was given already in line 1"),
        ("steps: !!python/object/apply:os.system [ls]", "line 1: could not determine"),
        ("a: &x [1]\nb: *x", "line 2: aliases are not supported"),
        ("1: 2", "line 1: key 1 must be text"),
        ("steps: [", "line 1"),
        ("[" * 5000, "nested too deeply"),
        ("steps: " + "9" * 5000, "a number of 5000 digits"),
        ("a\n---\nb", "another document"),
        ("\x00", "unacceptable character"),
    ],
)
def test_a_file_that_is_no_config_is_refused(text, words):
    (line,) = refused(text=text)
    assert line.startswith("F.yaml: ") and words in line


def test_all_mistakes_come_at_once_each_with_its_source():
    lines = refused("tasks.0.dmi=1", "ema=2", text=GOOD + "sed: 1\nmeasure: tset\n")
    assert [line.split(": ")[:2] for line in lines] == [
        ["override ema=2", "ema"],
        ["F.yaml", "measure"],
        ["F.yaml", "sed"],
        ["override tasks.0.dmi=1", "tasks.0.dmi"],
    ]


def test_missing_keys_are_all_named():
    lines = refused(text="seed: 1")
    assert lines == [
        f"F.yaml: {key}: missing" for key in ("estimator", "horizon", "optimizer", "steps", "tasks")
    ]


def test_what_single_keys_cannot_tell():
    (line,) = refused("num_tasks=7", "parallel.devices=3")
    assert "num_tasks: 7 does not divide by parallel.devices = 3; nearest: 6 or 9" in line
    (line,) = refused("num_tasks=1", "parallel.devices=2")
    assert line.endswith("nearest: 2")
    (line,) = refused("tasks.1={kind: quadratic}")
    assert "tasks.1: the same name, 'quadratic', as tasks.0" in line
    (line,) = refused("horizon.low=200")
    assert "horizon.high: 100 must be between low, 200, and " in line


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_are_valid_and_resolve_to_themselves(path):
    config = loading.load(path)
    again = loading.parse(loading.dump(config))
    assert again == config and hash(again) == hash(config)
    assert loading.dump(again) == loading.dump(config)


def test_overrides_reach_blocks_that_the_file_leaves_out():
    config = loading.parse(GOOD, overrides=["wandb.mode=offline", "evaluation.every=7"])
    assert config.wandb.mode == "offline" and config.evaluation.every == 7
    config = loading.parse(GOOD, overrides=["meta_optimizer.learning_rate=1e-4", "measure=train"])
    assert config.meta_optimizer.learning_rate == 1e-4
    config = loading.parse(GOOD, overrides=["tasks.0.dim=5", "tasks.0.weight=3"])
    assert config.tasks[0].build().dim == 5 and config.tasks[0].weight == 3


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_rule_of_that_name_and_flags_replace_its_choices(name):
    config = loading.parse(GOOD, overrides=[f"optimizer.preset={name}"])
    assert config.optimizer.build() == PRESETS[name]
    config = loading.parse(
        GOOD, overrides=[f"optimizer={{kind: hierarchical_rnn, preset: {name}, cell_scale: 0.25}}"]
    )
    rule = config.optimizer.build()
    assert rule.cell_scale == 0.25 and rule.level_sizes == PRESETS[name].level_sizes


@pytest.mark.parametrize(
    "old, new",
    [
        ("{kind: anchored_mlp, anchor: nominal}", "{kind: anchored_mlp}"),
        (
            "{kind: hierarchical_rnn, preset: nominal, output: nominal, cell_scale: 0.25}",
            "{kind: hierarchical_rnn, preset: nominal, cell_scale: 0.25}",
        ),
        ("{kind: hierarchical_rnn, output: learned_rate}", "{kind: hierarchical_rnn}"),
        ("{kind: tensor_lstm, output: nominal}", "{kind: tensor_lstm, preset: nominal}"),
    ],
)
def test_choices_of_older_versions_are_read(old, new):
    found, wanted = (loading.parse(GOOD, overrides=[f"optimizer={text}"]) for text in (old, new))
    assert found.optimizer.build() == wanted.optimizer.build()


@pytest.mark.parametrize(
    "kind", ["anchored_mlp", "hierarchical_rnn, preset: nominal", "tensor_lstm"]
)
def test_a_rule_takes_any_anchor(kind):
    text = f"optimizer={{kind: {kind}, anchor: {{kind: relative_soap, max_dim: 32}}}}"
    config = loading.parse(GOOD, overrides=[text])
    assert config.optimizer.build().anchor == RelativeSoap(max_dim=32)
    assert loading.parse(loading.dump(config)) == config


@pytest.mark.parametrize("kind", META_OPTIMIZERS)
def test_every_meta_optimizer_can_be_had_with_its_defaults(kind):
    name = ", name: hierarchical_rnn" if kind == "learned" else ""
    config = loading.parse(
        GOOD, overrides=[f"meta_optimizer={{kind: {kind}, clip: 1.0, clip_norm: 1{name}}}"]
    )
    tx = config.meta_optimizer.build().transformation(config.steps)
    assert jax.eval_shape(tx.init, {"w": jnp.zeros(2)}) is not None


def test_the_path_of_a_learned_meta_optimizer_holds_in_every_folder(tmp_path, monkeypatch):
    weights = tmp_path / "rule.safetensors"
    weights.write_bytes(packaged()["hierarchical_rnn"].read_bytes())
    monkeypatch.chdir(tmp_path)
    chosen = "meta_optimizer={kind: learned, name: rule.safetensors}"
    assert loading.parse(GOOD, overrides=[chosen]).meta_optimizer.name == str(weights)
    weights.write_bytes(b"PK\x03\x04" + bytes(40))
    (line,) = refused(chosen)
    assert "meta_optimizer.name: rule.safetensors: this is a zip archive" in line


def test_differences_name_what_a_resumed_run_may_not_change():
    old = loading.parse(GOOD)
    new = loading.parse(
        GOOD, overrides=["steps=200", "seed=3", "tasks.1.weight=4", "wandb.mode=offline", "ema=0.5"]
    )
    assert loading.differences(old, new) == ["seed", "tasks.1.weight", "ema"]
    assert loading.differences(old, old) == []


def test_yaml_numbers_are_those_of_yaml_1_2():
    text = "a: 1e-4\nb: on\nc: 1_000\nd: [1, -2.5, .5, ~, null, yes, '010', 12:30]"
    values = yaml_subset.parse(text)
    assert values["a"] == 1e-4 and values["b"] == "on" and values["c"] == "1_000"
    assert values["d"] == [1, -2.5, 0.5, None, None, "yes", "010", "12:30"]
    assert type(values["d"][0]) is int


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
    | st.sampled_from(["1e-4", "010", "on", "null", "~", "0x1f", "1:30", "-", "[", "#", "1_0"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc1e-~"), inner),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(plain)
def test_what_is_written_is_read_back_equal(value):
    again = yaml_subset.parse(yaml_subset.dump(value))
    assert again == value and type(again) is type(value)


def _keys(model):
    for name, field in model.model_fields.items():
        yield name
        for block in blocks(field.annotation):
            yield from _keys(block)


def test_defaults_in_the_reference_are_whole():
    for value in re.findall("`([^`]*)`", reference()):
        for left, right in ("{}", "[]"):
            assert value.count(left) == value.count(right), value
    assert "| `{kind: adam}` |" in reference()
    assert "| `[10, 20, 20]` |" in reference()


def test_the_reference_names_every_key():
    page = (ROOT / "docs" / "config.md").read_text()
    missing = {key for key in _keys(Config) if f"`{key}`" not in page}
    assert missing <= {"kind"}, "run: learned-opt config reference > docs/config.md"
    for kind in META_OPTIMIZERS:
        assert f"### kind: {kind}" in page
    for field in fields(PRESETS["paper"]):
        assert f"| `{field.name}` |" in reference()


def test_an_evaluation_has_one_length_or_several():
    def lengths(text):
        return loading.parse(GOOD + f"evaluation: {{{text}}}\n", "F.yaml", ()).evaluation.steps

    assert lengths("every: 5") == (200, 2000)
    assert lengths("steps: 300") == (300,) and lengths("steps: [5, 50]") == (5, 50)
    for text in ("steps: 0", "steps: [5, 0]", "steps: []", "steps: many", "steps: true"):
        (line,) = refused(text=GOOD + f"evaluation: {{{text}}}\n")
        assert "evaluation.steps" in line and "is not allowed" in line
