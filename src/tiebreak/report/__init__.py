"""What a run says, for people: tables in the terminal and one self-contained HTML page.

`words` puts numbers into text for both, `tables` prints, `charts` draws, `html` fills
`templates/`. Everything is made from summaries (stats) and records; nothing is measured here.
"""
