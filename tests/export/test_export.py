"""Exported policies are the stored ones, to 1e-5, in every format; what is not is not written."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
import pytest

import tiebreak
from tiebreak import cli, registry
from tiebreak.core.errors import UsageError
from tiebreak.core.types import EnvSpec
from tiebreak.export import export, layers
from tiebreak.export.layers import LAYERS, greedy_policy
from tiebreak.frameworks.numpy import ops as oracle
from tiebreak.training import policy_files

BOX = EnvSpec.make(observation_shape=(3,), action_low=(-2.0, 0.0), action_high=(1.0, 0.5))
HIDDEN = dataclasses.replace(BOX, observation_shape=(5,), visible=3)
TABLE = EnvSpec.make(observation_shape=(2, 2), num_actions=3)
CHOICES = EnvSpec.make(observation_shape=(3,), nvec=(3, 1, 4))
IMAGE = EnvSpec.make(observation_shape=(9, 8, 2), action_low=(-2.0,), action_high=(1.0,))
PIXELS = EnvSpec.make(observation_shape=(36, 40, 1), num_actions=3, pixels=True)


class Case(NamedTuple):
    """A policy to store; its observations are normalized."""

    algorithm: str
    spec: EnvSpec
    settings: dict = {}  # noqa: RUF012, nobody changes it


MPO_SIZES = "hidden_sizes", "critic_sizes"
CASES = {
    "ppo-discrete": Case("ppo", TABLE),
    "ppo-choices": Case("ppo", CHOICES),
    "ppo-box": Case("ppo", BOX),
    "dqn": Case("dqn", TABLE),
    "dqn-c51": Case("dqn", TABLE, {"num_atoms": 5, "v_max": 90.0}),
    "pqn": Case("pqn", TABLE),
    "td3": Case("td3", BOX),
    "sac": Case("sac", BOX),
    "sac-discrete": Case("sac", TABLE),
    "mpo": Case("mpo", BOX),
    "fasttd3": Case("fasttd3", BOX),
    "fasttd3-privileged": Case("fasttd3", HIDDEN),
    "fastsac": Case("fastsac", BOX),
    "fastsac-privileged": Case("fastsac", HIDDEN),
    "ppo-cnn": Case("ppo", IMAGE, {"network": "cnn"}),
    "dqn-pixels": Case("dqn", PIXELS, {"network": "cnn", "normalize_obs": False}),
    "pqn-cnn": Case("pqn", PIXELS, {"network": "norm_cnn", "normalize_obs": False}),
    "sac-simba": Case("sac", BOX, {"network": "simba", "hidden_sizes": (8, 8)}),
    "mpo-simba": Case("mpo", BOX, {"network": "simba", **dict.fromkeys(MPO_SIZES, (8, 8))}),
}


def store(folder, case="sac", **settings):
    """Store a policy as trained: no weight is 0, and statistics are not 0 and 1."""
    algorithm, spec, own = CASES[case]
    config = registry.reference_config(algorithm, spec)
    names = [name for name in vars(config) if name.endswith("sizes")]
    settings = {"normalize_obs": True, **dict.fromkeys(names, (8, 6)), **own, **settings}
    config = dataclasses.replace(config, **settings)
    arrays = registry.data_module(algorithm).initial_weights(spec, config, 0)
    rng = np.random.default_rng(1)
    for name, array in arrays.items():
        if name.endswith(("kernel", "bias", "scale")):
            arrays[name] = (array + 0.3 * rng.standard_normal(array.shape)).astype(np.float32)
    arrays["obs_moments/mean"] = rng.normal(5.0, 3.0, spec.observation_size).astype(np.float32)
    arrays["obs_moments/var"] = rng.uniform(0.1, 9.0, spec.observation_size).astype(np.float32)
    about = {"task": "gymnasium/Some-v0", "framework": "torch", "seed": 0, "steps": 100}
    policy_files.save_policy(folder, arrays, algorithm, spec, config, **about)
    return folder


def needed(to):
    for package in export.FORMATS[to].packages:
        pytest.importorskip(package)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("to", ["onnx", "torch", "numpy", "safetensors"])
def test_a_file_is_its_policy(to, case, tmp_path):
    needed(to)
    exported = tiebreak.export_policy(store(tmp_path, case), to)
    assert exported.path.is_file()
    assert exported.difference <= 1e-5


@pytest.mark.slow(share=0.05)  # imports TensorFlow
@pytest.mark.parametrize("case", CASES)
def test_a_file_of_keras_is_its_policy(case, tmp_path):
    needed("keras")
    assert tiebreak.export_policy(store(tmp_path, case), "keras").difference <= 1e-5


@pytest.mark.parametrize("case", ["ppo-discrete", "dqn"])
def test_scores_are_the_oracle_s(case, tmp_path):
    stored = policy_files.load_policy(store(tmp_path, case))
    exported = tiebreak.export_policy(tmp_path, "numpy")
    obs = np.random.default_rng(2).normal(5.0, 3.0, (20, 2, 2)).astype(np.float32)
    found = registry.load(export.FORMATS["numpy"].module).run(exported.path, obs)
    weights = oracle.to_float64(stored.weights)
    rows = oracle.normalize_obs(stored.spec, stored.config, weights, obs.reshape(20, 4))
    network = registry.ALGORITHMS[stored.algorithm].greedy.network
    scores, _ = oracle.mlp(weights, network, rows, stored.config.activation)
    assert np.allclose(found["scores"], scores, atol=1e-5)
    assert (found["action"] == scores.argmax(-1)).all()


def test_a_choice_with_a_lower_score_counts_by_what_it_loses(tmp_path):
    greedy = greedy_policy(policy_files.load_policy(store(tmp_path, "ppo-choices")))
    obs = np.random.default_rng(2).normal(5.0, 3.0, (4, 3)).astype(np.float32)
    module = registry.load(export.FORMATS["numpy"].module)
    module.write(greedy, tmp_path / "policy.npz")
    found = module.run(tmp_path / "policy.npz", obs)
    assert found["action"].shape == (4, 3)
    assert found["scores"].shape == (4, 8)
    assert export.compare(greedy, obs, found, found["action"]) < 1e-5
    other = found["action"].copy()
    other[2, 2] = (other[2, 2] + 1) % 4
    lost = export.compare(greedy, obs, found, other)
    scores = found["scores"][2, 4:]
    expected = scores[found["action"][2, 2]] - scores[other[2, 2]]
    assert lost == pytest.approx(expected / max(1.0, np.abs(found["scores"]).max()), rel=1e-4)


@pytest.mark.parametrize("settings", [{"normalize_obs": False}, {"hidden_sizes": ()}])
def test_settings_that_leave_layers_out(settings, tmp_path):
    folder = store(tmp_path, "ppo-box", **settings)
    assert tiebreak.export_policy(folder, "numpy").difference <= 1e-5


def test_privileged_observations_are_no_input(tmp_path):
    path = tiebreak.export_policy(store(tmp_path, "fasttd3-privileged"), "numpy").path
    obs = np.random.default_rng(3).standard_normal((4, 5)).astype(np.float32)
    found = registry.load(export.FORMATS["numpy"].module).run(path, obs[:, :3])
    assert np.allclose(found["action"], tiebreak.load_policy(tmp_path).act(obs), atol=1e-5)


@pytest.mark.parametrize("case", ["dqn", "sac"])
def test_a_file_that_differs_is_refused_with_the_number(case, tmp_path, monkeypatch):
    module = registry.load(export.FORMATS["numpy"].module)
    write = module.write

    def write_wrong(policy, path):
        """Scale the outputs by a thousandth."""
        last = max(i for i, layer in enumerate(policy.layers) if isinstance(layer, LAYERS["dense"]))
        layers = list(policy.layers)
        layers[last] = layers[last]._replace(kernel=layers[last].kernel * np.float32(1.001))
        write(policy._replace(layers=tuple(layers)), path)

    monkeypatch.setattr(module, "write", write_wrong)
    with pytest.raises(
        UsageError, match=r"numpy file differ from the policy's by 0\.00\d+ on 1000"
    ):
        tiebreak.export_policy(store(tmp_path, case), "numpy")
    assert [path.name for path in tmp_path.iterdir()] == [policy_files.POLICY]


def test_scores_that_are_nearly_equal_have_no_order(tmp_path):
    greedy = greedy_policy(policy_files.load_policy(store(tmp_path, "dqn")))
    obs = np.random.default_rng(2).normal(5.0, 3.0, (4, 2, 2)).astype(np.float32)
    module = registry.load(export.FORMATS["numpy"].module)
    module.write(greedy, tmp_path / "policy.npz")
    found = module.run(tmp_path / "policy.npz", obs)
    other = (found["action"] + 1) % 3
    assert export.compare(greedy, obs, found, other) > 1e-3
    nan = {**found, "scores": np.full_like(found["scores"], np.nan)}
    assert np.isnan(export.compare(greedy, obs, nan, found["action"]))
    last = greedy.layers[-2]._replace(
        kernel=greedy.layers[-2].kernel * 1e-9, bias=greedy.layers[-2].bias * 1e-9
    )
    equal = greedy._replace(layers=(*greedy.layers[:-2], last, greedy.layers[-1]))
    tiny = {**found, "scores": np.zeros_like(found["scores"])}
    assert export.compare(equal, obs, tiny, other) < 1e-8


def test_the_command_writes_beside_the_policy_or_where_it_is_told(tmp_path, capsys):
    folder = store(tmp_path / "run")
    assert cli.main(["export", str(folder), "--to", "numpy"]) == 0
    assert str(folder / "policy.npz") in capsys.readouterr().out
    assert cli.main(["export", str(folder), "--to", "safetensors"]) == 0
    assert (folder / "exported-policy.safetensors").is_file()
    assert tiebreak.load_policy(folder).act(np.zeros(3)).shape == (2,)  # the policy is still there
    out = tmp_path / "elsewhere" / "mine.npz"
    assert (
        cli.main(["export", str(folder / "policy.safetensors"), "--to", "numpy", "-o", str(out)])
        == 0
    )
    assert out.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "onxx"], "unknown format 'onxx'; did you mean 'onnx'?"),
        (["--to", "numpy", "-o", "a.onnx"], "--to numpy writes a file that ends in .npz"),
        (["--to", "safetensors", "-o", "{run}/policy.safetensors"], "is the policy itself"),
        (["--to", "numpy", "-o", "/proc/no/a.npz"], "cannot write '/proc/no/a.npz'"),
        (["--to", "numpy", "--framework", "trch"], "unknown framework 'trch'"),
        ([], "the following arguments are required: --to"),
    ],
)
def test_what_cannot_be_is_one_line(words, message, tmp_path, capsys):
    folder = store(tmp_path)
    words = [word.replace("{run}", str(folder)) for word in words]
    assert cli.main(["export", str(folder), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "missing_packages", lambda packages: list(packages))
    with pytest.raises(UsageError, match=r"--to onnx needs onnx, onnxruntime, .*\[export\]'"):
        tiebreak.export_policy(store(tmp_path), "onnx")


def test_exporting_draws_no_random_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    folder = store(tmp_path)
    tiebreak.export_policy(folder, "torch")
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    tiebreak.export_policy(folder, "torch")
    assert (torch.random.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_networks_that_are_no_row_of_layers_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delitem(layers.TORSOS, "simba")
    stored = policy_files.load_policy(store(tmp_path, "sac-simba"))
    with pytest.raises(UsageError, match="network 'simba' cannot be exported") as caught:
        greedy_policy(stored)
    assert "\n" not in str(caught.value)
