"""One line per cell: how its memory rises, call by call."""

from __future__ import annotations

from collections.abc import Sequence

from tiebreak.report import phrases
from tiebreak.report.charts import COLORS, OTHER, Spec, finish
from tiebreak.report.memory import Series
from tiebreak.stats.summaries import CellSummary

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
FLAT = 1e4
"""The axis spans at least this many bytes either way, or the noise of a quiet cell fills it."""


def memory_chart(lines: Sequence[tuple[CellSummary, Series]]) -> Spec:
    """Memory above its first reading against calls; second and later cells of a color dashed."""
    import altair as alt

    peak = max((abs(y) for _, s in lines for y in s.rise_bytes), default=0.0)
    factor, unit = next((u for u in UNITS if peak >= u[0]), UNITS[-1])
    colors = [COLORS.get(c.cell["framework"], OTHER) for c, _ in lines]
    rows = [
        {"call": call, "rise": rise / factor, "name": phrases.name(cell), "color": color,
         "kept": phrases.size(rise), "dash": str(min(colors[:index].count(color), 2))}
        for index, ((cell, series), color) in enumerate(zip(lines, colors, strict=True))
        for call, rise in enumerate(series.rise_bytes)
    ]  # fmt: skip
    rises = [row["rise"] for row in rows]
    low, high = min([-FLAT / factor, *rises]), max([FLAT / factor, *rises])
    scale = alt.Scale(domain=[low, high], nice=True)
    chart = alt.Chart(alt.Data(values=rows), height=190).mark_line(strokeWidth=2)
    return finish(
        chart.encode(
            x=alt.X("call:Q", title="calls", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y("rise:Q", title=f"{unit} above the first reading", scale=scale),
            color=alt.Color("color:N", scale=None, legend=None),
            strokeDash=alt.StrokeDash(
                "dash:N",
                scale=alt.Scale(domain=["0", "1", "2"], range=[[1, 0], [6, 4], [2, 3]]),
                legend=None,
            ),
            detail="name:N",
            tooltip=["name:N", "call:Q", "kept:N"],
        )
    )
