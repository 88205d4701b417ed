"""What `learned-opt import` refuses, and what it writes beside the weights."""

import gzip
import io as streams
import pickle
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import serialization
from helpers import published_files as files

import learned_opt
from learned_opt import io
from learned_opt.locate import WeightsError
from meta_train.cli import main
from meta_train.published import container
from meta_train.published.formats import FORMATS
from meta_train.published.importing import import_weights

SHAPES = {
    "velo": files.velo_shapes(8, 4),
    "celo": files.celo_shapes(8),
    "celo_adam": files.celo_adam_shapes(8),
    "celo2": files.celo2_shapes(8),
    "small_fc": files.small_fc_shapes(4),
}
TOLD = {"source": "a test", "licence": "none"}


def bring(kind: str, content: bytes, folder: Path, **told):
    file, out = folder / "published", folder / "out.safetensors"
    file.write_bytes(content)
    try:
        return import_weights(kind, file, out, **(TOLD | told))
    except ValueError:
        assert not out.exists()
        raise


def zipped() -> bytes:
    with zipfile.ZipFile(buffer := streams.BytesIO(), "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


GOOD = files.file_bytes(files.drawn(SHAPES["small_fc"], 0))
NESTED = b"\x81\xa1a" * 2000 + b"\xc0"


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "the file is empty"),
        (pickle.dumps({"nn": np.zeros(3)}), "this is a pickle"),
        (pickle.dumps({"nn": np.zeros(3)}, protocol=0), "not a file of flax.serialization"),
        (zipped(), "this is a zip archive"),
        (gzip.compress(GOOD), "this is a gzip file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title>", "a web page"),
        (b'\x08\x00\x00\x00\x00\x00\x00\x00{"a": 1}', "this is a safetensors file"),
        (np.random.RandomState(0).bytes(5000), "not a file of flax.serialization"),
        (GOOD[: len(GOOD) // 2], "cut off"),
        (GOOD[:-1], "cut off"),
        (GOOD + b"\x00", "damaged"),
        (NESTED, "damaged"),
        (serialization.msgpack_serialize([1, 2]), "holds list"),
        (serialization.msgpack_serialize(np.zeros(3)), "holds ndarray"),
        (files.file_bytes({"0": [], "1": "", "2": 0}), "holds list"),
        (files.file_bytes({"a\n\x1b[2J": np.zeros(1)}), "not part of small_fc weights"),
        (files.file_bytes({"a/b": np.zeros(1), "a": {"b": np.zeros(1)}}), "two leaves are called"),
    ],
)
def test_other_files_are_named_in_one_line(content, part, tmp_path):
    with pytest.raises(WeightsError) as refused:
        bring("small_fc", content, tmp_path)
    assert part in str(refused.value) and "\n" not in str(refused.value)
    assert str(tmp_path / "published") in str(refused.value)


def test_a_pickle_inside_is_not_run(tmp_path):
    """An array whose bytes would be Python objects, and an extension type nobody knows."""
    import msgpack

    objects = msgpack.packb(((1,), "object", b"\x00" * 8))
    for code in (1, 3, 77):
        content = msgpack.packb({"momentum_decays": msgpack.ExtType(code, objects)})
        with pytest.raises(WeightsError):
            bring("small_fc", content, tmp_path)


def test_every_difference_is_listed_and_nothing_is_written(tmp_path):
    theta = files.drawn(SHAPES["velo"], 0)
    del theta["rnn_params"]["linear"], theta["lstm_init_state"]["cell"]
    theta["ff_mod_stack"]["~"]["w0__14"] = np.zeros((4, 1, 4), np.float32)
    theta["ff_mod_stack"]["~"]["w2"] = theta["ff_mod_stack"]["~"]["w2"][..., :2]
    theta["rnn_params"]["step_size"]["b"] = np.array([np.nan], np.float32)
    theta["rnn_params"]["step_size"]["w"] = theta["rnn_params"]["step_size"]["w"].astype("float64")
    theta["rnn_params"]["rnn/linear"]["b"] = "text"
    with pytest.raises(WeightsError) as refused:
        bring("velo", files.file_bytes(theta), tmp_path)
    for part in (
        "rnn_params/linear/w: missing",
        "rnn_params/linear/b: missing",
        "lstm_init_state/cell: missing",
        "ff_mod_stack/~/w0__14: not part of velo weights",
        "ff_mod_stack/~/w2: shape (4, 4, 2), must be (4, 4, 3)",
        "rnn_params/step_size/b: 1 of 1 values are not finite",
        "rnn_params/step_size/w: float64, must be float32",
        "rnn_params/rnn/linear/b: str, must be an array",
    ):
        assert part in str(refused.value)
    assert str(refused.value).count(";") == 7


@pytest.mark.parametrize("kind", FORMATS)
def test_weights_of_another_kind_are_recognised(kind, tmp_path):
    other = "celo" if kind == "celo_adam" else "celo_adam"
    content = files.file_bytes(files.drawn(SHAPES[other], 0))
    with pytest.raises(WeightsError, match=f"its leaves are those of: {other}"):
        bring(kind, content, tmp_path)


def test_a_damaged_file_is_not_taken_for_another_kind(tmp_path):
    """VeLO's leaves have the names of Celo's, and a config beside it says nothing of Celo."""
    theta = files.drawn(SHAPES["velo"], 0)
    theta["rnn_params"]["linear"]["b"][0] = np.nan
    with pytest.raises(WeightsError) as refused:
        bring("velo", files.file_bytes(theta), tmp_path)
    assert str(refused.value).endswith("rnn_params/linear/b: 1 of 8 values are not finite")
    (tmp_path / "config.gin").write_text("HyperV2.hidden = 3")
    with pytest.raises(WeightsError, match="its leaves are those of: velo"):
        bring("celo", files.file_bytes(theta, wrapped=True), tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_number_arrives_once(kind, tmp_path):
    """Numbered weights: what is read back are the same numbers, none twice, none lost."""
    shapes, count = SHAPES[kind], 0

    def numbered(shape):
        nonlocal count
        size = int(np.prod(shape))
        count += size
        return np.arange(count - size, count, dtype=np.float32).reshape(shape)

    tree = jax.tree.map(numbered, shapes, is_leaf=lambda node: isinstance(node, tuple))
    card = bring(kind, files.file_bytes(tree), tmp_path)
    _, theta, _ = learned_opt.read(tmp_path / "out.safetensors")
    found = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(theta)])
    assert sorted(found) == list(range(count))
    assert card["kind"] == kind


def test_the_counts_of_the_published_files():
    found = {
        kind: sum(
            int(np.prod(shape)) for shape in FORMATS[kind].layout(nothing(), {}).shapes().values()
        )
        for kind in FORMATS
    }
    counts = {"velo": 2_320_385, "celo": 37_089, "celo_adam": 36_865, "celo2": 347}
    assert found == counts | {"small_fc": 197}


def nothing() -> container.Published:
    return container.Published(Path("none"), {}, False, False, None, "")


def test_the_card_keeps_where_the_weights_come_from(tmp_path, capsys):
    file, out = tmp_path / "theta.state", tmp_path / "celo.safetensors"
    file.write_bytes(files.file_bytes(files.drawn(SHAPES["celo"], 0)))
    assert main(["import", "celo", str(file), "--out", str(out)]) == 0
    card = io.card(out)
    assert (card["licence"], card["source"]) == ("MIT", "https://github.com/amoudgl/celo")
    assert card["imported"]["file"] == "theta.state" and len(card["imported"]["sha256"]) == 64
    assert "note: update needs value=" in capsys.readouterr().out
    told = ["--source", "a copy", "--licence", "Apache-2.0"]
    assert main(["import", "celo", str(file), "--out", str(out), *told]) == 0
    assert (io.card(out)["licence"], io.card(out)["source"]) == ("Apache-2.0", "a copy")


def test_where_a_kind_has_several_publishers_source_and_licence_are_needed(tmp_path, capsys):
    file, out = tmp_path / "theta.state", tmp_path / "out.safetensors"
    file.write_bytes(GOOD)
    command = ["import", "small_fc", str(file), "--out", str(out)]
    assert main(command) == 2
    assert "--source and --licence: needed" in capsys.readouterr().err
    assert main([*command, "--source", "x"]) == 2
    assert capsys.readouterr().err.startswith("--licence: needed")
    assert main([*command[:-1], str(tmp_path / "out.bin")]) == 2
    assert "ends in .safetensors" in capsys.readouterr().err
    assert main(["import", "celo", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "No such file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


def velo_file(folder: Path, config: str | None) -> Path:
    file = folder / "params"
    file.write_bytes(files.file_bytes(files.drawn(SHAPES["velo"], 0), wrapped=True))
    if config is not None:
        (folder / "config.gin").write_text(config)
    return file


def bugs(folder: Path, *options: str) -> tuple[bool, bool]:
    out = folder / "velo.safetensors"
    assert main(["import", "velo", str(folder / "params"), "--out", str(out), *options]) == 0
    rule, _, card = learned_opt.read(out)
    assert card["meta_steps"] == 3
    return rule.use_bugged_loss_features, rule.use_bugged_next_lstm_state


CONFIG = """# Parameters for HyperV2:
# ==============================
HyperV2.lstm_hidden_size = 8
hyper_v2.HyperV2.param_inits = \\
    4
HyperV2.use_bugged_next_lstm_state = True
HyperV2.initial_rms_decays = [0.999]
HyperV2.reparam_decay = 10.0
run_train.lopt = @HyperV2()
"""


def test_bugs_of_velo_come_from_its_config_and_from_flags(tmp_path):
    velo_file(tmp_path, None)
    assert bugs(tmp_path) == (False, False)
    assert bugs(tmp_path, "--use-bugged-loss-features") == (True, False)
    velo_file(tmp_path, CONFIG)
    assert bugs(tmp_path) == (True, True)  # the first is the constructor's default
    assert bugs(tmp_path, "--no-use-bugged-loss-features") == (False, True)
    elsewhere = tmp_path / "other.gin"
    elsewhere.write_text(CONFIG + "HyperV2.use_bugged_loss_features = False\n")
    assert bugs(tmp_path, "--config", str(elsewhere)) == (False, True)


@pytest.mark.parametrize(
    ("step", "kept"), [(5, 5), (np.int64(5), 5), (np.array(5), 5), (5.0, None), (None, None)]
)
def test_the_config_of_a_checkpoint_is_read_however_its_step_is_written(step, kept, tmp_path):
    theta = files.drawn(SHAPES["velo"], 0)
    (tmp_path / "config.gin").write_text(CONFIG)
    content = serialization.msgpack_serialize({"params": theta, "gen_id": "7", "step": step})
    card = bring("velo", content, tmp_path)
    assert card.get("meta_steps") == kept
    assert card["spec"]["use_bugged_loss_features"] and card["spec"]["use_bugged_next_lstm_state"]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("HyperV2.mix_layers = False", "HyperV2.mix_layers = False: only True can be had"),
        ("HyperV2.step_mult = @rate", "HyperV2.step_mult = @rate: not a plain value"),
        ("HyperV2.hidden = 3", "HyperV2.hidden: not a choice of HyperV2"),
        ("HyperV2.lstm_hidden_size = 16", "must be (1, 16)"),
        ("HyperV2.step_mult = -1.0", "config.gin: step_mult: -1.0 is not allowed"),
        ("HyperV2.lstm_hidden_size = '8'", "config.gin: spec.hidden: '8' is not int"),
        ("HyperV2.exp_mult = None", "config.gin: spec.exp_mult: None is not float"),
        ("HyperV2.param_scale_mult = 'no'", "config.gin: spec.param_scale_mult: 'no' is not bool"),
    ],
)
def test_configs_that_cannot_be_followed(line, part, tmp_path, capsys):
    velo_file(tmp_path, CONFIG + line + "\n")
    out = tmp_path / "velo.safetensors"
    assert main(["import", "velo", str(tmp_path / "params"), "--out", str(out)]) == 2
    assert part in capsys.readouterr().err
    assert not out.exists()


def test_checkpoints_from_before_configs_have_both_bugs(tmp_path):
    theta = files.drawn(SHAPES["velo"], 0)
    bring("velo", serialization.msgpack_serialize({"0": theta, "1": "", "2": 0}), tmp_path)
    rule, _, _ = learned_opt.read(tmp_path / "out.safetensors")
    assert rule.use_bugged_loss_features and rule.use_bugged_next_lstm_state
