"""The ring against a plain list of transitions, in every runtime, at the same indices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tiebreak import registry
from tiebreak.core.errors import UsageError
from tiebreak.core.off_policy import Batch, OffPolicyConfig, Transition
from tiebreak.core.types import EnvSpec
from tiebreak.frameworks import replay as base

BOX = EnvSpec.make(observation_shape=(2, 2), action_low=(-1.0, 0.0), action_high=(1.0, 3.0))
DISCRETE = EnvSpec.make(observation_shape=(3,), num_actions=4)
RUNTIMES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "linen"}


@dataclass(frozen=True)
class Config(OffPolicyConfig):
    num_envs: int = 3
    num_steps: int = 2
    replay_size: int = 31  # 5 rounds of 6, and a transition that does not fit
    gamma: float = 0.9


def rounds(spec: EnvSpec, config: Config, count: int, seed: int = 0):
    """`count` rounds [T, N, …] in which episodes end in both ways, now and then."""
    rng, shape = np.random.default_rng(seed), (config.num_steps, config.num_envs)
    for _ in range(count):
        obs, final = rng.standard_normal((2, *shape, *spec.observation_shape), dtype=np.float32)
        if spec.discrete:
            action = rng.integers(spec.action_size, size=shape, dtype=np.int32)
        else:
            action = rng.standard_normal((*shape, spec.action_size), dtype=np.float32)
        terminated = rng.random(shape) < 0.15
        truncated = (rng.random(shape) < 0.15) & ~terminated
        reward = rng.standard_normal(shape, dtype=np.float32)
        yield Transition(obs, action, reward, terminated, truncated, final)


def expected(spec: EnvSpec, config: Config, seen: list[Transition], index: np.ndarray) -> Batch:
    """What a list of all steps gives: written without a ring, a modulus or a mask."""
    steps = [Transition(*(x[t] for x in part)) for part in seen for t in range(config.num_steps)]
    kept = steps[-config.ring_length :]
    starts = [(t, e) for t in range(len(kept) - config.n_step + 1) for e in range(config.num_envs)]
    rows = []
    for t, env in (starts[i % len(starts)] for i in index.ravel()):
        reward, discount = 0.0, 1.0
        for k in range(config.n_step):
            last = kept[t + k]
            reward += config.gamma**k * last.reward[env]
            discount *= config.gamma
            if last.terminated[env] or last.truncated[env]:
                break
        stops = last.terminated[env] or (config.truncation == "terminal" and last.truncated[env])
        first = kept[t]
        rows.append(Batch(first.obs[env].ravel(), first.action[env], reward,
                          0.0 if stops else discount, last.next_obs[env].ravel()))  # fmt: skip
    columns = (np.array(column) for column in zip(*rows, strict=True))
    return Batch(*(x.reshape(*index.shape, *x.shape[1:]) for x in columns))


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    framework = RUNTIMES[request.param]
    if registry.missing_packages(registry.framework(framework).packages):
        pytest.skip(f"{framework} is not installed")
    return registry.make_runtime(framework, "eager")


def sampled(runtime, ring: base.Ring, index: np.ndarray) -> Batch:
    return runtime.to_numpy(ring._sample(ring.arrays, runtime.asarray(index)))


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("truncation", ["bootstrap", "terminal"])
@pytest.mark.parametrize("spec", [BOX, DISCRETE], ids=["box", "discrete"])
@pytest.mark.parametrize("count", [2, 5, 13])  # part of the ring, all of it, round and round
def test_the_ring_is_a_list_that_forgets(runtime, spec, truncation, n_step, count):
    config = Config(n_step=n_step, truncation=truncation)
    ring, seen = base.Ring(runtime, spec, config), list(rounds(spec, config, count))
    for rows in seen:
        ring.add(rows)
    starts = (min(config.ring_length, 2 * count) - n_step + 1) * config.num_envs
    far = np.random.default_rng(1).integers(2**31, size=40, dtype=np.int32)
    for index in (np.arange(starts, dtype=np.int32).reshape(1, -1), far.reshape(4, 10)):
        want = expected(spec, config, seen, index)
        for name, got in sampled(runtime, ring, index)._asdict().items():
            np.testing.assert_allclose(got, getattr(want, name), rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_ring_is_the_same_after_more_transitions_than_32_bits_count(runtime):
    config = Config()
    size = config.ring_length * config.num_envs
    ring, seen = base.Ring(runtime, BOX, config), list(rounds(BOX, config, 23))
    for rows in seen[:5]:
        ring.add(rows)
    stored = {name: np.array(array) for name, array in ring.dump().items()}
    # As a run that has come so far; whole turns of the ring, so that the rows are where they were.
    stored["count"] = np.array((2**31 - 30) // size * size, stored["count"].dtype)
    ring = base.Ring(runtime, BOX, config)
    ring.load(stored)
    index = np.arange(size, dtype=np.int32) * 7
    for number, rows in enumerate(seen[5:], 6):
        ring.add(rows)
        want = expected(BOX, config, seen[:number], index)
        for name, got in sampled(runtime, ring, index)._asdict().items():
            np.testing.assert_allclose(got, getattr(want, name), rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_count_that_is_bounded_means_the_same():
    size = 30
    count = 0
    for total in range(0, 400, 6):
        assert count < 2 * size
        assert min(count, size) == min(total, size)
        assert count % size == total % size
        count = base.bounded(count + 6, size)
    assert base.bounded(2**40 + 7, size) == size + (2**40 + 7) % size


def test_a_ring_whose_positions_do_not_fit_into_32_bits_is_refused():
    runtime = registry.make_runtime("linen", "eager")
    with pytest.raises(UsageError, match="at most 1073741824"):
        base.Ring(runtime, DISCRETE, Config(replay_size=2**31))


def test_some_of_what_is_compared_ends_in_each_way():
    """Otherwise the comparison above would prove less than it seems to."""
    seen = list(rounds(BOX, Config(), 13))
    ends = np.concatenate([[x.terminated.sum(), x.truncated.sum()] for x in seen[-5:]])
    assert ends.reshape(-1, 2).sum(0).min() >= 2


def test_the_runtimes_own_rows_are_written_as_numpy_is(runtime):
    config = Config()
    one, two = (base.Ring(runtime, BOX, config) for _ in range(2))
    for rows in rounds(BOX, config, 7):
        one.add(rows)
        two.add(Transition(*map(runtime.asarray, rows)))
    index = np.arange(12, dtype=np.int32).reshape(2, 6)
    for a, b in zip(sampled(runtime, one, index), sampled(runtime, two, index), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused_before_it_is_allocated(monkeypatch):
    class Elsewhere:
        """A device with memory of its own; None: without."""

        device = "cuda:0"
        own: int | None = None

        def memory(self):
            return {} if self.own is None else {"free_bytes": self.own}

    monkeypatch.setattr(base, "available_bytes", lambda: 3.0 * 2**30)
    config = Config(replay_size=10**8)
    with pytest.raises(UsageError, match=r"replay of 100000000 .* 4\.3 GiB.*replay_size=\d+ fits"):
        base.Ring(Elsewhere(), BOX, config)  # type: ignore[arg-type]
    Elsewhere.own = 2**30
    with pytest.raises(UsageError, match=r"1\.0 GiB are free on cuda:0; at most"):
        base.require_memory(Elsewhere(), BOX, config)  # type: ignore[arg-type]
    Elsewhere.own = 2**40
    base.require_memory(Elsewhere(), BOX, config)  # type: ignore[arg-type]


def test_the_bytes_are_those_of_the_arrays():
    runtime = registry.make_runtime("linen", "eager")
    for spec in (BOX, DISCRETE):
        ring = base.Ring(runtime, spec, Config())
        arrays = [x for x in ring.arrays if x.ndim]
        assert sum(x.nbytes for x in arrays) == base.required_bytes(spec, Config())
