"""MPO's temperature on the host, by SciPy; and the numbers that all its dual problems share.

The dual of maximising E_w[v] with KL(w ‖ uniform) ≤ ε over S samples, as a mean over B states
(Abdolmaleki et al. 2018), less the constant mean of max v:

    g(η) = η·(ε + mean_B log mean_S exp((v − max_S v)/η))    g′(η) = ε − KL(η)

It is convex, and KL falls from at most log S to 0 as η grows: the minimum is where KL(η) = ε.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LOWEST, HIGHEST = 1e-6, 1e6
"""What a temperature is kept within: where values are all equal there is no other lower bound."""
HALVINGS = 20
"""Of the bracket in log η: 27.6 / 2²⁰ = 2.6e-5 are left."""
NEWTONS = 4
"""Steps inside what is left; each squares the error."""
LEAST_LOG = -18.0
"""What dual variables that are trained are kept above, before softplus."""
TINY = 1e-30
"""Stands for a slope of 0: the step is then as far as the bracket allows."""


def slsqp(values: np.ndarray, epsilons: Sequence[float]) -> np.ndarray:
    """The temperatures [M] that minimise the duals of values [M, S, B], by SLSQP in float64."""
    values = np.asarray(values)
    found = [
        _minimum(v - v.max(axis=0), epsilon)
        for v, epsilon in zip(values.astype(np.float64), epsilons, strict=True)
    ]
    return np.array(found, values.dtype)


def dual(below: np.ndarray, epsilon: float, temperature: float) -> tuple[float, float]:
    """g and g′ at a temperature; below [S, B] is v − max v."""
    scaled = below / temperature
    powers = np.exp(scaled)
    mean = powers.mean(axis=0)
    log_mean = np.log(mean).mean()
    average = ((powers * scaled).mean(axis=0) / mean).mean()
    return temperature * (epsilon + log_mean), epsilon + log_mean - average


def _minimum(below: np.ndarray, epsilon: float) -> float:
    from scipy.optimize import minimize  # here: only who minimises waits for its import

    # Were exp a parabola, the minimum would lie at `unit`. Measured in it, and the dual in 2ε of
    # it, the problem has curvature 1 there, which is SLSQP's first guess, for values of any size.
    unit = float(np.clip(np.sqrt(below.var(axis=0).mean() / (2.0 * epsilon)), LOWEST, HIGHEST))

    def measured(x):
        value, slope = dual(below, epsilon, unit * float(x[0]))
        return value / (2.0 * epsilon * unit), np.array([slope / (2.0 * epsilon)])

    bounds, options = [(LOWEST / unit, HIGHEST / unit)], {"ftol": 1e-12, "maxiter": 100}
    result = minimize(measured, [1.0], jac=True, method="SLSQP", bounds=bounds, options=options)
    return float(np.clip(unit * result.x[0], LOWEST, HIGHEST))
