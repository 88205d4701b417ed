"""What Celo2's network reads of the scalars of one tensor, in NumPy float64, written out."""

import numpy as np


class LocalOracle:
    """One tensor p after t steps: its averages, none bias-corrected, and the network's inputs."""

    BETAS = (0.9, 0.99, 0.999)

    def __init__(self, param, square_decay):
        self.p = np.atleast_1d(np.asarray(param, np.float64))
        self.b2, self.t = square_decay, 0
        self.m = [np.zeros_like(self.p) for _ in self.BETAS]
        self.v = np.zeros_like(self.p)
        self.matrix = self.p.ndim > 1
        by_size = np.argsort(self.p.shape, kind="stable")
        self.d0, self.d1 = (int(by_size[-1]), int(by_size[-2])) if self.matrix else (None, None)
        self.row = [self.reduced(0.0 * self.p, self.d0) for _ in self.BETAS]
        self.col = [self.reduced(0.0 * self.p, self.d1) for _ in self.BETAS]

    def reduced(self, x, axis):
        return x.mean(axis, keepdims=True) if self.matrix else x

    def normal(self, x):
        axes = (-2, -1) if self.matrix else (-1,)
        return x * (1e-9 + np.mean(x**2, axis=axes, keepdims=True)) ** -0.5

    def remember(self, g):
        self.m = [b * m + (1 - b) * g for b, m in zip(self.BETAS, self.m, strict=True)]
        self.v = self.b2 * self.v + (1 - self.b2) * g**2
        for k, b in enumerate(self.BETAS):
            for kept, axis in ((self.row, self.d0), (self.col, self.d1)):
                kept[k] = b * kept[k] + (1 - b) * self.reduced(g**2 + 1e-30, axis)

    def inputs(self, g, unit=1.0):
        """The 30 inputs, 15 below rank 2, of the memory measured in `unit`."""
        g, v = g / unit, self.v / unit**2
        m = [x / unit for x in self.m]
        inverse = (v + 1e-8) ** -0.5
        row, col = [x / unit**2 for x in self.row], [x / unit**2 for x in self.col]
        if self.matrix:
            factor = [
                np.maximum(r / (r.mean(self.d1, keepdims=True) + 1e-9), 1e-9) ** -0.5
                * np.maximum(c, 1e-9) ** -0.5
                for r, c in zip(row, col, strict=True)
            ]
        else:
            factor = [(r + 1e-9) ** -0.5 for r in row]
        found = [g, np.clip(g, -0.1, 0.1), self.p, *m, v, *(x * inverse for x in m), inverse]
        found += [*(g * f for f in factor), g * inverse]
        if self.matrix:
            found += [*row, *col, *((x + 1e-8) ** -0.5 for x in row)]
            found += [(x + 1e-8) ** -0.5 for x in col]
            found += [x * f for x, f in zip(m, factor, strict=True)]
        return np.stack([self.normal(np.broadcast_to(x, self.p.shape)) for x in found], -1)
