"""VeLO, Celo and Celo-Adam in NumPy float64: tensor by tensor, every entry of every table."""

from typing import Any

import numpy as np
from helpers.moments import MomentOracle


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def linear(weights, x):
    return x @ weights["w"] + weights["b"]


def double(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: double(leaf) for name, leaf in tree.items()}
    return np.asarray(tree, np.float64)


class Losses:
    """The loss buffer and its nine features."""

    def __init__(self, num_steps):
        self.d = np.exp(-1.0 / np.logspace(1, np.log10(num_steps), 10))
        self.means, self.low, self.t = np.zeros(10), np.full(10, 999999999999.0), 0

    def step(self, loss):
        if self.t > 0:
            loss = min(loss, 2 * abs(max(self.means / (1 - self.d ** (self.t + 1)))))
        self.means = self.d * self.means + (1 - self.d) * loss
        self.t += 1
        now = self.means / (1 - self.d**self.t)
        self.low = np.minimum(self.low, now)
        if self.t <= 2:
            return np.zeros(9)
        pairs = zip(now[:-1], now[1:], self.low[:-1], strict=True)
        found = [(fast - low) / max(1e-8, slow - low) - 1 for fast, slow, low in pairs]
        return np.clip(found, -1, 1)


def fractions(t, num_steps):
    centres = [0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1]
    return np.array([np.tanh((t / num_steps - c) * 10) for c in centres])


class Controller:
    """The LSTM, a row for each tensor."""

    def __init__(self, weights, tensors):
        self.w = weights
        self.h = np.tile(weights["start"]["hidden"], (tensors, 1))
        self.c = np.tile(weights["start"]["cell"], (tensors, 1))

    def step(self, x):
        """Multipliers and hidden states of all tensors."""
        heard = np.maximum(linear(self.w["message"], x), 0).max(axis=0)
        x = linear(self.w["own"], x) + heard
        i, g, f, o = np.split(linear(self.w["lstm"], np.concatenate([x, self.h], 1)), 4, axis=1)
        self.c = sigmoid(f + 1) * self.c + sigmoid(i) * np.tanh(g)
        self.h = sigmoid(o) * np.tanh(self.c)
        return linear(self.w["step_size"], self.h)[:, 0], self.h


def network(weights, features):
    """Direction and magnitude of every scalar; features [30, *shape]."""
    axes = tuple(range(1, features.ndim))
    scale = (1e-5 + np.mean(features**2, axis=axes, keepdims=True)) ** -0.5
    x = np.moveaxis(features * scale, 0, -1)
    for i in range(3):
        x = x if i == 0 else np.maximum(x, 0)
        x = x @ weights[f"w{i}"] + weights[f"b{i}"]
    return x[..., 0], x[..., 1]


def log_size(x):
    return 0.5 * np.clip(np.log(1e-8 + np.abs(10 * np.asarray(x))), -5, 5)


class VeloOracle:
    """A run of `Velo` over a list of tensors."""

    def __init__(self, rule, theta, params, num_steps):
        self.rule, self.theta, self.num_steps, self.t = rule, double(theta), num_steps, 0
        self.p = [np.atleast_1d(np.asarray(p, np.float64)) for p in params]
        self.moments = [MomentOracle(p.shape) for p in self.p]
        self.losses = Losses(10 if rule.use_bugged_loss_features else num_steps)
        self.lstm = Controller(self.theta["controller"], len(params))

    def inputs(self, i, shared):
        p, past = self.p[i], self.moments[i]
        k = max(1e-9, np.mean(p**2)) ** -0.5
        means = [np.mean(k * m) for m in past.m]
        own = {
            "var_m": log_size([np.var(k * m) for m in past.m]),
            "mean_rms": log_size([np.mean(k * past.rms)]),
            "var_rms": log_size([np.mean((k * past.rms - mean) ** 2) for mean in means]),
            "rank": np.eye(5)[sum(n > 1 for n in p.shape)],
        } | shared
        flag = [] if self.rule.validation_flag is None else [[float(self.rule.validation_flag)]]
        return np.concatenate([own[name] for name in sorted(own)] + flag)

    def step(self, gradients, loss):
        shared = {
            "fraction_left": fractions(self.t, self.num_steps),
            "loss_features": self.losses.step(float(loss)),
        }
        state = self.lstm.h, self.lstm.c
        x = np.stack([self.inputs(i, shared) for i in range(len(self.p))])
        multipliers, hidden = self.lstm.step(x)
        if self.rule.use_bugged_next_lstm_state:
            self.lstm.h, self.lstm.c = state
        seen = []
        for i, gradient in enumerate(gradients):
            controls = linear(self.theta["controller"]["controls"], hidden[i])
            weights = {
                name: self.rule.bank_mult
                * np.mean([c * w for c, w in zip(controls, leaf, strict=True)], axis=0)
                for name, leaf in self.theta["bank"].items()
            }
            direction, magnitude = network(weights, self.moments[i].features(self.p[i], gradient))
            step = multipliers[i] * direction * np.exp(self.rule.exp_mult * magnitude)
            if self.rule.param_scale_mult:
                scale = np.sqrt(np.mean(self.p[i] ** 2) + 1e-9)
                if self.rule.clip_param_scale_amount is not None:
                    largest = self.rule.clip_param_scale_amount * np.sqrt(self.p[i].size)
                    scale = min(scale, largest)
                step = step * scale
            seen.append(-self.rule.step_mult * step)
            self.p[i] = self.p[i] + seen[-1]
        self.t += 1
        return seen


class CeloOracle:
    """A run of `Celo` over a list of tensors; its schedule kept for every tensor."""

    def __init__(self, rule, theta, params, num_steps):
        self.rule, self.theta, self.num_steps, self.t = rule, double(theta), num_steps, 0
        self.p = [np.atleast_1d(np.asarray(p, np.float64)) for p in params]
        self.moments = [MomentOracle(p.shape) for p in self.p]
        self.losses = Losses(num_steps)
        self.lstm = Controller(self.theta.get("scheduler", self.theta), len(params))
        self.nu = [np.zeros(p.shape) for p in self.p]
        self.mu = [np.zeros(p.shape) for p in self.p]

    def multipliers(self, loss):
        shared = [fractions(self.t, self.num_steps), self.losses.step(float(loss))]
        x = np.tile(np.concatenate(shared), (len(self.p), 1))
        return 0.1 * np.exp(self.lstm.step(x)[0])

    def direction(self, i, gradient):
        features = self.moments[i].features(self.p[i], gradient)
        direction, magnitude = network(self.theta["network"], features)
        size = np.sqrt(np.mean(self.p[i] ** 2) + 1e-9)
        return direction * np.exp(self.rule.exp_mult * magnitude) * size

    def step(self, gradients, loss):
        seen = []
        for i, multiplier in enumerate(self.multipliers(loss)):
            step = self.direction(i, np.asarray(gradients[i], np.float64))
            seen.append(-self.rule.step_mult * multiplier * step)
            self.p[i] = self.p[i] + seen[-1]
        self.t += 1
        return seen


class CeloAdamOracle(CeloOracle):
    def direction(self, i, gradient):
        g = np.clip(gradient.reshape(self.p[i].shape), -1000, 1000)
        self.mu[i] = 0.9 * self.mu[i] + 0.1 * g
        self.nu[i] = 0.999 * self.nu[i] + 0.001 * g**2
        mean, square = (
            self.mu[i] / (1 - 0.9 ** (self.t + 1)),
            self.nu[i] / (1 - 0.999 ** (self.t + 1)),
        )
        return mean / (np.sqrt(square + 1e-10) + 1e-8)
