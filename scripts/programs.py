"""Four training programs as users write them, under AdamW at five rates and under other rules.

    python scripts/programs.py --rules relative_adam hierarchical_rnn --out programs.json

Within a program all begin at the same points and take the same minibatches. AdamW has a warm-up and
a cosine decay. Losses are means over seeds; that of training is the mean of the last twentieth of
the steps.
"""

import argparse
from itertools import islice
from typing import Any

import contenders
import jax
import numpy as np
import optax
from four_programs import PROGRAMS, Program

import learned_opt
from learned_opt.files import write_json
from learned_opt.use import DEFAULT
from meta_train.cli.startup import start_jax
from tasks.base import MissingData


def compare(program: Program, names: list[str], seeds: int) -> dict[str, dict[str, Any]]:
    """contender -> final losses, what else validation gives, and milliseconds of a step."""
    rules = {name: program.around(contenders.build(name, program.steps)) for name in names}
    steps = {name: contenders.training_step(program.loss, tx) for name, tx in rules.items()}
    validate = jax.jit(program.validate)
    mix = jax.jit(lambda new, old: optax.incremental_update(new, old, program.averaging))
    starts = [program.init(jax.random.key(seed)) for seed in range(seeds)]

    def training(name: str, seed: int) -> contenders.Run:
        start = starts[seed]
        return contenders.run(steps[name], start, rules[name].init(start), program.batches(seed))

    def one(name: str, seed: int) -> dict[str, Any]:
        losses, average = [], starts[seed]
        for reached in islice(training(name, seed), program.steps):
            losses.append(reached.loss)
            if program.averaging:
                average = mix(reached.params, average)
        found = validate(learned_opt.eval_params(reached.state, reached.params))
        if program.averaging:
            found["averaged"] = validate(average)["valid"]
        return {"train": contenders.final(losses), "valid": found.pop("valid"), **found}

    results = {}
    for name in names:
        runs = [one(name, seed) for seed in range(seeds)]
        results[name] = {
            key: contenders.finite(np.mean([float(run[key]) for run in runs])) for key in runs[0]
        }
    timed = contenders.of_own_cost(names)
    took = contenders.milliseconds({name: training(name, 0) for name in timed})
    for name in timed:
        results[name]["ms"] = took[name]
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rules", nargs="+", default=[DEFAULT], metavar="NAME[:key=value:...]")
    parser.add_argument(
        "--programs",
        nargs="+",
        default=list(PROGRAMS),
        choices=PROGRAMS,
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=contenders.result_file, help="a JSON file to write")
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error(f"--seeds: {args.seeds} is not allowed; it must be at least 1")
    start_jax()
    names, results = contenders.adamw(contenders.RATES) + args.rules, {}
    try:
        for name in args.programs:
            program = PROGRAMS[name]()
            results[name] = compare(program, names, args.seeds)
            print(f"{name}, {program.steps} steps\n{contenders.table(results[name])}\n", flush=True)
            if args.out:
                write_json(args.out, {"seeds": args.seeds, "programs": results})
    except (ValueError, MissingData) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
