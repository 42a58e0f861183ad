"""What a run says, for people: tables in the terminal and one self-contained HTML page.

`numbers` writes figures, `flags` explains flags, and `words` says what was found, for both;
`tables` prints. For the page `contents` reads a folder (with `proof`, `schedule`, `memory` and
`selftests` for its parts), `charts` and `memory_chart` draw, and `html` fills `templates/`.
`compare_tables` and `compare_json` show two folders against each other. Everything is made from
summaries (stats) and records; nothing is measured here.
"""
