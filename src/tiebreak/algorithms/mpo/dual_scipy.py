"""MPO's temperature on the host, by SciPy, and constants of all its dual problems.

The dual of maximising E_w[v] with KL(w ‖ uniform) ≤ ε over S samples, as a mean over B states
(Abdolmaleki et al. 2018), less the constant mean of max v:

    g(η) = η·(ε + mean_B log mean_S exp((v − max_S v)/η))    g′(η) = ε − KL(η)

It is convex, and KL falls from at most log S to 0 as η grows: the minimum is where KL(η) = ε.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LOWEST, HIGHEST = 1e-6, 1e6
"""Bounds of a temperature; where all values are equal, nothing else bounds it from below."""
HALVINGS = 20
"""Halvings of the bracket in log η, which leave 27.6 / 2²⁰ = 2.6e-5."""
NEWTONS = 4
"""Newton steps inside the last bracket; each squares the error."""
LEAST_LOG = -18.0
"""Least value of trained dual variables, before softplus."""
TINY = 1e-30
"""Replaces a slope of 0: the step then goes as far as the bracket allows."""


def slsqp(values: np.ndarray, epsilons: Sequence[float]) -> np.ndarray:
    """Return the temperatures [M] that minimise the duals of values [M, S, B], in float64."""
    values = np.asarray(values)
    temperatures = []
    for objective, epsilon in zip(values.astype(np.float64), epsilons, strict=True):
        below = objective - objective.max(axis=0)
        temperatures.append(_minimize(below, epsilon))
    return np.array(temperatures, values.dtype)


def dual(below: np.ndarray, epsilon: float, temperature: float) -> tuple[float, float]:
    """Return g and g′ at a temperature; `below` [S, B] is v − max v."""
    scaled = below / temperature
    powers = np.exp(scaled)
    mean = powers.mean(axis=0)
    log_mean = np.log(mean).mean()
    average = ((powers * scaled).mean(axis=0) / mean).mean()
    return temperature * (epsilon + log_mean), epsilon + log_mean - average


def _minimize(below: np.ndarray, epsilon: float) -> float:
    """Return the temperature that minimises g."""
    from scipy.optimize import minimize  # slow to import, and needed only here

    # If exp were a parabola, the minimum would lie at `unit`. With temperatures in this unit and
    # the dual in units of 2ε · unit, the curvature there is 1, which is SLSQP's first guess, for
    # values of any size.
    unit = float(np.clip(np.sqrt(below.var(axis=0).mean() / (2.0 * epsilon)), LOWEST, HIGHEST))

    def scaled_dual(x):
        value, slope = dual(below, epsilon, unit * float(x[0]))
        return value / (2.0 * epsilon * unit), np.array([slope / (2.0 * epsilon)])

    result = minimize(
        scaled_dual,
        [1.0],
        jac=True,
        method="SLSQP",
        bounds=[(LOWEST / unit, HIGHEST / unit)],
        options={"ftol": 1e-12, "maxiter": 100},
    )
    return float(np.clip(unit * result.x[0], LOWEST, HIGHEST))
