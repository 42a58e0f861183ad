"""CleanRL's SAC, its own lines run from the checkout that CLEANRL names."""

import ast
import os
from pathlib import Path
from types import SimpleNamespace as Named

import torch

TREE = ast.parse(Path(os.environ["CLEANRL"], "cleanrl/sac_continuous_action.py").read_text()).body
UNUSED = "gymnasium", "tyro", "tensorboard", "cleanrl_utils", "__main__"
HEAD = [node for node in TREE if not any(word in ast.unparse(node) for word in UNUSED)]
MAIN = next(node for node in TREE if isinstance(node, ast.If)).body
STARTS = [ast.unparse(node).split(" = ")[0] for node in MAIN]
SETUP = MAIN[STARTS.index("actor") : STARTS.index("envs.single_observation_space.dtype")]
LEARN = next(node for node in MAIN if isinstance(node, ast.For)).body[-1].body
CRITICS = {"qf1": "critic1", "qf2": "critic2"}
CRITICS |= {f"{name}_target": f"target/{ours}" for name, ours in CRITICS.items()}


class Agent:
    settings = {"hidden_sizes": (256, 256), "critic_lr": 1e-3, "alpha_lr": 1e-3}
    names = {"log_alpha": "log_alpha", "actor/fc1": "actor/0", "actor/fc2": "actor/1"}
    names |= {"actor/fc_mean": "actor/2", "actor/fc_logstd": "actor/2"}
    names |= {f"{q}/fc{i + 1}": f"{ours}/{i}" for q, ours in CRITICS.items() for i in range(3)}

    def __init__(self, spec):
        box = Named(shape=(spec.action_size,), low=-1.0, high=1.0)
        seen = Named(shape=(spec.observation_size,))
        envs = Named(single_action_space=box, single_observation_space=seen)
        self.own = {"__file__": "sac.py", "device": "cpu", "envs": envs, "global_step": 0}
        self.run(HEAD)
        self.own["args"] = self.own["Args"](tau=spec.config.tau, policy_lr=spec.config.actor_lr)
        self.run(SETUP)
        self.modules = {name: self.own[name] for name in ("actor", *CRITICS, "log_alpha")}

    def run(self, nodes):
        exec(compile(ast.Module(nodes, []), "sac_continuous_action.py", "exec"), self.own)

    def update(self, batch, noise):
        keys = "observations", "actions", "rewards", "discounts", "next_observations", "dones"
        data = dict(zip(keys, map(torch.as_tensor, batch.values()), strict=True))
        data["dones"] = data["dones"].long()
        draws = map(torch.as_tensor, [noise["next_action"], noise["action"], *noise["more"]])
        torch.distributions.Normal.rsample = lambda self: self.loc + self.scale * next(draws)
        self.own |= {"rb": Named(sample=lambda size: Named(**data)), "actor_loss": None}
        self.own["alpha"] = self.own["log_alpha"].exp().item()
        self.own["global_step"] += 1
        self.run(LEARN)
        terms = {"target": "next_q_value", "critic_loss": "qf_loss", "actor_loss": "actor_loss"}
        return {ours: self.own[theirs] for ours, theirs in terms.items()}
