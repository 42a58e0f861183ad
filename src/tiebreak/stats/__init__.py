"""From bench records to statements: ratios paired by block, verdicts, and learning results.

`visits` reduces records, `intervals` is the arithmetic on plain arrays, `ratios` makes both into
`summaries`; `curves` reduces learning curves. Nothing here prints, imports a framework, or pools
iterations.
"""
