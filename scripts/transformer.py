"""A character transformer of any size, trained by AdamW at five rates and by the rules named.

    python scripts/transformer.py --rules relative_adam anchored_mlp --out transformer.json
    python scripts/transformer.py --rules relative_adam:learning_rate=0.05 --width 64 --depth 2

All begin at the same point and take the same minibatches. AdamW has a warm-up and a cosine decay.
What the file given by --out already has is not trained again.
"""

import argparse
import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import contenders
import jax
import jax.numpy as jnp
import numpy as np
import optax

import learned_opt
from learned_opt.files import write_json
from meta_train.cli.startup import start_jax
from tasks import data
from tasks.base import MissingData

VALIDATION = 256  # sequences


def read(name: str, length: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The training text, sequences of length + 1 for validation, and how many characters there are.

    name: a dataset of text, as tasks.data.load takes it.
    """
    parts = data.load(name)
    texts = [parts[split]["text"].ravel() for split in ("train", "inner_valid")]
    characters = np.unique(np.concatenate(texts))
    train, valid = (np.searchsorted(characters, text) for text in texts)
    if len(valid) <= length:
        raise ValueError(f"length: {length} is not allowed; {name} is validated on {len(valid)}")
    starts = np.linspace(0, len(valid) - length - 1, VALIDATION).astype(int)
    return train, valid[starts[:, None] + np.arange(length + 1)], len(characters)


def minibatches(text: np.ndarray, seed: int, batch: int, length: int) -> Iterator[np.ndarray]:
    """Sequences of length + 1 from random places of the text, without end."""
    random = np.random.default_rng(seed)
    while True:
        starts = random.integers(len(text) - length, size=(batch, 1))
        yield text[starts + np.arange(length + 1)]


def init(key: jax.Array, characters: int, width: int, depth: int, length: int) -> Any:
    """Matrices of variance 1 / fan-in, embeddings of variance 1 / width, biases 0, norms 1."""
    keys = iter(jax.random.split(key, 3 + 6 * depth))

    def matrix(rows: int, columns: int, fan_in: int) -> jax.Array:
        return jax.random.normal(next(keys), (rows, columns)) / np.sqrt(fan_in)

    def linear(inputs: int, outputs: int) -> Any:
        return {"kernel": matrix(inputs, outputs, inputs), "bias": jnp.zeros(outputs)}

    def norm() -> Any:
        return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}

    def layer() -> Any:
        square = {n: matrix(width, width, width) for n in ("query", "key", "value", "out")}
        mlp = {"up": linear(width, 4 * width), "down": linear(4 * width, width)}
        return square | mlp | {"norm": norm(), "mlp_norm": norm()}

    return {
        "characters": matrix(characters, width, width),
        "positions": matrix(length, width, width),
        "layers": [layer() for _ in range(depth)],
        "norm": norm(),
        "read": linear(width, characters),
    }


def linear(p: Any, x: jax.Array) -> jax.Array:
    return x @ p["kernel"] + p["bias"]


def norm(p: Any, x: jax.Array) -> jax.Array:
    return jax.nn.standardize(x, epsilon=1e-6) * p["scale"] + p["bias"]


def predict(params: Any, seen: jax.Array, heads: int) -> jax.Array:
    """The logits of the character after each of those seen: (sequences, length, characters)."""
    x = params["characters"][seen] + params["positions"]
    for p in params["layers"]:
        y = norm(p["norm"], x)
        split = lambda name: (y @ p[name]).reshape(*y.shape[:2], heads, -1)  # noqa: B023
        found = jax.nn.dot_product_attention(
            split("query"), split("key"), split("value"), is_causal=True
        )
        x += found.reshape(x.shape) @ p["out"]
        x += linear(p["down"], jax.nn.gelu(linear(p["up"], norm(p["mlp_norm"], x))))
    return linear(params["read"], norm(params["norm"], x))


def loss_fn(params: Any, sequences: jax.Array, heads: int) -> jax.Array:
    """Mean cross-entropy of all characters but the first, each from those before it, in nats."""
    logits = predict(params, sequences[:, :-1], heads)
    return optax.softmax_cross_entropy_with_integer_labels(logits, sequences[:, 1:]).mean()


def kept(path: Path | None, setting: dict[str, Any]) -> dict[str, Any]:
    """The results in the file, where there are any; ValueError if they are of another setting."""
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text())
    if found.get("setting") != setting:
        raise ValueError(f"{path}: holds results of {found.get('setting')}, not of {setting}")
    return found["results"]


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """contender -> training loss, validation loss and milliseconds of a step."""
    names = contenders.adamw(args.rates) + args.rules
    rules = {name: contenders.build(name, args.steps) for name in names}
    setting = {
        key: value for key, value in vars(args).items() if key not in ("rules", "rates", "out")
    }
    results = kept(args.out, setting)
    text, held_out, characters = read(args.text, args.length)
    start = init(jax.random.key(args.seed), characters, args.width, args.depth, args.length)
    print(f"{sum(leaf.size for leaf in jax.tree.leaves(start)):,} parameters", flush=True)
    loss = partial(loss_fn, heads=args.heads)
    validate = jax.jit(loss)
    steps = {name: contenders.training_step(loss, tx) for name, tx in rules.items()}

    def training(name: str) -> contenders.Run:
        batches = minibatches(text, args.seed, args.batch, args.length)
        return contenders.run(steps[name], start, rules[name].init(start), batches)

    def keep() -> None:
        if args.out:
            write_json(args.out, {"setting": setting, "results": results})

    for name in names:
        if name in results:
            continue
        losses = []
        for reached in islice(training(name), args.steps):
            losses.append(reached.loss)
        valid = validate(learned_opt.eval_params(reached.state, reached.params), held_out)
        results[name] = {
            "train": contenders.finite(contenders.final(losses)),
            "valid": contenders.finite(valid),
        }
        keep()
        print(f"{name}: {results[name]}", flush=True)
    timed = contenders.of_own_cost(names)
    if any("ms" not in results[name] for name in timed):
        took = contenders.milliseconds({name: training(name) for name in timed})
        for name in timed:
            results[name]["ms"] = took[name]
        keep()
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", nargs="+", default=[], metavar="NAME[:key=value:...]")
    rates = list(contenders.RATES)
    parser.add_argument("--rates", nargs="*", type=float, default=rates, help="of AdamW")
    sizes = {"width": 192, "depth": 4, "heads": 4, "steps": 400, "batch": 16, "length": 64}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--seed", type=int, default=0, help="of the start and the minibatches")
    parser.add_argument("--text", default="documentation", help="a dataset of text, or text:FILE")
    parser.add_argument(
        "--out", type=contenders.result_file, help="a JSON file, read first where it exists"
    )
    args = parser.parse_args(arguments)
    if low := [name for name in sizes if getattr(args, name) < 1]:
        parser.error(f"--{low[0]}: {getattr(args, low[0])} is not allowed; it must be at least 1")
    if not args.rates and not args.rules:
        parser.error("--rates: without one, --rules must name a rule")
    if args.width % args.heads:
        parser.error(f"--heads: {args.heads} does not divide --width {args.width}")
    start_jax()
    try:
        results = compare(args)
    except (ValueError, MissingData) as error:
        parser.error(str(error))
    print(contenders.table(results))


if __name__ == "__main__":
    main()
