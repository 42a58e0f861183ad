"""From bench records to statements: ratios paired by block, verdicts, and learning results.

`visits` reduces records, `neighbours` knows those that took turns, `noise` flags what scatters,
`intervals` is the arithmetic on plain arrays, `ratios` makes all of it into `summaries`; `curves`
reduces learning curves. `compare` sets one folder against another, with `sides`, `machines` and
`canaries` for what is known of each, and `gate` for a limit. Nothing here prints, imports a
framework, or pools iterations.
"""
