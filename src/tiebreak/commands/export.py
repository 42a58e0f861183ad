"""`tiebreak export`: write a trained policy as one file that needs no Tiebreak."""

from __future__ import annotations

import argparse

from tiebreak import registry
from tiebreak.commands.options import Parser


def parser() -> Parser:
    """Return the parser of `tiebreak export`."""
    out = Parser(
        "export",
        "Write a trained policy as one file that other programs load without Tiebreak: with the\n"
        "normalization of observations, and actions in the environment's units. The file is\n"
        "compared with the policy on 1000 random observations before it is kept.",
        [
            "tiebreak export runs/sac --to onnx",
            "tiebreak export runs/sac --to torch -o cheetah.pt2",
            "tiebreak export runs/wide/policy-007.safetensors --to numpy",
        ],
    )
    out.add_argument(
        "directory", metavar="RUN", help="a folder that `tiebreak train` wrote, or a policy in it"
    )
    out.add_argument("--to", required=True, help="onnx, torch, numpy, keras or safetensors")
    out.add_argument("-o", metavar="FILE", dest="out", help="default: policy.onnx, … in RUN")
    out.add_argument(
        "--framework",
        help=f"to compare with: {', '.join(registry.FRAMEWORKS)}; default: the training's",
    )
    return out


def run(args: argparse.Namespace) -> int:
    """Write the file, and print how far it differs from the policy."""
    from tiebreak.export.export import OBSERVATIONS, export_policy

    exported = export_policy(args.directory, args.to, args.out, args.framework)
    print(f"{args.to}: {exported.path}")
    print(f"differs by at most {exported.difference:.1e} on {OBSERVATIONS} random observations")
    return 0
