"""From bench records to statements: ratios paired by block, verdicts, and learning results.

`visits` reduces records, `intervals` is the arithmetic on plain arrays, `ratios` makes both into
`summaries`; `curves` reduces learning curves. `compare` sets one folder against another, with
`sides`, `machines` and `canaries` for what is known of each, and `gate` for a limit. Nothing here
prints, imports a framework, or pools iterations.
"""
