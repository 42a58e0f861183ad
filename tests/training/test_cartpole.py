"""PPO and PQN solve CartPole at the reference settings, in every framework."""

from __future__ import annotations

import pytest

import tiebreak
from tiebreak import registry


@pytest.mark.learning(share=0.015)
@pytest.mark.parametrize("algorithm", ["ppo", "pqn"])
@pytest.mark.parametrize("framework", [n for n, row in registry.FRAMEWORKS.items() if row.runtime])
def test_cartpole_is_solved_and_the_policy_travels(framework, algorithm, tmp_path):
    result = tiebreak.train(
        algorithm,
        framework,
        "gymnax/CartPole-v1",
        mode=registry.FRAMEWORKS[framework].default_mode,  # not `auto`: eager for most of the run
        seed=0,
        out=tmp_path / "run",
        progress=False,
    )
    assert sum(result.returns) / len(result.returns) >= 475
    assert result.steps == 976 * 512 == 244 * 2048  # whole iterations within 500k steps
    other = "torch" if framework != "torch" else "nnx"
    elsewhere = tiebreak.evaluate(tmp_path / "run", framework=other, mode=fast(other))
    assert elsewhere.returns == pytest.approx(result.returns)


def fast(framework: str) -> str:
    """A mode that needs no long compilation."""
    return "eager" if framework == "torch" else registry.FRAMEWORKS[framework].default_mode
