"""The 30 features of 2211.09760 in NumPy float64, one scalar's row at a time, all shapes full."""

from dataclasses import dataclass, field

import numpy as np

BETAS = (0.9, 0.99, 0.999)


@dataclass
class MomentOracle:
    """Averages for one tensor; a scalar's shape is (1,)."""

    shape: tuple[int, ...]
    square_beta: float = 0.999
    square_eps: float = 1e-6
    m: list[np.ndarray] = field(init=False)

    def __post_init__(self):
        self.shape = self.shape or (1,)
        self.m = [np.zeros(self.shape) for _ in BETAS]
        self.rms = np.zeros(self.shape)
        self.full = [np.zeros(self.shape) for _ in BETAS]
        if len(self.shape) > 1:
            by_size = np.argsort(self.shape, kind="stable")
            self.d0, self.d1 = int(by_size[-1]), int(by_size[-2])
            self.row = [np.zeros(np.delete(self.shape, self.d0)) for _ in BETAS]
            self.col = [np.zeros(np.delete(self.shape, self.d1)) for _ in BETAS]

    def second(self, g, k, beta):
        """row, column, factor of the gradient, factor of the momentum."""
        square = g**2 + 1e-30
        if len(self.shape) < 2:
            self.full[k] = v = beta * self.full[k] + (1 - beta) * square
            return v, v, np.maximum(v + 1e-9, 1e-9) ** -0.5, v**-0.5
        self.row[k] = beta * self.row[k] + (1 - beta) * square.mean(self.d0)
        self.col[k] = beta * self.col[k] + (1 - beta) * square.mean(self.d1)
        left = self.d1 - 1 if self.d1 > self.d0 else self.d1
        centre = self.row[k].mean(left, keepdims=True)
        r = np.maximum(self.row[k] / (centre + 1e-9), 1e-9) ** -0.5
        c = np.maximum(self.col[k], 1e-9) ** -0.5
        spread = [
            np.broadcast_to(np.expand_dims(x, axis), self.shape)
            for x, axis in ((self.row[k], self.d0), (self.col[k], self.d1), (r, self.d0))
        ]
        factor = spread[2] * np.expand_dims(c, self.d1)
        return spread[0], spread[1], factor, factor

    def features(self, p, g):
        """All 30 for parameters p, with gradient g taken into the averages: [30, *shape]."""
        p, g = (np.asarray(x, np.float64).reshape(self.shape) for x in (p, g))
        g = np.clip(g, -1000, 1000)
        self.m = [b * m + (1 - b) * g for b, m in zip(BETAS, self.m, strict=True)]
        self.rms = self.square_beta * self.rms + (1 - self.square_beta) * g**2
        row, col, of_g, of_m = zip(
            *(self.second(g, k, b) for k, b in enumerate(BETAS)), strict=True
        )
        inverse = (self.rms + self.square_eps) ** -0.5
        rows = [g, np.clip(g, -0.1, 0.1), p, *self.m, self.rms]
        rows += [m * inverse for m in self.m] + [inverse]
        rows += [g * factor for factor in of_g] + [g * inverse, *row, *col]
        rows += [(x + 1e-8) ** -0.5 for x in (*row, *col)]
        rows += [m * factor for m, factor in zip(self.m, of_m, strict=True)]
        return np.stack(rows)
