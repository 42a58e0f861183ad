"""Take the picture of a report for README: `make picture`. Needs Chromium."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from tiebreak.report.html import write_report
from website.directives import ROOT

RECORDS = ROOT / "results" / "amd-epyc-2-cores" / "quick"
PICTURE = ROOT / "docs" / "report.png"
SIZE = "1000,1045"
"""Width and height in pixels: the answer, and the bars of the first tasks."""
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")


def main() -> int:
    """Write docs/report.png; return 1 without Chromium, or if it fails."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("picture: needs Chromium (Debian, Ubuntu: package chromium)", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        page = write_report([RECORDS], Path(folder) / "report.html")
        command = [chromium, *ARGUMENTS, f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={SIZE}", f"--screenshot={PICTURE}", page.as_uri()]
        taken = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if taken.returncode:
        print(f"picture: Chromium failed: {taken.stderr.strip()[-300:]}", file=sys.stderr)
        return 1
    PICTURE.write_bytes(add_text(PICTURE.read_bytes(), records_digest()))
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
    return 0


def records_digest() -> str:
    """Return the digest of the records that the picture shows; a test compares it."""
    return hashlib.sha256((RECORDS / "records.jsonl").read_bytes()).hexdigest()


def add_text(png: bytes, text: str) -> bytes:
    """Return a PNG with a comment before its last chunk, which has 12 bytes."""
    data = b"tEXtComment\0" + text.encode("ascii")
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    return png[:-12] + chunk + png[-12:]


if __name__ == "__main__":
    sys.exit(main())
