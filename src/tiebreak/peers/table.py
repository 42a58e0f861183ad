"""List the libraries that can be contestants of a race, one row of facts for each.

Versions are those that were tested. torch, JAX, NumPy and their companions are never installed: a
peer uses those of Tiebreak's own environment, so that all contestants race on the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Peer(NamedTuple):
    """Facts about a library."""

    title: str
    """Its name in sentences."""
    version: str
    """Its version, or the first digits of the commit of its repository, that was tested."""
    url: str
    requirements: tuple[str, ...]
    """What pip installs into its environment."""
    packages: tuple[str, ...]
    """Array libraries that it imports, and what has to be importable once it is installed."""
    adapter: str
    """`module:function` that makes a contestant."""
    games: Mapping[str, tuple[str, ...]]
    """Algorithm -> engines that the adapter can play it on."""
    differences: Mapping[str, str]
    """Algorithm -> in what it is known to differ from ours, settings being equal where they can."""
    is_checkout: bool = False
    """True if it is no package: it runs from a checkout that the user names."""

    def distributions(self) -> tuple[str, ...]:
        """Return the names of the distributions among its requirements."""
        return tuple(re.split(r"[\[=<>~! ]", requirement)[0] for requirement in self.requirements)


GYMNASIUM, GYMNAX = ("gymnasium",), ("gymnax",)

PEERS = {
    "sb3": Peer(
        title="Stable-Baselines3",
        version="2.9.2",
        url="github.com/DLR-RM/stable-baselines3",
        requirements=("stable-baselines3==2.9.2",),
        packages=("torch", "stable_baselines3"),
        adapter="tiebreak.peers.sb3:make",
        games={"ppo": GYMNASIUM, "dqn": GYMNASIUM, "td3": GYMNASIUM, "sac": GYMNASIUM},
        differences={
            "ppo": (
                "the clipped value loss is taken without a maximum with the other; Monitor records "
                "every episode; the learning rate is constant"
            ),
            "dqn": (
                "the loss is Huber's; gradients are clipped to norm 10; Monitor records every "
                "episode"
            ),
            "td3": "one learning rate for all networks; Monitor records every episode",
            "sac": (
                "one learning rate for all networks; the temperature's gradient is of log α, and α "
                "is updated before the critics"
            ),
        },
    ),
    "sbx": Peer(
        title="SBX",
        version="0.28.0",
        url="github.com/araffin/sbx",
        requirements=("sbx-rl==0.28.0", "stable-baselines3==2.9.2"),
        packages=("torch", "jax", "flax", "optax", "sbx"),
        adapter="tiebreak.peers.sbx:make",
        games={"ppo": GYMNASIUM, "td3": GYMNASIUM, "sac": GYMNASIUM},
        differences={
            "ppo": (
                "policy and value have an optimizer each, clipped apart; the value loss is not "
                "clipped; Monitor records every episode; the learning rate is constant"
            ),
            "td3": (
                "target networks move with every update, not with every second; the actor's loss "
                "takes the smaller of both critics; one learning rate for all networks"
            ),
            "sac": (
                "one learning rate for all networks; the temperature takes log π of the actor's "
                "loss, where ours runs the policy once more"
            ),
        },
    ),
    "torchrl": Peer(
        title="TorchRL",
        version="0.14.1",
        url="github.com/pytorch/rl",
        requirements=("torchrl==0.14.1", "tensordict==0.14.3"),
        packages=("torch", "torchrl", "tensordict"),
        adapter="tiebreak.peers.torchrl:make",
        games={"ppo": GYMNASIUM},
        differences={
            "ppo": (
                "its parts are put together as in its example, uncompiled, with advantages "
                "computed once an iteration; several environments are a SerialEnv; observations "
                "are normalized by decaying statistics, rewards are not; initial weights are "
                "torch's; the learning rate is constant"
            ),
        },
    ),
    "skrl": Peer(
        title="skrl",
        version="2.0.0",
        url="github.com/Toni-SM/skrl",
        requirements=("skrl==2.0.0",),
        packages=("torch", "skrl"),
        adapter="tiebreak.peers.skrl:make",
        games={"ppo": GYMNASIUM},
        differences={
            "ppo": (
                "in torch; advantages are normalized over the whole iteration, whose minibatches "
                "are the same in every epoch; the clipped value loss is taken without a maximum "
                "with the other; at time limits the value of the last observation but one is "
                "added; rewards are not normalized; Adam's ε is 1e-8; initial weights are torch's; "
                "the learning rate is constant"
            ),
        },
    ),
    "tianshou": Peer(
        title="Tianshou",
        version="2.0.1",
        url="github.com/thu-ml/tianshou",
        requirements=("tianshou==2.0.1",),
        packages=("torch", "tianshou"),
        adapter="tiebreak.peers.tianshou:make",
        games={"ppo": GYMNASIUM},
        differences={
            "ppo": (
                "its trainer's loop without the trainer, which evaluates and logs; log π of the "
                "old policy is computed once more; rewards are not normalized, but returns are "
                "scaled; initial weights are torch's; the learning rate is constant"
            ),
        },
    ),
    "rejax": Peer(
        title="rejax",
        version="0.1.3",
        url="github.com/keraJLi/rejax",
        requirements=("rejax==0.1.3", "gymnax==0.0.9"),
        packages=("jax", "flax", "optax", "gymnax", "rejax"),
        adapter="tiebreak.peers.rejax:make",
        games={"ppo": GYMNAX},
        differences={
            "ppo": (
                "time limits are treated as ends; gradients are clipped element by element; policy "
                "and value have an optimizer each; Adam's ε is 1e-8; the learning rate is "
                "constant; the evaluation that its `train` has is left out"
            ),
        },
    ),
    "brax": Peer(
        title="brax.training",
        version="0.14.2",
        url="github.com/google/brax",
        requirements=("brax==0.14.2",),
        packages=("jax", "flax", "optax", "brax"),
        adapter="tiebreak.peers.brax:make",
        games={"ppo": ("brax", "playground")},
        differences={
            "ppo": (
                "a minibatch has whole rollouts of some environments; rewards are not normalized; "
                "Adam's ε is 1e-8; initial weights are LeCun's; the learning rate is constant; a "
                "function that newer versions of JAX lack is put in its place"
            ),
        },
    ),
    "purejaxrl": Peer(
        title="PureJaxRL",
        version="31756b1",
        url="github.com/luchris429/purejaxrl",
        requirements=("distrax==0.1.9", "gymnax==0.0.9", "brax==0.14.2", "flashbax==0.1.3"),
        packages=("jax", "flax", "optax", "gymnax", "distrax", "brax", "flashbax", "purejaxrl"),
        adapter="tiebreak.peers.purejaxrl:make",
        games={"ppo": GYMNAX, "dqn": GYMNAX},
        differences={
            "ppo": (
                "time limits are treated as ends; every call is a training of 100,000 steps (in a "
                "population, of 10,000 or more for each agent) from new weights; it returns the "
                "information of every step; networks are 64-64"
            ),
            "dqn": (
                "time limits are treated as ends; every call is a training of 100,000 steps from "
                "new weights and an empty replay, which learns as soon as it holds a batch; it "
                "returns the metrics of every step; networks are 120-84"
            ),
        },
        is_checkout=True,
    ),
    "benchback": Peer(
        title="benchback-rl",
        version="4d37058",
        url="github.com/KluvaDa/benchback-rl",
        requirements=("gymnax==0.0.9", "pyyaml==6.0.3"),
        packages=("torch", "jax", "flax", "optax", "gymnax"),
        adapter="tiebreak.peers.benchback:make",
        games={"ppo": GYMNAX},
        differences={
            "ppo": (
                "its PPO in Linen: rollout, advantages and updates are a program each, and metrics "
                "are read after every iteration; time limits are treated as ends; the activation "
                "is tanh; the learning rate is constant"
            ),
        },
        is_checkout=True,
    ),
    "cleanrl": Peer(
        title="CleanRL",
        version="fe8d8a0",
        url="github.com/vwxyzjn/cleanrl",
        requirements=("gymnasium==0.29.1", "tyro==1.0.17"),
        packages=("torch", "tyro", "cleanrl"),
        adapter="tiebreak.peers.cleanrl:make",
        games={"ppo": GYMNASIUM, "dqn": GYMNASIUM, "td3": GYMNASIUM, "sac": GYMNASIUM},
        differences={
            "ppo": (
                "time limits are treated as ends; networks are 64-64; the learning rate is "
                "constant; its logger writes nothing"
            ),
            "dqn": "one environment; networks are 120-84; its logger writes nothing",
            "td3": (
                "one learning rate for all networks, which are 256-256; its logger writes nothing"
            ),
            "sac": (
                "two updates of policy and temperature every second step; networks are 256-256; "
                "its logger writes nothing"
            ),
        },
        is_checkout=True,
    ),
    "fasttd3": Peer(
        title="official FastTD3",
        version="229ed59",
        url="github.com/younggyoseo/FastTD3",
        requirements=("tensordict==0.14.3", "tyro==1.0.17"),
        packages=("torch", "jax", "brax", "mujoco_playground", "tensordict", "tyro", "fast_td3"),
        adapter="tiebreak.peers.fasttd3:make",
        games={"fasttd3": ("playground",)},
        differences={
            "fasttd3": (
                "its observations reach torch through a wrapper of ours, as its authors' is in a "
                "fork of Playground; matrix products have torch's precision `high`; its logger "
                "writes nothing"
            ),
        },
        is_checkout=True,
    ),
}


def title(name: str) -> str:
    """Return a peer's name and version."""
    return f"{PEERS[name].title} {PEERS[name].version}"
