"""`python -m brainmap.data` writes the checksums of the shipped files anew; `--check` compares them instead."""

from __future__ import annotations

import sys

from brainmap.data import checksums, record_checksums, recorded_checksums

if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        found, wanted = checksums(), recorded_checksums()
        differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise SystemExit(f"differs from checksums.tsv: {', '.join(differing)}" if differing else 0)
    record_checksums()
