"""Hand-made results of an evaluation."""

import numpy as np

from meta_train.evaluation import stats
from meta_train.evaluation.results import Grid, Report

STEPS = tuple(range(0, 101, 10))


def make_report(optimizers=("rule <b>", "wild", "adam (tuned)"), grids=True, **changes):
    """Two tasks, two seeds; `rule` twice as steep as the yardstick, `wild` fails on one seed.

    The yardstick's second trial ends lower on the test split, though not in training.
    """
    curve = np.stack([3.0 * np.exp(-0.03 * rate * np.array(STEPS)) for rate in (2.0, 0.5, 1.0)])
    train = np.broadcast_to(curve[:, None, None], (3, 2, 2, len(STEPS))).copy()
    train[:, 1] -= 5.0
    train[1, 0, 1, 4:] = np.nan
    train = train[: len(optimizers)]
    bound = np.array([[0.0, 0.0], [-5.0, -5.0]])
    tuned = Grid(
        ({"learning_rate": 1e-3}, {"learning_rate": 1e-2}),
        (0, 1),
        ((1.0, None), (0.5, 0.25)),
        seconds=((1e-5, 2e-5), (9e-5, 3e-5)),
    )
    given = dict(
        suite="two & more",
        fingerprint="",
        optimizers=tuple(optimizers),
        tasks=("first", "second"),
        seeds=(0, 1),
        eval_steps=STEPS,
        train_loss=train,
        test_loss=train + 0.5,
        lower_bound=bound,
        diverged=stats.find_diverged(train, np.broadcast_to(bound, train.shape[:-1])),
        seconds_per_step=np.full((len(optimizers), 2), 1e-5),
        grids={"adam (tuned)": tuned} if grids else {},
        settings={"steps": 100},
        versions={"jax": "0.0"},
        trial_loss={"adam (tuned)": np.stack([train[-1], 2.0 * train[-1] + 5.0])} if grids else {},
        trial_test_loss={"adam (tuned)": train[-1] + np.reshape([0.5, 0.2], (2, 1, 1, 1))}
        if grids
        else {},
        forms={"rule <b>": "learned", "wild": "cosine", "adam (tuned)": "constant"},
    )
    return Report(**(given | changes))
