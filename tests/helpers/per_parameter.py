"""Per-parameter rules in NumPy float64: all features of the scalars of one tensor, written out."""

import numpy as np

TAUS = (1, 3, 10, 30, 100, 300, 1e3, 3e3, 1e4, 3e4, 1e5)


def network(w, features, t, taus=TAUS):
    """Outputs [*shape, outputs] from features, a list of arrays of one shape, after t steps."""
    x = np.stack([f * (1e-5 + np.mean(f**2)) ** -0.5 for f in features], -1)
    clock = [np.full(x.shape[:-1], np.tanh(t / tau - 1.0)) for tau in taus]
    x = np.concatenate([x, np.stack(clock, -1)], -1)
    depth = sum(name[0] == "w" for name in w)
    for i in range(depth):
        x = (np.maximum(x, 0.0) if i else x) @ w[f"w{i}"] + w[f"b{i}"]
    return x


def clipped(gradient, shape):
    return np.clip(np.asarray(gradient, np.float64).reshape(shape), -1000, 1000)


class AdafactorOracle:
    """The 28 features of 2203.11860, from accumulators whose decays theta moves."""

    BETAS = np.array([0.9, 0.99, 0.999])

    def __init__(self, theta, param):
        self.w = {name: np.asarray(leaf, np.float64) for name, leaf in theta.items()}
        self.p = np.atleast_1d(np.asarray(param, np.float64))
        self.t = 0
        self.m = [np.zeros_like(self.p) for _ in range(3)]
        self.v = np.zeros_like(self.p)
        self.full = [np.zeros_like(self.p) for _ in range(3)]
        self.factored = self.p.ndim > 1
        if self.factored:
            order = np.argsort(self.p.shape, kind="stable")
            self.d0, self.d1 = int(order[-1]), int(order[-2])
            self.row = [np.zeros_like(self.p.mean(self.d0)) for _ in range(3)]
            self.col = [np.zeros_like(self.p.mean(self.d1)) for _ in range(3)]

    def betas(self, name, first):
        return 1.0 - np.exp(10.0 * (np.log(1.0 - first) / 10.0 + self.w[f"{name}_offset"]))

    def second_moments(self, g, k, beta):
        """(row, column, factor of the gradient, factor of the momentum), all of the full shape."""
        square = g**2 + 1e-30
        if not self.factored:
            self.full[k] = v = beta * self.full[k] + (1.0 - beta) * square
            return v, v, np.maximum(v + 1e-9, 1e-9) ** -0.5, (v + 1e-6) ** -0.5
        self.row[k] = beta * self.row[k] + (1.0 - beta) * square.mean(self.d0)
        self.col[k] = beta * self.col[k] + (1.0 - beta) * square.mean(self.d1)
        left = self.d1 - 1 if self.d1 > self.d0 else self.d1
        centre = self.row[k].mean(left, keepdims=True)
        r = np.maximum(self.row[k] / (centre + 1e-9), 1e-9) ** -0.5
        c = np.maximum(self.col[k], 1e-9) ** -0.5

        def spread(x, axis):
            return np.broadcast_to(np.expand_dims(x, axis), self.p.shape)

        factor = spread(r, self.d0) * spread(c, self.d1)
        return spread(self.row[k], self.d0), spread(self.col[k], self.d1), factor, factor

    @property
    def inverse(self):
        return (self.v + 1e-6) ** -0.5

    def features(self, gradient):
        """In their order, with this gradient in the averages."""
        g = clipped(gradient, self.p.shape)
        betas = self.betas("momentum", self.BETAS)
        self.m = [b * m + (1 - b) * g for b, m in zip(betas, self.m, strict=True)]
        b = self.betas("square", 0.999)[0]
        self.v = b * self.v + (1 - b) * g**2
        kept = [
            self.second_moments(g, k, beta)
            for k, beta in enumerate(self.betas("factored", self.BETAS))
        ]
        features = [g, self.p, *self.m, self.v, *[m * self.inverse for m in self.m], self.inverse]
        features += [g * factor for _, _, factor, _ in kept]
        features += [row for row, _, _, _ in kept] + [col for _, col, _, _ in kept]
        features += [(row + 1e-8) ** -0.5 for row, _, _, _ in kept]
        features += [(col + 1e-8) ** -0.5 for _, col, _, _ in kept]
        return features + [m * factor for m, (_, _, _, factor) in zip(self.m, kept, strict=True)]
