"""What a probe is: a callable, and what proves that its calls did the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Probe:
    """One thing to call again and again, and how its work is proved."""

    unit: str
    units_per_call: int
    call: Callable[[], Any]
    """Does the work; what it returns may still be on its way."""
    held: Callable[[], Any] = tuple
    """The state that calls leave behind, to be waited for with what they returned."""
    expected: Mapping[str, int] = field(default_factory=dict)
    """Counted work of one call: `env_steps`, `updates`."""
    counted: Callable[[], dict[str, int]] = dict
    """The same, counted so far by what does the work."""
    weights: Callable[[], Mapping[str, np.ndarray]] = dict
    learns: bool = False
    """Whether calls have to change the weights."""
    numbers: Callable[[Any], dict[str, float]] = lambda output: {}
    """Named numbers out of a call's output, that have to be finite."""
    inputs: Callable[[], Iterable[np.ndarray]] = tuple
    """What calls are fed; none of it may be zeros, or one number throughout."""
    varies: Callable[[], bool] | None = None
    """Whether outputs depend on inputs and weights: asked once, of probes that do not learn."""
    compiles: bool = False
    """Whether compiling is part of the work: then nothing is locked, and it is no flag."""
