"""What `learned-opt bench` prints. JAX is ready; a ValueError is about an argument."""

import argparse
import json
import sys
from typing import Any

from meta_train.config.model import Config


def meta(args: argparse.Namespace, config: Config, source: str) -> int:
    from meta_train.benchmarks import meta as benchmark_meta

    if args.sweep:
        rows = []
        for row in benchmark_meta.sweep(config, source, args.config, args.overrides):
            rows.append(row)
            if not args.json:
                print(benchmark_meta.line(row), flush=True)
        if args.json:
            print(json.dumps({"sweep": rows}))
        return 0
    found = benchmark_meta.meta(config, source, args.seconds or benchmark_meta.SECONDS)
    if args.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name}: {value:,.4g}" if isinstance(value, float) else f"{name}: {value}")
    return 0


def step(args: argparse.Namespace, config: Any, source: str) -> int:
    del config, source
    from meta_train.benchmarks import step as benchmark_step

    found = benchmark_step.step(args.overrides)
    print(json.dumps(found) if args.json else benchmark_step.lines(found))
    return 0


def tasks(args: argparse.Namespace, config: Any, source: str) -> int:
    del config, source
    from meta_train.benchmarks import tasks as benchmark_tasks
    from meta_train.benchmarks.timing import peak_memory

    rows = []
    for row in benchmark_tasks.tasks(args.overrides):
        rows.append(row)
        if not args.json:
            print(benchmark_tasks.line(row), flush=True)
    memory = peak_memory()
    if args.json:
        print(json.dumps({"tasks": rows, "peak_memory_mib": memory}))
    else:
        print(f"peak memory: {memory:,.0f} MiB")
    return 0


def controller(args: argparse.Namespace, config: Config, source: str) -> int:
    from meta_train.benchmarks import controller as benchmark_controller

    rows = []
    for row in benchmark_controller.controller(config, source):
        rows.append(row)
        if not args.json:
            print(benchmark_controller.line(row), flush=True)
    if args.json:
        print(json.dumps({"buckets": rows[:-1], "iteration": rows[-1]}))
    return 0


def evaluate(args: argparse.Namespace, config: Any, source: str) -> int:
    del config, source
    from meta_train.benchmarks import evaluation as benchmark_evaluate

    if args.overrides:
        raise ValueError(f"{args.overrides[0]}: bench evaluate takes no names")
    found = benchmark_evaluate.evaluation(lambda line: print(line, file=sys.stderr, flush=True))
    if args.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name}: {value:.1f}" if isinstance(value, float) else f"{name}: {value}")
    return 0
