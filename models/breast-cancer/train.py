#!/usr/bin/env python3
"""Trains breast-cancer (logistic regression) on the WDBC data in scikit-learn; writes its bundle and patients.csv.

    train.py [--out DIR] [--rows DIR]
    train.py --check      train again, compare with the committed bundle, exit 1 if it differs

The data may be redistributed (CC BY 4.0): patients.csv holds 64 real rows of the test split.
"""

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import export  # noqa: E402, I001  sets the thread count before numpy is imported
import bundle  # noqa: E402

import numpy as np  # noqa: E402
import sklearn.datasets  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.model_selection import StratifiedKFold, train_test_split  # noqa: E402

SEED = 569
CLIP = 8.0  # standard deviations
GRID = 0.1  # of the released probability
QUANTITIES = [
    # name, title, decimals that at least 99% of the rows need (mean, standard error, worst)
    ("radius", "radius", (3, 4, 3)),
    ("texture", "texture (sd of grey values)", (2, 4, 2)),
    ("perimeter", "perimeter", (2, 4, 2)),
    ("area", "area", (1, 3, 1)),
    ("smoothness", "smoothness", (5, 6, 5)),
    ("compactness", "compactness", (5, 6, 5)),
    ("concavity", "concavity", (6, 6, 6)),
    ("concave_points", "concave points", (6, 6, 5)),
    ("symmetry", "symmetry", (4, 5, 4)),
    ("fractal_dimension", "fractal dimension", (5, 6, 5)),
]
KINDS = [("mean", "Mean"), ("se", "Standard error of"), ("worst", "Worst")]
NAMES = [f"{kind}_{name}" for kind, _ in KINDS for name, _, _ in QUANTITIES]
TITLES = [f"{words} {title}" for _, words in KINDS for _, title, _ in QUANTITIES]
STEPS = [round(10.0 ** -decimals[i], decimals[i]) for i in range(len(KINDS)) for _, _, decimals in QUANTITIES]
ORDERED = ("radius", "perimeter", "area")  # worst >= mean in every row: impossible otherwise


def load():
    """All 569 rows, rounded to precision as the server does; outcome 1 is malignant."""
    data = sklearn.datasets.load_breast_cancer()
    order = [f"{part} error" if kind == "se" else f"{kind} {part}" for kind, _ in KINDS for part in (n.replace("_", " ") for n, _, _ in QUANTITIES)]  # fmt: skip
    assert list(data.feature_names) == order
    rows = np.column_stack([export.round_to(column, step) for column, step in zip(data.data.T, STEPS)])
    moved = (np.abs(rows - data.data) > 1e-9).mean(axis=0)
    assert moved.max() <= 0.01, f"precision too coarse: {NAMES[int(moved.argmax())]}"
    return rows, 1 - data.target


def two_digits(value: float, up: bool) -> float:
    """`value` at two significant digits, rounded outwards."""
    if value == 0:
        return 0
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return export.plain([float(f"{(np.ceil if up else np.floor)(value / unit) * unit:.6g}")])[0]


def define(rows, answers: list[dict]) -> dict:
    """model.json. Expected: a quarter beyond the data's extremes. Possible: five times the expected maximum."""
    features = []
    for name, title, step, column in zip(NAMES, TITLES, STEPS, rows.T):
        high = two_digits(1.25 * column.max(), up=True)
        features.append(
            {
                "name": name,
                "title": title,
                "kind": "quantity",
                "unit": "1",
                "possible": {"min": 0, "max": two_digits(5 * high, up=True)},
                "expected": {"min": two_digits(0.75 * column.min(), up=False), "max": high},
                "precision": step,
                "missing": "reject",
            }
        )
    return {
        "format": 1,
        "name": "breast-cancer",
        "version": 1,
        "title": "Malignancy of a breast mass from a fine needle aspirate",
        "intended_use": (
            "A demonstration, not a medical device and not for patient care. Estimates the chance that a breast mass is "
            "malignant from 30 measurements of cell nuclei in a digitised fine needle aspirate, made with the software and at "
            "the scale of the Wisconsin Diagnostic Breast Cancer data."
        ),
        "features": features,
        "consistency": [
            {
                "id": f"WORST_{name.upper()}",
                "rule": f"worst_{name} >= mean_{name}",
                "on_violation": "reject",
                "features": [f"mean_{name}", f"worst_{name}"],
                "message": f"the worst {name} is the mean of the three largest and cannot be below the mean of all nuclei",
            }
            for name in ORDERED
        ],
        "members": [
            {"name": "logistic", "file": "members/logistic.onnx", "input": "features", "output": "probability"}
        ],
        "outcome": {
            "name": "malignant tumour",
            "bands": [
                {"name": "very probably benign", "below": 0.05},
                {"name": "probably benign", "below": 0.35},
                {"name": "indeterminate", "below": 0.65},
                {"name": "probably malignant", "below": 0.95},
                {"name": "very probably malignant"},
            ],
        },
        "output": {"precision": GRID},
        "review": {"policy": "withhold", "max_missing": 0},
        "known_answers": answers,
    }


def fit(rows, outcome):
    """The scaling and the fitted regression."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    standardised = np.clip((rows - mean) / scale, -CLIP, CLIP)
    regression = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(standardised, outcome)
    return mean, scale, regression, regression.predict_proba(standardised)[:, 1]


def cross_validated(rows, outcome) -> np.ndarray:
    """Ten-fold out-of-fold probabilities."""
    probability = np.empty(len(rows))
    for inside, outside in StratifiedKFold(10, shuffle=True, random_state=SEED).split(rows, outcome):
        mean, scale, regression, _ = fit(rows[inside], outcome[inside])
        standardised = np.clip((rows[outside] - mean) / scale, -CLIP, CLIP)
        probability[outside] = regression.predict_proba(standardised)[:, 1]
    return probability


def synthesise(rows, outcome, count: int) -> np.ndarray:
    """Synthetic patients of both outcomes whose every value is exactly a float32 (multiples of a power of two)."""
    generator = np.random.default_rng(SEED)
    drawn = np.concatenate([export.copula(rows[outcome == value], count, generator) for value in (0, 1)])
    steps = 2.0 ** np.floor(np.log2(rows.std(axis=0) / 16))
    drawn = np.maximum(np.round(drawn / steps), 1) * steps
    for name in ORDERED:
        drawn = drawn[drawn[:, NAMES.index(f"worst_{name}")] >= drawn[:, NAMES.index(f"mean_{name}")]]
    assert not np.array([((rows == row).sum(axis=1) > 12).any() for row in drawn]).any()
    return drawn


def build(out: Path, rows_out: Path | None):
    """Trains, measures and writes everything; returns model.json and the BOM."""
    rows, outcome = load()
    for name in ORDERED:
        assert (rows[:, NAMES.index(f"worst_{name}")] >= rows[:, NAMES.index(f"mean_{name}")]).all()
    indices = np.arange(len(rows))
    train, rest = train_test_split(indices, train_size=0.70, stratify=outcome, random_state=SEED)
    calibration, test = train_test_split(rest, train_size=0.50, stratify=outcome[rest], random_state=SEED)
    if rows_out:
        rows_out.mkdir(parents=True, exist_ok=True)
        parts = {"train": train, "calibration": calibration, "test": test, "fit": np.concatenate([train, calibration])}
        for name, part in parts.items():
            export.write_csv(rows_out / f"{name}.csv", NAMES + ["malignant"], np.column_stack([rows, outcome])[part])

    single = rows.astype(np.float32).astype(np.float64)  # what the server will send
    mean, scale, regression, fitted = fit(single[train], outcome[train])
    content = export.perceptron(mean, scale, CLIP, [regression.coef_.T], [regression.intercept_], "breast-cancer-logistic")
    export.check_member(content, single[train], fitted, 1e-5)
    members = {
        "logistic": {
            "content": content,
            "family": "logistic regression",
            "architecture": "30 inputs standardised, L2 penalty (C = 0.5)",
        }
    }
    probability = export.predict(content, rows[test])
    metrics = export.measure(outcome[test], probability, "test, logistic")
    released = np.round(probability / GRID) * GRID
    metrics += export.measure(outcome[test], released, "test, logistic as released (1 decimal)")
    metrics += export.measure(outcome, cross_validated(single, outcome), "ten-fold cross-validation, all rows")

    synthetic = synthesise(rows[train], outcome[train], 200)
    scored = export.predict(content, synthetic)
    chosen = [int(np.argmin(np.abs(scored - target))) for target in (0.02, 0.20, 0.60, 0.98)]
    names = ["benign", "probably benign", "indeterminate", "malignant"]
    known = export.known_answers(names, synthetic[chosen], {"logistic": content})
    model = define(rows, known)
    for answer in known:
        for feature, value in zip(model["features"], answer["inputs"]):
            assert feature["expected"]["min"] <= value <= feature["expected"]["max"], feature["name"]
    source = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"
    document = bundle.bom(model, CARD, members, dataset(source), metrics)

    card = bundle.fill_card(
        HERE / "card.md",
        train=len(train), calibration=len(calibration), test=len(test), malignant=f"{100 * outcome.mean():.1f}",
        ece_floor=f"{export.ece_of_perfect(probability):.3f}",
        metrics="\n".join(
            [export.metric_row(metrics, "test, logistic", "test split"),
             export.metric_row(metrics, "test, logistic as released (1 decimal)", "test split, as released (rounded to 0.1)"),
             export.metric_row(metrics, "ten-fold cross-validation, all rows", "ten-fold cross-validation, all 569 rows")]
        ),
    )  # fmt: skip
    bundle.write_bundle(out, model, members, document, card)
    export.write_csv(out / "patients.csv", NAMES, rows[test][:64])
    for metric in metrics:
        print(metric["slice"], metric["type"], metric["value"], metric.get("confidenceInterval", ""))
    return model, document


def dataset(source: Path) -> dict:
    """The training data as a CycloneDX component."""
    return {
        "type": "data",
        "bom-ref": "data:wdbc",
        "name": "Breast Cancer Wisconsin (Diagnostic), as scikit-learn ships it (breast_cancer.csv)",
        "version": bundle.version("scikit-learn"),
        "hashes": [{"alg": "SHA-256", "content": export.sha256(source.read_bytes())}],
        "licenses": [{"license": {"id": "CC-BY-4.0"}}],
        "copyright": "Wolberg W, Mangasarian O, Street N, Street W. UCI Machine Learning Repository, 1993, doi:10.24432/C5DW2B",
        "externalReferences": [{"type": "website", "url": "https://archive.ics.uci.edu/dataset/17"}],
        "data": [
            {
                "type": "dataset",
                "name": "WDBC",
                "classification": "public",
                "description": "569 breast masses (212 malignant), 30 measurements of cell nuclei each; 70% training, "
                "15% calibration, 15% test",
            }
        ],
    }


CARD = {
    "trained_by": ["The vitalgate project"],
    "architecture": "one member",
    "considerations": {
        "users": ["Engineers and clinicians who try vitalgate; nobody who treats patients"],
        "useCases": ["Showing how a clinical inference server verifies, screens, answers and audits"],
        "technicalLimitations": [
            "One centre (University of Wisconsin), until 1993; sizes depend on its microscope and software and have no unit",
            "Not evaluated on another centre's images; 86 test rows give wide intervals",
        ],
        "ethicalConsiderations": [
            {
                "name": "A confident benign answer could delay a biopsy",
                "mitigationStrategy": "Not for patient care; released as a coarse probability and a band, and never without audit",
            }
        ],
        "fairnessAssessments": [
            {
                "groupAtRisk": "Any group of patients: the data name neither age, sex nor ethnicity",
                "benefits": "None claimed",
                "harms": "Worse accuracy that cannot be measured with these data",
                "mitigationStrategy": "None: a further reason not to use it for patients",
            }
        ],
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="where bundle/ and patients.csv go")
    parser.add_argument("--rows", type=Path, help="also write train, calibration and test rows here")
    parser.add_argument("--check", action="store_true", help="compare with the bundle in --out and write nothing")
    arguments = parser.parse_args()
    if not arguments.check:
        build(arguments.out, arguments.rows)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        model, document = build(Path(scratch), arguments.rows)
    return 0 if bundle.compare(arguments.out / "bundle", model, document) else 1


if __name__ == "__main__":
    sys.exit(main())
