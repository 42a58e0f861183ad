"""SAC in PyTorch without Tiebreak: `tiebreak verify --against sac sac_torch.py:Agent`."""

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F


def mlp(inputs, hidden, outputs):
    """Return dense layers with ReLU between them."""
    widths = [inputs, *hidden]
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in zip(widths, hidden, strict=False)]
    return nn.Sequential(
        *(part for pair in layers for part in pair), nn.Linear(widths[-1], outputs)
    )


class Agent:
    """Computes one update of SAC, as spec.config sets it."""

    names = {f"actor/{2 * i}": f"actor/{i}" for i in range(3)}
    names |= {f"critics/{k}.{2 * i}": f"critic{k + 1}/{i}" for k in range(2) for i in range(3)}
    names |= {"log_alpha": "log_alpha"}

    def __init__(self, spec):
        self.config = config = spec.config
        obs, act = spec.observation_size, spec.action_size
        self.actor = mlp(obs, config.hidden_sizes, 2 * act)
        self.critics = nn.ModuleList(mlp(obs + act, config.hidden_sizes, 1) for _ in range(2))
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = nn.Parameter(torch.tensor(0.0))
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), config.critic_lr)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), config.actor_lr)
        self.alpha_adam = torch.optim.Adam([self.log_alpha], config.alpha_lr)
        self.optimizers = [self.critic_adam, self.actor_adam, self.alpha_adam]
        self.modules = {"actor": self.actor, "critics": self.critics, "log_alpha": self.log_alpha}
        self.modules["target"] = {"critics": self.targets}

    def sample(self, obs, noise):
        mean, raw = self.actor(obs).chunk(2, -1)
        low, high = self.config.log_std_min, self.config.log_std_max
        log_std = low + 0.5 * (high - low) * (torch.tanh(raw) + 1)
        x = mean + log_std.exp() * noise
        normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        return x.tanh(), (normal - 2 * (math.log(2) - x - F.softplus(-2 * x))).sum(-1)

    def values(self, critics, obs, action):
        return torch.stack([q(torch.cat([obs, action], -1))[:, 0] for q in critics])

    def step(self, optimizer, loss, module):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {name: p.grad.clone() for name, p in module.named_parameters()}

    def update(self, batch, noise):
        b = {name: torch.as_tensor(x) for name, x in batch.items()}
        noise = {name: torch.as_tensor(x) for name, x in noise.items()}
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            action, log_prob = self.sample(b["next_obs"], noise["next_action"])
            value = self.values(self.targets, b["next_obs"], action).min(0).values
            target = b["reward"] + b["discount"] * (value - alpha * log_prob)
        error = self.values(self.critics, b["obs"], b["action"]) - target
        critic_loss = error.square().mean(1).sum()
        grad = {"critics": self.step(self.critic_adam, critic_loss, self.critics)}
        action, log_prob = self.sample(b["obs"], noise["action"])
        value = self.values(self.critics, b["obs"], action).min(0).values
        actor_loss = (alpha * log_prob - value).mean()
        grad["actor"] = self.step(self.actor_adam, actor_loss, self.actor)
        entropy = -self.sample(b["obs"], noise["action"])[1].mean().detach()
        target_entropy = -self.config.target_entropy_scale * action.shape[1]
        alpha_loss = self.log_alpha * (entropy - target_entropy)
        self.step(self.alpha_adam, alpha_loss, nn.Module())
        with torch.no_grad():
            for old, new in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                old.lerp_(new, self.config.tau)
        losses = {"critic_loss": critic_loss, "actor_loss": actor_loss, "alpha_loss": alpha_loss}
        return {"target": target, **losses, "grad": grad}
