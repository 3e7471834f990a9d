#!/usr/bin/env python3
"""Fits the demo bundles' reference.json with `vitalgate bundle fit`, and names it in their BOMs.

    fit.py breast-cancer --rows DIR [--check]
    fit.py icu-mortality --rows DIR --snapshots icu2012_ab_snapshots.csv [--check]

DIR is where `train.py --rows` wrote the rows; the model's test patients are never used. --check fits again and compares
with what is committed: the same bytes on the same kind of machine, elsewhere the same aggregates.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bundle  # noqa: E402

PROGRAM = HERE.parent / "target" / "release" / "vitalgate"


def fit(model: str, arguments, out: Path) -> None:
    """Runs the program."""
    command = [PROGRAM, "bundle", "fit", "--features", HERE / model / "bundle" / "model.json", "--out", out]
    command += ["--data", arguments.rows / "fit.csv", "--unseen", arguments.rows / "calibration.csv"]
    if arguments.drift_only:
        command += ["--drift-only"]
    if model == "icu-mortality":
        command += ["--group", "RecordID", "--quality", "best", "--seed", "2012"]
        command += ["--more", arguments.snapshots]
    else:
        # 483 patients: a third calibrates, so that 1% of them is more than one.
        command += ["--label", "malignant", "--quality", "standard", "--seed", "569", "--calibration-share", "0.35"]
    subprocess.run([str(part) for part in command], check=True)


def same(committed: Path, new: Path) -> bool:
    """Whether two references say the same; training may differ where arithmetic does, aggregates hardly."""
    if committed.read_bytes() == new.read_bytes():
        print("reference.json: byte for byte the same")
        return True
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (committed, new))
    if before.get("drift") != after.get("drift"):
        print("reference.json: other histograms")
        return False
    if any(before.get(key) != after.get(key) for key in ("fit", "budget")):
        print("reference.json: fitted otherwise, or to other rows")
        return False

    def close(a, b):
        if isinstance(a, list):
            return len(a) == len(b) and all(close(x, y) for x, y in zip(a, b))
        return abs(a - b) <= 1e-3 * max(1.0, abs(a))

    knots = all(close(a["knots"], b["knots"]) for a, b in zip(before["features"], after["features"]))
    good = knots and close(before["gaussian"]["precision"], after["gaussian"]["precision"])
    print("reference.json: " + ("the same aggregates, another training" if good else "NOT the committed one"))
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["breast-cancer", "icu-mortality"])
    parser.add_argument("--rows", type=Path, required=True, help="where train.py --rows wrote")
    parser.add_argument("--snapshots", type=Path, help="more rows of the same stays")
    parser.add_argument("--check", action="store_true", help="compare with the committed bundle and write nothing there")
    parser.add_argument("--drift-only", action="store_true", help="only count the histograms anew")
    arguments = parser.parse_args()
    if arguments.model == "icu-mortality" and not arguments.snapshots:
        parser.error("icu-mortality needs --snapshots")
    committed = HERE / arguments.model / "bundle" / bundle.REFERENCE
    if arguments.check:
        with tempfile.TemporaryDirectory() as scratch:
            new = Path(scratch) / bundle.REFERENCE
            fit(arguments.model, arguments, new)
            return 0 if same(committed, new) else 1
    fit(arguments.model, arguments, committed)
    if arguments.model == "icu-mortality":
        # Which pushes show that a prediction hangs on measurement uncertainty; the networks' own training rows.
        command = [PROGRAM, "bundle", "stability", "--bundle", committed.parent, "--write"]
        command += ["--fit", arguments.rows / "train.csv", "--data", arguments.rows / "test.csv"]
        subprocess.run([str(part) for part in command], check=True)
    bundle.note_reference(committed.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
