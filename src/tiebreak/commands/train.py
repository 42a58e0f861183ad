"""`tiebreak train`."""

from __future__ import annotations

import argparse
import math
from typing import Any

from tiebreak import registry
from tiebreak.commands.options import Failure, Parser, quoted
from tiebreak.core.config import parse_assignments, parse_sweeps
from tiebreak.core.errors import UsageError


def parser() -> Parser:
    """What `tiebreak train` takes."""
    out = Parser(
        "train",
        "Train one agent, evaluate it greedily, and keep log and policy in a folder.",
        [
            "tiebreak train ppo --framework nnx --task gymnax/CartPole-v1",
            "tiebreak train ppo --framework linen --task gymnax/CartPole-v1 --loop host \\\n"
            "      --set num_envs=64 --set total_steps=1e6 --out runs/wide",
            "tiebreak train dqn --framework linen --task gymnax/CartPole-v1 --eval-every 50000 \\\n"
            "      --out runs/dqn --resume",
            "tiebreak train ppo --framework nnx --task gymnax/CartPole-v1 --seeds 8 \\\n"
            "      --sweep learning_rate=1e-4,3e-4,1e-3 --sweep entropy_coef=0,0.01",
        ],
    )
    out.add_argument("algorithm", help=", ".join(registry.ALGORITHMS))
    out.add_argument("--framework", required=True, help=", ".join(registry.FRAMEWORKS))
    out.add_argument("--task", required=True, help="engine/name; see `tiebreak list --tasks`")
    out.add_argument("--mode", help="how the framework executes; see `tiebreak list`")
    out.add_argument("--loop", help="host or fused (JAX frameworks on device engines)")
    _add_seeds(out)
    out.add_argument("--out", metavar="DIR", help="a new or empty folder; else one under runs/")
    out.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="change one setting of the algorithm, e.g. total_steps=1e6; may be repeated",
    )
    _add_intervals(out)
    _add_place(out)
    return out


def _add_seeds(out: Parser) -> None:
    """Which agent, or which of them."""
    out.add_argument("--seed", type=int, default=0)
    out.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N agents at once, with the seeds --seed and up (fused loops)",
    )
    out.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2,…",
        dest="sweeps",
        help="N agents for each value of a setting, all at once; repeated: for each combination",
    )


def _add_place(out: Parser) -> None:
    """Where, and in which precision."""
    out.add_argument("--precision", default="float32", help=", ".join(registry.PRECISIONS))
    out.add_argument(
        "--device",
        default="cpu",
        help="cpu, or e.g. gpu where the framework sees one; gpu:all shares the environments of a "
        "fused loop out",
    )


def _add_intervals(out: Parser) -> None:
    """What happens beside training, and how a run goes on."""
    out.add_argument("--eval-episodes", type=int, default=16, metavar="N", help="0: no evaluation")
    out.add_argument(
        "--eval-every", type=int, default=0, metavar="STEPS", help="evaluate on the way, too"
    )
    out.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="STEPS",
        help="how often to store all that --resume needs; else ten times in a run; 0: never",
    )
    out.add_argument(
        "--resume", action="store_true", help="go on in --out DIR, exactly, with the same settings"
    )


def run(args: argparse.Namespace) -> int:
    """Train and say in a few lines what came out."""
    from tiebreak.training.train_loop import TrainingFailed

    asked = (args.algorithm, args.framework, args.task)
    settings = {
        "mode": args.mode,
        "loop": args.loop,
        "seed": args.seed,
        "out": args.out,
        "overrides": parse_assignments(args.assignments),
        "precision": args.precision,
        "device": args.device,
        "eval_episodes": args.eval_episodes,
        "eval_every": args.eval_every,
    }
    try:
        (_many if args.seeds is not None or args.sweeps else _one)(args, asked, settings)
    except TrainingFailed as error:
        raise Failure(str(error)) from error
    return 0


def _one(args: argparse.Namespace, asked: tuple[str, str, str], settings: dict[str, Any]) -> None:
    from tiebreak.training.train import train

    result = train(
        *asked, **settings, checkpoint_every=args.checkpoint_every, resume=args.resume
    )  # fmt: skip
    print(
        f"{result.steps:,} steps in {result.wall_s:.1f} s: {result.steps_per_s:,.0f} steps/s "
        f"after the first {result.first_s:.1f} s, which compile"
    )
    if result.returns:
        mean = sum(result.returns) / len(result.returns)
        spread = f"{min(result.returns):.1f} to {max(result.returns):.1f}"
        print(f"greedy return {mean:.1f} over {len(result.returns)} episodes ({spread})")
    print(f"policy and log: {result.out}   (tiebreak evaluate {quoted(result.out)})")


def _many(args: argparse.Namespace, asked: tuple[str, str, str], settings: dict[str, Any]) -> None:
    from tiebreak.training.policy_files import AGENT_POLICY
    from tiebreak.training.population import train_population

    if args.resume or args.checkpoint_every:
        raise UsageError(
            "--seeds and --sweep store no checkpoints: leave out --resume and --checkpoint-every"
        )
    seeds, sweep = 1 if args.seeds is None else args.seeds, parse_sweeps(args.sweeps)
    result = train_population(*asked, seeds, sweep=sweep, **settings)
    agents = seeds * math.prod(map(len, sweep.values()))
    print(
        f"{agents} agents, {result.steps:,} steps each in {result.wall_s:.1f} s: together "
        f"{result.steps_per_s:,.0f} steps/s after the first {result.first_s:.1f} s, which compile"
    )
    for line in _returns_of_many(result):
        print(line)
    first = result.out / AGENT_POLICY.format(0)
    print(f"policies and log: {result.out}   (tiebreak evaluate {quoted(first)})")


def _returns_of_many(result: Any) -> list[str]:
    """A line on all agents; where settings differ, one for each of them, the best first."""
    if not result.returns:
        return []
    episodes = f"means of {len(result.returns[0])} episodes by agent"
    lines = [f"greedy return, {episodes}: {_spread(result.summary)}"]
    for group in result.summary.get("by_settings", []):
        own = ", ".join(f"{k} {v:g}" for k, v in group.items() if not k.startswith("return_"))
        lines.append(f"  {own}: {_spread(group)}")
    return lines


def _spread(found: dict[str, float]) -> str:
    iqm, least, most = (found[f"return_{name}"] for name in ("iqm", "min", "max"))
    return f"IQM {iqm:.1f}, {least:.1f} to {most:.1f}"
