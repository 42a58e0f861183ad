"""`tiebreak train`: train agents from the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tiebreak import registry
from tiebreak.commands.options import Failure, Parser, quoted
from tiebreak.core.cache import keep_compiled_programs
from tiebreak.core.config import parse_assignments, parse_sweeps
from tiebreak.core.process_env import PARENT, die_with_parent
from tiebreak.core.ranks import AUTO

if TYPE_CHECKING:
    from tiebreak.training.request import TrainingRequest
    from tiebreak.training.result import TrainResult

MOST_GROUPS = 20
"""Combinations of settings that are printed, the best first."""


def parser() -> Parser:
    """Return the parser of `tiebreak train`."""
    out = Parser(
        "train",
        "Train one agent, evaluate it greedily, and keep log and policy in a folder.",
        [
            "tiebreak train ppo --framework nnx --task gymnax/CartPole-v1",
            "tiebreak train dqn --framework linen --task gymnax/CartPole-v1 --eval-every 50000 \\\n"
            "      --out runs/dqn --resume",
            "tiebreak train ppo --framework nnx --task gymnax/CartPole-v1 --seeds 8 \\\n"
            "      --sweep learning_rate=1e-4,3e-4,1e-3 --sweep entropy_coef=0,0.01",
            "torchrun --nproc-per-node 2 -m tiebreak train sac --framework torch \\\n"
            "      --task gymnasium/HalfCheetah-v4 --set num_envs=8 --distributed",
            "tiebreak train sac --framework torch --task gymnasium/Pendulum-v1 --sampler tpe \\\n"
            "      --trials 40 --sweep actor_lr=1e-5..1e-2:log --executor submitit:partition=cpu",
        ],
    )
    out.add_argument("algorithm", help=", ".join(registry.ALGORITHMS))
    out.add_argument("--framework", required=True, help=", ".join(registry.FRAMEWORKS))
    out.add_argument("--task", required=True, help="engine/name; see `tiebreak list --tasks`")
    out.add_argument(
        "--mode",
        help="how the framework executes; see `tiebreak list` (torch without --mode: auto, which "
        "begins eager and goes on compiled)",
    )
    out.add_argument("--loop", help="host, or fused (JAX frameworks on device engines)")
    _add_seeds(out)
    _add_executors(out)
    _add_settings(out)
    _add_evaluations(out)
    _add_checkpoints(out)
    _add_trackers(out)
    _add_device(out)
    return out


def _add_settings(out: Parser) -> None:
    """Add the options of the algorithm's settings."""
    out.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="change one setting of the algorithm, e.g. total_steps=1e6; may be repeated "
        "(tiebreak list --settings ALGORITHM shows them)",
    )
    out.add_argument(
        "--config",
        metavar="FILE",
        help="take settings from a TOML or JSON file, or from a run's config.json; --set goes over "
        "them",
    )


def _add_trackers(out: Parser) -> None:
    """Add the option of trackers beside the log and the display."""
    out.add_argument(
        "--track",
        metavar="NAME,…",
        default="",
        help="log to these, too: tensorboard, wandb (offline without a key), mlflow",
    )


def _add_seeds(out: Parser) -> None:
    """Add the options that say which agents are trained."""
    out.add_argument("--seed", type=int, default=0)
    out.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N agents, with the seeds --seed and up: in one program where that is possible "
        "(JAX frameworks on device engines), else in processes",
    )
    out.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2,…",
        dest="sweeps",
        help="train N agents for each value of a setting; repeated: each combination. Lists stand "
        "in brackets: hidden_sizes=(64,64),(256,256)",
    )
    out.add_argument(
        "--sampler",
        default="",
        help="draw --trials combinations of --sweep with Optuna: random, or tpe, which learns from "
        "those before. A setting may then have a range: KEY=LOW..HIGH or KEY=LOW..HIGH:log",
    )
    out.add_argument("--trials", type=int, metavar="N", help="combinations that --sampler draws")
    out.add_argument(
        "--prune",
        action="store_true",
        help="end a trial of --sampler whose evaluations are below the median of others (needs "
        "--eval-every)",
    )


def _add_executors(out: Parser) -> None:
    """Add the options that say where many agents are trained."""
    out.add_argument(
        "--jobs",
        type=int,
        metavar="J",
        help="train the agents of --seeds and --sweep in processes, J at once (default: as many as "
        "there are CPUs; one on a GPU)",
    )
    out.add_argument(
        "--executor",
        default="",
        metavar="NAME[:OPTIONS]",
        help="who trains these agents: local (one program or one by one), processes:J, submitit "
        "(SLURM) or ray; options as in submitit:partition=gpu,timeout_min=240 or "
        "ray:address=auto,num_gpus=1. A job that is killed is started again, and goes on",
    )


def _add_device(out: Parser) -> None:
    """Add the options of device, threads and precision."""
    out.add_argument("--precision", default="float32", help=", ".join(registry.PRECISIONS))
    out.add_argument(
        "--device",
        default="cpu",
        help="cpu, or e.g. gpu where the framework sees one; gpu:all distributes the environments "
        "of a fused loop over all of them",
    )
    out.add_argument(
        "--distributed",
        nargs="?",
        const=AUTO,
        metavar="HOST:PORT,RANK,COUNT",
        help="train one agent in several processes, each started with this command: torch shares "
        "out environments and batches, JAX's fused loops environments, over the devices of all "
        "processes. Without a value (write it last), torch takes the addresses of torchrun, JAX "
        "those of SLURM, MPI or TPUs",
    )
    out.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="threads of the framework on a CPU (0, the default: as many as train fastest: one for "
        "each CPU, and a single one for small networks in TensorFlow)",
    )


def _add_evaluations(out: Parser) -> None:
    """Add the options of evaluations."""
    out.add_argument("--eval-episodes", type=int, default=16, metavar="N", help="0: no evaluation")
    out.add_argument(
        "--eval-every", type=int, default=0, metavar="STEPS", help="evaluate during training, too"
    )
    out.add_argument(
        "--eval-max-steps",
        type=int,
        metavar="N",
        help="cut episodes of evaluations after N steps (default: the task's own limit, else "
        "10000)",
    )
    out.add_argument(
        "--keep-best",
        action="store_true",
        help="keep the policy of the best evaluation, too: policy-best.safetensors (needs "
        "--eval-every)",
    )
    out.add_argument(
        "--stop-at",
        type=float,
        metavar="RETURN",
        help="end as soon as an evaluation's mean return reaches RETURN (needs --eval-every)",
    )


def _add_checkpoints(out: Parser) -> None:
    """Add the options of what a training leaves, goes on with, or begins with."""
    out.add_argument("--out", metavar="DIR", help="a new or empty folder; else one under runs/")
    out.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="STEPS",
        help="how often to store what --resume needs (default: ten times in a run); 0: never",
    )
    out.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in --out DIR, with the same settings or a larger total_steps",
    )
    out.add_argument(
        "--init-from",
        metavar="RUN",
        help="begin with the weights of a run's policy, of any framework; settings are free, but "
        "for the networks' shapes",
    )


def run(args: argparse.Namespace) -> int:
    """Train, and print speed, greedy returns and where the results are."""
    from tiebreak.training.executors import start
    from tiebreak.training.session import TrainingFailed

    keep_compiled_programs()
    if parent := os.environ.pop(PARENT, ""):  # of an agent among many (training/jobs.py)
        die_with_parent(int(parent))
    request = _request(args)
    try:
        result = start(request)
    except TrainingFailed as error:
        raise Failure(str(error)) from error

    if result.rank:  # rank 0 prints it
        return 0
    if request.seeds is None:
        _print_result(result)
        return 0
    _print_population(result)
    if failed := result.summary.get("failed"):
        raise Failure(
            f"{len(failed)} of {result.agents} agents failed, {failed[0]}; the same command with "
            f"--out {quoted(result.out)} --resume tries them again"
        )
    return 0


def _request(args: argparse.Namespace) -> TrainingRequest:
    """Return the training that the options ask for; --sweep alone is a population of one seed."""
    from tiebreak.envs.task import Task
    from tiebreak.training.request import Intervals, TrainingRequest

    seeds = 1 if args.seeds is None and args.sweeps else args.seeds
    return TrainingRequest(
        algorithm=args.algorithm,
        framework=args.framework,
        task=Task.parse(args.task),
        mode=args.mode,
        loop=args.loop,
        overrides=_overrides(args),
        seed=args.seed,
        seeds=seeds,
        sweep=parse_sweeps(args.sweeps),
        jobs=args.jobs,
        executor=args.executor,
        sampler=args.sampler,
        trials=args.trials,
        prune=args.prune,
        precision=args.precision,
        device=args.device,
        threads=args.threads,
        distributed=args.distributed,
        intervals=Intervals(
            eval_episodes=args.eval_episodes,
            eval_every=args.eval_every,
            checkpoint_every=args.checkpoint_every,
            eval_max_steps=args.eval_max_steps,
            keep_best=args.keep_best,
            stop_at=args.stop_at,
        ),
        out=args.out,
        resume=args.resume,
        init_from=args.init_from,
        track=args.track,
    )


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of --config, with those of --set over them."""
    assigned = parse_assignments(args.assignments)
    if args.config is None:
        return assigned
    from tiebreak.commands.settings_file import read_settings

    return {**read_settings(args.config, args.algorithm), **assigned}


def _print_result(result: TrainResult) -> None:
    print(f"{result.steps:,} steps in {result.wall_s:.1f} s: {_rate(result)}")
    if result.returns:
        mean = sum(result.returns) / len(result.returns)
        spread = f"{min(result.returns):.1f} to {max(result.returns):.1f}"
        print(f"greedy return {mean:.1f} over {len(result.returns)} episodes ({spread})")
    if curve := _curve(result):
        print(curve)
    if result.best is not None:
        path = result.out / result.best["policy"]
        at = f"{result.best['return_mean']:.1f} at {result.best['steps']:,} steps"
        print(f"best greedy return {at}: {path}")
    print(f"policy and log: {result.out}   (tiebreak evaluate {quoted(result.out)})")


def _curve(result: TrainResult) -> str:
    """Return the learning curve as a line of bars; empty for a run with fewer than two points.

    Greedy returns if the policy was evaluated during training, else those of its episodes.
    """
    from tiebreak.core.text import sparkline

    greedy, exploring = result.curves
    is_evaluated = len(greedy.steps) > 1
    returns = (greedy if is_evaluated else exploring).returns
    means = returns.mean(axis=tuple(range(1, returns.ndim)))
    points = means[means == means].tolist()
    if len(points) < 2:
        return ""
    what = "greedy returns" if is_evaluated else "returns while exploring"
    return f"{what} {points[0]:.1f} {sparkline(points)} {points[-1]:.1f}"


def _rate(result: TrainResult) -> str:
    """Return the rate in words, with the time that it leaves out."""
    rate = f"{result.steps_per_s:,.0f} steps/s"
    if result.first_s == result.wall_s:
        return f"{rate}, the first call included"
    return f"{rate} without {result.first_s:.1f} s of compiling and filling the replay"


def _print_population(result: TrainResult) -> None:
    from tiebreak.training.policy_files import AGENT_POLICIES

    print(
        f"{result.agents} agents, {result.steps:,} steps each in {result.wall_s:.1f} s: together "
        f"{_rate(result)}"
    )
    for line in _return_lines(result):
        print(line)
    if "by_settings" not in result.summary and (curve := _curve(result)):
        print(curve)
    first = min(result.out.glob(AGENT_POLICIES))
    print(f"policies and log: {result.out}   (tiebreak evaluate {quoted(first)})")


def _return_lines(result: TrainResult) -> list[str]:
    """Return a line about all agents and, where settings differ, one per setting, best first."""
    if not result.returns:
        return []
    episodes = f"means of {len(result.returns[0])} episodes by agent"
    lines = [f"greedy return, {episodes}: {_spread(result.summary)}"]
    groups = result.summary.get("by_settings", [])
    for group in groups[:MOST_GROUPS]:
        settings = [f"{k} {_text(v)}" for k, v in group.items() if not k.startswith("return_")]
        lines.append(f"  {', '.join(settings)}: {_spread(group)}")
    if len(groups) > MOST_GROUPS:
        lines.append(f"  … {len(groups) - MOST_GROUPS} more in {result.out / 'result.json'}")
    if pruned := result.summary.get("pruned"):
        lines.append(f"{pruned} agents were pruned: their trials were below the median")
    return lines


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spread(summary: Mapping[str, float]) -> str:
    iqm, low, high = (summary[f"return_{name}"] for name in ("iqm", "min", "max"))
    return f"IQM {iqm:.1f}, {low:.1f} to {high:.1f}"
