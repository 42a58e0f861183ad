"""The authors' FastTD3, its own lines run from the checkout that FASTTD3 names."""

import ast
import os
import sys
from pathlib import Path
from types import SimpleNamespace as Named

import torch
from torch import autocast, optim

sys.path.insert(0, os.path.join(os.environ["FASTTD3"], "fast_td3"))
import fast_td3

TRAIN = ast.parse(Path(sys.path[0], "train.py").read_text()).body
MAIN = next(node for node in TRAIN if getattr(node, "name", "") == "main")
WANTED = "update_main update_pol soft_update actor qnet qnet_target q_optimizer actor_optimizer"
NAMES = [getattr(node, "name", ast.unparse(node).split(" = ")[0]) for node in MAIN.body]
SETUP = [node for n, node in zip(NAMES, MAIN.body, strict=True) if n in WANTED.split()]
LOOPS = [node for node in ast.walk(MAIN) if isinstance(node, ast.For)]
LEARN = next(node for node in LOOPS if "args.num_updates" in ast.unparse(node.iter)).body
LAYERS = ("net.0", "net.2", "fc_head.0", "fc_head.2")
ARGS = Named(use_cdq=True, disable_bootstrap=0, use_grad_norm_clipping=0, policy_frequency=2)
OWN = {**vars(fast_td3), "device": "cpu", "env_type": "", "envs": Named(asymmetric_obs=False)}
OWN |= {"args": ARGS, "i": 1, "amp_device_type": "cpu", "amp_enabled": False, "amp_dtype": None}
OWN |= {"actor_cls": fast_td3.Actor, "critic_cls": fast_td3.Critic, "action_low": -1}
OWN |= {"optim": optim, "autocast": autocast, "normalize_obs": lambda x: x, "action_high": 1}
OWN |= {"normalize_reward": lambda x: x, "scaler": torch.amp.GradScaler(enabled=False)}


class Agent:
    settings = {"actor_sizes": (16, 8, 4), "critic_sizes": (16, 8, 4)}
    names = {f"qnet/qnet{k}.{LAYERS[i]}": f"critic{k}/{i}" for k in (1, 2) for i in range(4)}
    names |= {f"actor/{LAYERS[i]}": f"actor/{i}" for i in range(3)} | {"actor/fc_mu.0": "actor/3"}

    def __init__(self, spec):
        c, (obs, act) = spec.config, (spec.observation_size, spec.action_size)
        vars(ARGS).update(vars(c), critic_learning_rate=c.critic_lr, actor_learning_rate=c.actor_lr)
        size = {"n_obs": obs, "n_act": act, "hidden_dim": 16}
        atoms = {"num_atoms": c.num_atoms, "v_min": c.v_min, "v_max": c.v_max}
        OWN["critic_kwargs"] = {**size, **atoms, "sim_type": "", "sim_dimension": 64, "seq_len": 8}
        OWN["actor_kwargs"] = {**size, "num_envs": 1, "init_scale": c.init_scale}
        OWN.update(policy_noise=c.target_noise, noise_clip=c.noise_clip)
        exec(compile(ast.Module(SETUP, []), "train.py", "exec"), OWN)
        target = {"qnet": OWN["qnet_target"]}
        self.modules = {"actor": OWN["actor"], "qnet": OWN["qnet"], "target": target}

    def update(self, batch, noise):
        obs, action, reward, _, next_obs, end = map(torch.as_tensor, batch.values())
        after = {"observations": next_obs, "rewards": reward, "dones": end.long()}
        after |= {"truncations": 0 * end.long(), "effective_n_steps": 1 + 0 * end.long()}
        data = {"observations": obs, "actions": action, "next": after}
        torch.randn_like = lambda x: torch.as_tensor(noise["target"])
        OWN.update(rb=Named(sample=lambda size: data), i=1 - OWN["i"], logs_dict={})
        exec(compile(ast.Module(LEARN, []), "train.py", "exec"), OWN)
        logs = OWN["logs_dict"]
        return {"critic_loss": logs["qf_loss"], "actor_loss": logs.get("actor_loss")}
