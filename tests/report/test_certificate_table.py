"""The certificate on a terminal: nothing is cut off at 80 columns."""

from __future__ import annotations

import io

from rich.console import Console

from tiebreak.verify.show import print_certificate

FRAMEWORKS = ("torch", "tensorflow", "linen", "nnx", "equinox", "any two")
QUANTITIES = ("100 updates / control", "step: normalizers", "prepare: advantage")


def certificate() -> dict:
    rows = [
        {"algorithm": "ppo", "framework": framework, "mode": "eager", "precision": precision,
         "rung": "L1", "quantity": quantity, "worst": 3.3e-16, "bound": 1e-10, "ok": True,
         "reason": "", "case": "one"}
        for framework in FRAMEWORKS for precision in ("float64", "float32")
        for quantity in QUANTITIES
    ]  # fmt: skip
    return {"rows": rows, "skipped": [], "green": True, "seed": 1}


def printed(content: dict, width: int) -> list[str]:
    out = io.StringIO()
    print_certificate(content, Console(file=out, width=width))
    return out.getvalue().splitlines()


def test_every_column_is_whole_at_80():
    lines = printed(certificate(), 80)
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    rows = [line for line in lines if "3.3e-16" in line]
    assert len(rows) == 2 * len(QUANTITIES)
    assert all(row.count("3.3e-16") == len(FRAMEWORKS) for row in rows)
    assert all(any(quantity in row for row in rows) for quantity in QUANTITIES)


def test_a_narrower_terminal_folds_names_and_cuts_no_number():
    lines = printed(certificate(), 66)
    assert max(map(len, lines)) <= 66
    assert sum(line.count("3.3e-16") for line in lines) == 2 * len(QUANTITIES) * len(FRAMEWORKS)


def test_what_failed_stands_out():
    content = certificate()
    content["rows"][0].update(ok=False, reason="raised [ValueError]")
    content["green"] = False
    text = "\n".join(printed(content, 80))
    assert "failed  torch eager float64 L1 100 updates / control: raised [ValueError]" in text
    assert "not green: 36 checks, 1 failed" in text
