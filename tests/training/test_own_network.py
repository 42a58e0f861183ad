"""A network of the user's own, written as docs/training.md says."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hygiene.test_documents import blocks

import tiebreak
from tiebreak.commands.settings_file import read_settings
from tiebreak.core import user_modules
from tiebreak.core.errors import UsageError
from tiebreak.core.networks import Layers
from tiebreak.core.types import EnvSpec
from tiebreak.training import policy_files

torch = pytest.importorskip("torch")

MODULE = "my_networks"
TASK = "gymnasium/CartPole-v1"
SETTINGS = {"num_envs": 2, "num_steps": 16, "total_steps": 64, "network": f"{MODULE}:build"}


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """Write the document's module into the working folder; forget it afterwards."""
    (source,) = (x for x in blocks("python", "docs/training.md") if "def build(" in x)
    assert len(source.strip().splitlines()) <= 20
    (tmp_path / f"{MODULE}.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop(MODULE, None)
    user_modules.RUN.clear()


def trained(folder, **settings):
    return tiebreak.train(
        "ppo", "torch", TASK, mode="eager", out=folder, eval_episodes=1, progress=False,
        overrides={**SETTINGS, **settings},
    )  # fmt: skip


def test_it_trains_and_its_policy_acts(documented):
    result = trained(documented / "run")
    assert result.steps == 64
    policy = tiebreak.load_policy(documented / "run")
    assert policy.act(np.zeros(4)) in (0, 1)
    stored = policy_files.load_policy(documented / "run").weights
    assert stored["actor/encoder/weight"].shape == (4, 64)  # [in, out]
    assert np.abs(stored["adam/nu/critic/gate/weight"]).max() > 0


def test_a_policy_s_file_imports_nothing_by_itself(documented):
    trained(documented / "run")
    tiebreak.load_policy(documented / "run")  # named by its user, in this very process
    user_modules.RUN.clear()
    sys.modules.pop(MODULE)
    for use in (tiebreak.load_policy, tiebreak.evaluate):
        with pytest.raises(UsageError, match=r"own, 'my_networks:build', whose.*allow-import"):
            use(documented / "run")
    assert MODULE not in sys.modules
    tiebreak.load_policy(documented / "run", allow_import=True)


def test_a_policy_s_file_runs_no_function_of_python_s_own(tmp_path):
    spec = EnvSpec.make(observation_shape=(4,), num_actions=2)
    reference = tiebreak.registry.reference_config("dqn", spec)
    config = type(reference)(**{**vars(reference), "network": "os:kill"})
    arrays = tiebreak.registry.data_module("dqn").initial_weights(spec, config, 0)
    policy_files.save_policy(tmp_path, arrays, "dqn", spec, config, task=TASK, framework="torch")
    with pytest.raises(UsageError, match="names a network of someone's own, 'os:kill'"):
        tiebreak.load_policy(tmp_path)


def test_nor_does_a_file_of_settings(documented):
    (documented / "settings.toml").write_text(f'network = "{MODULE}:build"\n')
    with pytest.raises(UsageError, match=r"name it yourself with --set network=module:function"):
        read_settings("settings.toml", "ppo")


@pytest.mark.parametrize("algorithm", ["dqn", "sac", "fasttd3"])
def test_targets_begin_as_copies_and_seeds_differ(documented, algorithm):
    discrete = EnvSpec.make(observation_shape=(4,), num_actions=3)
    box = EnvSpec.make(observation_shape=(4,), action_low=[-1.0], action_high=[1.0])
    spec = discrete if algorithm == "dqn" else box
    reference = tiebreak.registry.reference_config(algorithm, spec)
    config = type(reference)(**{**vars(reference), "network": f"{MODULE}:build"})
    agent = tiebreak.make_agent(algorithm, "torch", spec, config, mode="eager")
    first, again, other = (agent.dump(agent.init(seed)) for seed in (0, 0, 1))
    name = "q/head/weight" if algorithm == "dqn" else "critic1/head/weight"
    np.testing.assert_array_equal(first[name], again[name])
    np.testing.assert_array_equal(first[name], first[f"target/{name}"])
    assert (first[name] != other[name]).any()


def test_a_state_without_a_seed_stays_the_user_s(documented):
    """Building the network draws from torch's generator, which goes on as if it had not."""
    from tiebreak.frameworks.torch.own_network import OwnNetwork

    own = OwnNetwork(f"{MODULE}:build", (4, 2), torch.float32)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    own.initial(0)
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("source", "network", "message"),
    [
        ("", "my_networks:build", "cannot be imported: .*build"),
        ("", "no_such_networks:build", "cannot be imported: No module named"),
        ("def build(a, b): return 3", "my_networks:build", "returned 3; it must be a Module"),
        (
            "import torch\ndef build(a, b): return torch.nn.BatchNorm1d(a)",
            "my_networks:build",
            "has buffers; only parameters are kept",
        ),
    ],
)
def test_what_is_no_network_is_one_line(tmp_path, monkeypatch, source, network, message):
    from tiebreak.frameworks.torch.networks import make_torso

    (tmp_path / f"{MODULE}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    try:
        with pytest.raises(UsageError, match=message) as caught:
            make_torso(Layers(network, (), "tanh"), (4,), (4, 2), torch.float32)
    finally:
        sys.modules.pop(MODULE, None)
    assert "\n" not in str(caught.value)


def test_other_frameworks_and_races_refuse_it():
    spec = EnvSpec.make(observation_shape=(4,), num_actions=2)
    reference = tiebreak.registry.reference_config("dqn", spec)
    config = type(reference)(**{**vars(reference), "network": f"{MODULE}:build"})
    with pytest.raises(UsageError, match=r"modules of torch \(--framework torch\); 'linen' has"):
        tiebreak.make_agent("dqn", "linen", spec, config)
