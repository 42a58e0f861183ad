"""`tiebreak evaluate`: run a stored policy from the command line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tiebreak import registry
from tiebreak.commands.options import Parser, print_json, stdout_for_json
from tiebreak.core.cache import keep_compiled_programs
from tiebreak.core.seeding import seed_global_generators

if TYPE_CHECKING:
    from tiebreak.training.evaluate import EvalResult


def parser() -> Parser:
    """Return the parser of `tiebreak evaluate`."""
    out = Parser(
        "evaluate",
        "Run a trained policy greedily, in the framework that trained it or in any other.",
        [
            "tiebreak evaluate runs/ppo-nnx-gymnax-CartPole-v1-s0",
            "tiebreak evaluate runs/ppo-nnx-gymnax-CartPole-v1-s0 --framework torch",
            "tiebreak evaluate runs/wide --episodes 100 --seed 7 --json",
        ],
    )
    out.add_argument(
        "directory", metavar="DIR", help="a folder that `tiebreak train` wrote, or a policy in it"
    )
    out.add_argument("--framework", help=f"{', '.join(registry.FRAMEWORKS)}; else the training's")
    out.add_argument("--mode", help="how the framework executes; see `tiebreak list`")
    out.add_argument("--episodes", type=int, default=16, metavar="N")
    out.add_argument("--seed", type=int, help="of the environments; else the training's")
    out.add_argument(
        "--eval-max-steps",
        type=int,
        metavar="N",
        help="cut episodes after N steps (default: the task's own limit, else 10000)",
    )
    out.add_argument("--task", help="another task with the same shapes; else the training's")
    out.add_argument("--device", default="cpu")
    out.add_argument(
        "--allow-import",
        action="store_true",
        help="import the module of the environment that the policy's file names",
    )
    out.add_json()
    return out


def run(args: argparse.Namespace) -> int:
    """Evaluate and print the returns."""
    from tiebreak.training.evaluate import evaluate

    keep_compiled_programs()
    seed_global_generators(args.seed or 0)
    with stdout_for_json(args.json):
        result = evaluate(
            args.directory,
            framework=args.framework,
            mode=args.mode,
            episodes=args.episodes,
            seed=args.seed,
            task=args.task,
            device=args.device,
            max_steps=args.eval_max_steps,
            allow_import=args.allow_import,
        )
    if result.cut:
        from tiebreak.loops.evaluate import describe_cut

        line = describe_cut(result.cut, len(result.returns), result.max_steps)
        print(f"tiebreak: {line}", file=sys.stderr)
    if args.json:
        print_json(result._asdict())
        return 0
    _print_table(result)
    return 0


def _print_table(result: EvalResult) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{result.algorithm} · {result.task} · {result.framework} {result.mode}"
    table = Table("episode", "greedy return", title=title)
    for number, value in enumerate(result.returns):
        table.add_row(str(number), f"{value:.2f}")
    console = Console()
    console.print(table)
    console.print(f"mean {result.mean:.2f} ± {result.std:.2f} over {len(result.returns)} episodes")
