"""Show results to people: tables in the terminal and one self-contained HTML page.

formatting.py         numbers as text; flags.py explains flags; phrases.py words findings
tables.py             one folder in the terminal; compare_tables.py and compare_json.py: two folders
cross_tables.py       tables across groups; published.py puts others' values beside ours
page_data.py          reads a folder for the page; memory.py, selftests.py, certificate_table.py
charts.py, html.py    draw charts and fill templates/

Everything is made from summaries (stats) and records; nothing is measured here.
"""
