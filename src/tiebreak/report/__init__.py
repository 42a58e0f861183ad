"""Show results to people: tables in the terminal and one self-contained HTML page.

formatting.py         numbers as text; flags.py explains flags; phrases.py words findings
answer.py             who wins, by how much and how sure, in sentences
tables.py             one folder in the terminal; compare_tables.py and compare_json.py: two folders
cross_tables.py       tables across groups; published.py puts others' values beside ours
page_data.py          reads a folder for the page; memory.py, selftests.py, certificate_table.py
bars.py, heat.py      the page's charts and its table of speeds; palette.py has the colors
machines.py           several folders side by side
page.py, html.py      arrange all of it and fill templates/
svg.py, assets.py     charts as SVG and PNG, tables as CSV

Everything is made from summaries (stats) and records; nothing is measured here.
"""
