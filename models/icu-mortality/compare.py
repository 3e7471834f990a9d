#!/usr/bin/env python3
"""Fits our distribution screen and the detectors of PyOD on the same rows and judges them on the same corrupted copies.

    compare.py --data icu2012_ab.csv [--more icu2012_ab_snapshots.csv] [--seeds 1,2,3,4,5] [--quality best]
               [--vitalgate target/release/vitalgate] [--json FILE]

For each seed, two thirds of the patients (by RecordID) are for fitting and calibration, the rest for judging. `vitalgate
bundle fit` and `vitalgate evaluate` do ours; evaluate also exports the very rows it scored, clean and corrupted, into a
temporary directory that is deleted. PyOD's detectors are fitted to the same patients' rows, complete ones that pass the
ranges and rules, after a Gaussian copula map (MCD, GMM, LOF) or as they are after robust scaling (IForest), and scored on
those rows. Their threshold for 1 % is set on a quarter of the fitting patients, as ours is. Rows with missing values are
left out of their comparison, since they take none.

Needs models/compare-requirements.txt; every process uses one thread.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402
from pyod.models.gmm import GMM  # noqa: E402
from pyod.models.iforest import IForest  # noqa: E402
from pyod.models.lof import LOF  # noqa: E402
from pyod.models.mcd import MCD  # noqa: E402
from scipy.stats import norm  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TEST_SHARE = 1 / 3
CALIBRATION_SHARE = 0.25
ALPHA = 0.01
FEW = 100  # copies that reach the screen; evaluate leaves families with fewer out of its mean, and so do we


def split(path: Path, seed: int, out: Path, name: str, test: set[str] | None = None) -> set[str]:
    """Writes NAME-fit.csv and NAME-test.csv, divided by RecordID; returns the test patients."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    key = header.index("RecordID")
    if test is None:
        patients = sorted({row[key] for row in rows})
        random.Random(seed).shuffle(patients)
        test = set(patients[: round(TEST_SHARE * len(patients))])
    for part, keep in (("fit", lambda p: p not in test), ("test", lambda p: p in test)):
        with (out / f"{name}-{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(row for row in rows if keep(row[key]))
    return test


def run(*command) -> str:
    """A command's output; it must end well."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def load(path: Path) -> np.ndarray:
    """Rows that evaluate exported, complete ones only."""
    rows = np.genfromtxt(path, delimiter=",", skip_header=1, ndmin=2)
    return rows[~np.isnan(rows).any(axis=1)] if rows.size else np.empty((0, 20))


class Copula:
    """Each value to the normal score of its mid-rank among the fitted rows."""

    def __init__(self, rows):
        self.columns = np.sort(rows, axis=0)

    def __call__(self, rows):
        scores = np.empty(rows.shape)
        n = len(self.columns)
        for j in range(rows.shape[1]):
            column = self.columns[:, j]
            rank = (np.searchsorted(column, rows[:, j], "left") + np.searchsorted(column, rows[:, j], "right")) / 2
            scores[:, j] = norm.ppf(np.clip(rank / n, 0.5 / n, 1 - 0.5 / n))
        return scores


class Scaled:
    """Each value less its median, over its interquartile range."""

    def __init__(self, rows):
        low, self.middle, high = np.percentile(rows, [25, 50, 75], axis=0)
        self.width = np.where(high > low, high - low, 1)

    def __call__(self, rows):
        return (rows - self.middle) / self.width


def detectors(seed: int):
    """PyOD's, each with the scale on which it does best."""
    return {
        "MCD on copula scores": (MCD(random_state=seed), Copula),
        "GMM (4) on copula scores": (GMM(n_components=4, covariance_type="full", random_state=seed), Copula),
        "LOF on copula scores": (LOF(n_neighbors=20, n_jobs=1), Copula),
        "IForest": (IForest(n_estimators=200, random_state=seed, n_jobs=1), Scaled),
    }


def false_positives_at_95(clean, odd) -> float:
    threshold = np.sort(odd)[int(0.05 * len(odd))]
    return float((clean >= threshold).mean())


def means(families: dict[str, dict]) -> dict[str, float]:
    return {key: float(np.mean([f[key] for f in families.values()])) for key in ("auroc", "fpr_at_95_tpr", "detected")}


def judge(score, threshold: float, sets: dict[str, np.ndarray]) -> dict:
    """AUROC, FPR at 95 % TPR and detection at 1 % by family, and their means."""
    clean = score(sets["clean"])
    families = {}
    for name, rows in sets.items():
        if name == "clean" or len(rows) < FEW:
            continue
        odd = score(rows)
        truth = np.r_[np.zeros(len(clean)), np.ones(len(odd))]
        families[name] = {
            "auroc": float(roc_auc_score(truth, np.r_[clean, odd])),
            "fpr_at_95_tpr": false_positives_at_95(clean, odd),
            "detected": float((odd > threshold).mean()),
        }
    return {"families": families, "mean": means(families), "false_flags": float((clean > threshold).mean())}


def ours(arguments, seed: int, work: Path, test: set[str]) -> dict:
    """Fits, evaluates and exports."""
    started = time.monotonic()
    model = HERE / "bundle" / "model.json"
    more = []
    if arguments.more:
        split(arguments.more, seed, work, "more", test)
        more = ["--more", work / "more-fit.csv"]
    columns = ["--map", arguments.map] if arguments.map else []
    bundle = work / "bundle"
    bundle.mkdir()
    for path in (HERE / "bundle").rglob("*"):
        if path.is_file():
            target = bundle / path.relative_to(HERE / "bundle")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    run(
        arguments.vitalgate, "bundle", "fit", "--features", model, "--data", work / "rows-fit.csv", "--group", "RecordID",
        "--seed", seed, "--quality", arguments.quality, "--alpha", ALPHA, "--calibration-share", CALIBRATION_SHARE,
        "--out", bundle / "reference.json", *more, *columns,
    )  # fmt: skip
    fitted = time.monotonic()
    report = json.loads(
        run(
            arguments.vitalgate, "evaluate", "--bundle", bundle, "--data", work / "rows-test.csv", "--group", "RecordID",
            "--seed", seed, "--export", work, "--json", *columns,
        )  # fmt: skip
    )
    families = {
        f["family"]: {key: f[key] for key in ("auroc", "fpr_at_95_tpr", "detected", "top1")}
        for f in report["families"]
        if f["reached"] >= FEW
    }
    flags = next(f for f in report["false_flags"] if f["alpha"] == ALPHA)
    return {
        "families": families,
        "mean": means(families),
        "false_flags": flags["share"],
        "all_false_flags": report["false_flags"],
        "burden": report["burden"][0]["share"]["value"],
        "seconds": {"fit": fitted - started, "evaluate": time.monotonic() - fitted},
    }


def theirs(arguments, seed: int, work: Path) -> dict:
    """PyOD's detectors, on the rows that were exported."""
    names = sorted(path.stem for path in work.glob("*.csv") if path.stem.split("-")[0] not in ("rows", "more"))
    sets = {name: load(work / f"{name}.csv") for name in names}
    fitting = work / "fitting"
    fitting.mkdir()
    columns = ["--map", arguments.map] if arguments.map else []
    # The clean rows of the fitting patients that reach the screen, by the same code.
    run(
        arguments.vitalgate, "evaluate", "--bundle", work / "bundle", "--data", work / "rows-fit.csv", "--resplits", 0,
        "--seed", seed, "--export", fitting, "--json", *columns,
    )  # fmt: skip
    rows = load(fitting / "clean.csv")
    order = np.random.default_rng(seed).permutation(len(rows))
    held = round(CALIBRATION_SHARE * len(rows))
    calibration, fit = rows[order[:held]], rows[order[held:]]
    results = {}
    for name, (detector, scale) in detectors(seed).items():
        started = time.monotonic()
        mapped = scale(fit)
        detector.fit(mapped(fit))
        threshold = np.sort(detector.decision_function(mapped(calibration)))[-max(1, int(ALPHA * (held + 1)))]

        def score(part, detector=detector, mapped=mapped):
            return detector.decision_function(mapped(part))

        results[name] = judge(score, threshold, sets)
        results[name]["seconds"] = time.monotonic() - started
    return results


def one_seed(arguments, seed: int) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        test = split(arguments.data, seed, work, "rows")
        results = {"vitalgate": ours(arguments, seed, work, test)}
        results.update(theirs(arguments, seed, work))
        return results


def table(seeds: dict[int, dict]) -> str:
    """Means and ranges over seeds, Markdown."""
    first = next(iter(seeds.values()))
    lines = ["| detector | mean AUROC | FPR at 95 % TPR | detected at 1 % | false flags |", "|---|---|---|---|---|"]
    for name in first:
        def over(get, name=name):
            values = [get(result[name]) for result in seeds.values()]
            return f"{np.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})"

        lines.append(
            f"| {name} | {over(lambda r: r['mean']['auroc'])} | {over(lambda r: r['mean']['fpr_at_95_tpr'])} "
            f"| {over(lambda r: r['mean']['detected'])} | {over(lambda r: r['false_flags'])} |"
        )
    lines += [
        "",
        "| fit | seconds | false flags at .5 / 1 / 2 / 5 % | of 100 re-splits within their 99 % interval | rejected or reviewed "
        "| first feature: unit, slip |",
        "|---|---|---|---|---|---|",
    ]
    for seed, result in seeds.items():
        own = result["vitalgate"]
        flags = own["all_false_flags"]
        shares = " / ".join(f"{100 * f['share']:.2f}{'' if f['within'] else ' (outside)'}" for f in flags)
        resplits = " / ".join(str(f["resplits_within"]) for f in flags)
        top = ", ".join(f"{own['families'][family]['top1']:.3f}" for family in ("unit_error", "decimal_slip"))
        lines.append(
            f"| seed {seed} | {own['seconds']['fit']:.0f} | {shares} | {resplits} | {100 * own['burden']:.1f} % | {top} |"
        )
    lines += ["", "| AUROC by family | " + " | ".join(first) + " |", "|---|" + "---|" * len(first)]
    for family in first["vitalgate"]["families"]:
        cells = []
        for name in first:
            values = [r[name]["families"][family]["auroc"] for r in seeds.values() if family in r[name]["families"]]
            cells.append(f"{np.mean(values):.3f}" if values else "")
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--more", type=Path, help="further rows of the same patients, by RecordID, for the fit only")
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--quality", default="best")
    parser.add_argument("--map", help="COLUMN=feature,… where the headers do not say it")
    parser.add_argument("--vitalgate", type=Path, default=ROOT / "target" / "release" / "vitalgate")
    parser.add_argument("--json", type=Path, help="write everything here, after each seed")
    arguments = parser.parse_args()
    seeds = {}
    for seed in map(int, arguments.seeds.split(",")):
        seeds[seed] = one_seed(arguments, seed)
        for name, result in seeds[seed].items():
            mean = result["mean"]
            print(
                f"seed {seed}: {name}: AUROC {mean['auroc']:.3f}, FPR95 {mean['fpr_at_95_tpr']:.3f}, "
                f"detected {mean['detected']:.3f}, false flags {result['false_flags']:.4f}, seconds {result['seconds']}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
        if arguments.json:
            arguments.json.write_text(json.dumps(seeds, indent=1) + "\n")
    print(table(seeds))


if __name__ == "__main__":
    main()
