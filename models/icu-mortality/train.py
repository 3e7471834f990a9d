#!/usr/bin/env python3
"""Trains icu-mortality (boosted trees and a perceptron) and writes its bundle and synthetic.csv.

    train.py --data icu2012_ab.csv [--out DIR] [--rows DIR]
    train.py --data icu2012_ab.csv --check      train again, compare with the committed bundle, exit 1 if it differs

No patient's row is written, except by --rows, which must point outside this repository.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import export  # noqa: E402, I001  sets the thread count before numpy is imported
import bundle  # noqa: E402

import numpy as np  # noqa: E402
from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402

SEED = 2012
ALPHA = 0.01
CLIP = 8.0  # standard deviations
GRID = 0.1  # of the released probability
IMPUTED = {"HCO3", "Mg"}

# column, name, title, kind, unit, LOINC, possible, expected, precision, molar mass, valence
FEATURES = [
    ("Age", "age", "Age", "quantity", "a", None, (0, 130), (15, 120), 1, None, None),
    ("Male", "male", "Male sex", "boolean", "1", None, (0, 1), (0, 1), None, None, None),
    ("HR", "heart_rate", "Heart rate", "quantity", "/min", "8867-4", (0, 350), (20, 250), 1, None, None),
    ("SBP", "systolic_bp", "Systolic blood pressure", "quantity", "mm[Hg]", "8480-6", (0, 350), (40, 260), 1, None, None),
    ("DBP", "diastolic_bp", "Diastolic blood pressure", "quantity", "mm[Hg]", "8462-4", (0, 300), (10, 180), 1, None, None),
    ("MAP", "mean_bp", "Mean blood pressure", "quantity", "mm[Hg]", "8478-0", (0, 350), (20, 200), None, None, None),
    ("Temp", "temperature", "Body temperature", "quantity", "Cel", "8310-5", (10, 47), (25, 43), 0.1, None, None),
    ("GCS", "gcs", "Glasgow Coma Scale, total", "ordinal", "{score}", "9269-2", (3, 15), (3, 15), 1, None, None),
    ("MechVent", "mechanical_ventilation", "Mechanical ventilation", "boolean", "1", None, (0, 1), (0, 1), None, None, None),
    ("Urine24", "urine_24h", "Urine output in 24 h", "quantity", "mL", "9192-6", (0, 30000), (0, 12000), 5, None, None),
    ("BUN", "bun", "Blood urea nitrogen", "quantity", "mg/dL", "3094-0", (0, 400), (1, 200), 1, 28.0134, None),
    ("Creatinine", "creatinine", "Creatinine", "quantity", "mg/dL", "2160-0", (0, 60), (0.1, 20), 0.1, 113.12, None),
    ("Na", "sodium", "Sodium", "quantity", "mmol/L", "2951-2", (50, 250), (100, 180), 1, None, 1),
    ("K", "potassium", "Potassium", "quantity", "mmol/L", "2823-3", (0.5, 20), (1.5, 10), 0.1, None, 1),
    ("HCO3", "bicarbonate", "Bicarbonate", "quantity", "mmol/L", "1963-8", (0, 80), (3, 55), 1, None, 1),
    ("Glucose", "glucose", "Glucose", "quantity", "mg/dL", "2345-7", (0, 3000), (20, 1200), 1, 180.156, None),
    ("WBC", "wbc", "White blood cells", "quantity", "10*3/uL", "6690-2", (0, 1000), (0.1, 150), 0.1, None, None),
    ("HCT", "hematocrit", "Haematocrit", "quantity", "%", "4544-3", (0, 80), (8, 65), 0.1, None, None),
    ("Platelets", "platelets", "Platelets", "quantity", "10*3/uL", "777-3", (0, 5000), (3, 1500), 1, None, None),
    ("Mg", "magnesium", "Magnesium", "quantity", "mg/dL", "19123-9", (0, 20), (0.5, 8), 0.1, 24.305, 2),
]
COLUMNS = [row[0] for row in FEATURES]
NAMES = [row[1] for row in FEATURES]
SBP, DBP, MAP = (COLUMNS.index(name) for name in ("SBP", "DBP", "MAP"))


def load(path: Path):
    """All rows, rounded to precision as the server does (missing: NaN), outcomes, which rows the server would accept, stays."""
    table = np.genfromtxt(path, delimiter=",", names=True)
    rows = np.column_stack([export.round_to(table[column], FEATURES[i][8]) for i, column in enumerate(COLUMNS)])
    required = [i for i, column in enumerate(COLUMNS) if column not in IMPUTED]
    return rows, table["died"].astype(np.int64), ~np.isnan(rows[:, required]).any(axis=1), table["RecordID"]


GERMAN = {
    "age": "Alter",
    "male": "Männliches Geschlecht",
    "heart_rate": "Herzfrequenz",
    "systolic_bp": "Systolischer Blutdruck",
    "diastolic_bp": "Diastolischer Blutdruck",
    "mean_bp": "Mittlerer Blutdruck",
    "temperature": "Körpertemperatur",
    "gcs": "Glasgow-Koma-Skala, Summe",
    "mechanical_ventilation": "Maschinelle Beatmung",
    "urine_24h": "Urinmenge in 24 h",
    "bun": "Harnstoff-Stickstoff",
    "creatinine": "Kreatinin",
    "sodium": "Natrium",
    "potassium": "Kalium",
    "bicarbonate": "Bikarbonat",
    "glucose": "Glukose",
    "wbc": "Leukozyten",
    "hematocrit": "Hämatokrit",
    "platelets": "Thrombozyten",
    "magnesium": "Magnesium",
}

# Standard uncertainties: (absolute in the feature's unit, relative, where the figure comes from). The laboratory's are a
# quarter of the proficiency-testing limits of CLIA (rule of 2022): a laboratory that keeps four standard deviations within
# the limit.
LIMIT = "a quarter of the limit of acceptable performance, 42 CFR 493.%d"
INVASIVE = "assumed: half of 4 mm[Hg], what invasive pressure monitors are specified to"
UNCERTAINTY = {
    "heart_rate": (1, None, "assumed: the step of a monitor"),
    "systolic_bp": (2, None, INVASIVE),
    "diastolic_bp": (2, None, INVASIVE),
    "mean_bp": (2, None, INVASIVE),
    "temperature": (0.1, None, "assumed: what clinical thermometers are commonly specified to"),
    "urine_24h": (None, 0.025, "assumed: half of 5 %, the graduation of collection chambers"),
    "bun": (0.5, 0.0225, LIMIT % 931),
    "creatinine": (0.05, 0.025, LIMIT % 931),
    "sodium": (1, None, LIMIT % 931),
    "potassium": (0.075, None, LIMIT % 931),
    "bicarbonate": (None, 0.05, "a quarter of 20 %, assumed: no limit in 42 CFR 493.931"),
    "glucose": (1.5, 0.02, LIMIT % 931),
    "wbc": (None, 0.025, LIMIT % 941),
    "hematocrit": (None, 0.01, LIMIT % 941),
    "platelets": (None, 0.0625, LIMIT % 941),
    "magnesium": (None, 0.0375, LIMIT % 931),
}


def describe_features(medians: dict) -> list[dict]:
    """The `features` of model.json."""
    features = []
    for column, name, title, kind, unit, loinc, possible, expected, step, mass, valence in FEATURES:
        feature = {"name": name, "title": title, "titles": {"de": GERMAN[name]}, "kind": kind, "unit": unit}
        if loinc:
            feature["loinc"] = loinc
        feature["possible"] = dict(zip(("min", "max"), possible))
        feature["expected"] = dict(zip(("min", "max"), expected))
        if step:
            feature["precision"] = step
        if name in UNCERTAINTY:
            absolute, relative, source = UNCERTAINTY[name]
            figures = {"absolute": absolute, "relative": relative}
            feature["uncertainty"] = {key: value for key, value in figures.items() if value} | {"source": source}
        feature["missing"] = {"impute": medians[column]} if column in IMPUTED else "reject"
        if mass:
            feature["molar_mass"] = mass
        if valence:
            feature["valence"] = valence
        features.append(feature)
    return features


def define(medians: dict, bound: float, answers: list[dict]) -> dict:
    """model.json."""
    return {
        "format": 1,
        "name": "icu-mortality",
        "version": 1,
        "title": "In-hospital death after 24 h of intensive care",
        "intended_use": (
            "A demonstration, not a medical device and not for patient care. Estimates the risk of in-hospital death from the "
            "first 24 h of a medical, surgical or coronary intensive care stay of an adult; cardiac-surgery recovery is out of "
            "scope."
        ),
        "features": describe_features(medians),
        "consistency": [
            {
                "id": "BP_ORDER",
                "rule": "diastolic_bp < mean_bp && mean_bp < systolic_bp",
                "on_violation": "review",
                "features": ["diastolic_bp", "mean_bp", "systolic_bp"],
                "message": (
                    "mean blood pressure should lie between diastolic and systolic; check which value was entered where"
                ),
                "messages": {
                    "de": (
                        "der mittlere Blutdruck sollte zwischen dem diastolischen und dem systolischen liegen; prüfen, welcher "
                        "Wert wo eingetragen wurde"
                    )
                },
            }
        ],
        "members": [
            {"name": name, "file": f"members/{name}.onnx", "input": "features", "output": "probability"}
            for name in ("gbdt", "mlp")
        ],
        "agreement": {"max_logit_spread": bound, "alpha": ALPHA},
        "outcome": {
            "name": "in-hospital death",
            "bands": [
                {"name": "very low", "below": 0.05},
                {"name": "low", "below": 0.15},
                {"name": "moderate", "below": 0.35},
                {"name": "high", "below": 0.65},
                {"name": "very high"},
            ],
        },
        "output": {"precision": GRID},
        "review": {"policy": "withhold", "max_missing": 1},
        "known_answers": answers,
    }


def fit(rows, outcome) -> dict[str, dict]:
    """Both members, as checked ONNX bytes. Trained on the float32 values that the server will send."""
    rows = rows.astype(np.float32).astype(np.float64)
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=150, max_leaf_nodes=8, l2_regularization=5.0, min_samples_leaf=40,
        max_features=0.5, early_stopping=False, random_state=SEED,
    ).fit(rows, outcome)  # fmt: skip
    gbdt = export.boosted_trees(trees, rows.shape[1], "icu-mortality-gbdt")
    export.check_member(gbdt, rows, trees.predict_proba(rows)[:, 1], 1e-5)

    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    standardised = np.clip((rows - mean) / scale, -CLIP, CLIP)
    network = MLPClassifier(
        (64, 32), alpha=1.0, max_iter=30, batch_size=128, learning_rate_init=1e-3, early_stopping=False,
        n_iter_no_change=30, random_state=SEED,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # thirty passes are the stopping rule
        network.fit(standardised, outcome)
    mlp = export.perceptron(mean, scale, CLIP, network.coefs_, network.intercepts_, "icu-mortality-mlp")
    export.check_member(mlp, rows, network.predict_proba(standardised)[:, 1], 1e-5)
    assert len(gbdt) < 300 * 1024
    return {
        "gbdt": {"content": gbdt, "family": "gradient-boosted trees", "architecture": "150 trees of at most 8 leaves"},
        "mlp": {"content": mlp, "family": "multilayer perceptron", "architecture": "20-64-32-1, ReLU, inputs standardised"},
    }


def consistent(rows):
    """Rows within every expected range and with diastolic < mean < systolic."""
    inside = np.ones(len(rows), bool)
    for index, feature in enumerate(FEATURES):
        inside &= (rows[:, index] >= feature[7][0]) & (rows[:, index] <= feature[7][1])
    return inside & (rows[:, DBP] < rows[:, MAP]) & (rows[:, MAP] < rows[:, SBP])


def copies(rows, real):
    """Which `rows` equal some real row in more than 12 of the 20 columns."""
    return np.array([((real == row).sum(axis=1) > 12).any() for row in rows])


def synthesise(train, real, count: int) -> np.ndarray:
    """Synthetic patients at the declared precision."""
    generator = np.random.default_rng(SEED)
    rows = export.copula(train, 4 * count, generator)
    for index, feature in enumerate(FEATURES):
        rows[:, index] = export.round_to(rows[:, index], feature[8])
    rows = rows[rows[:, SBP] - rows[:, DBP] >= 15]
    mean = (rows[:, SBP] + 2 * rows[:, DBP]) / 3 + generator.normal(0, 1.5, len(rows))
    rows[:, MAP] = np.round(np.clip(mean, rows[:, DBP] + 2, rows[:, SBP] - 2), 2)
    rows = rows[consistent(rows)]
    rows = rows[~copies(rows, real)][:count]
    assert len(rows) == count and consistent(rows).all()
    assert not copies(rows, real).any()
    return rows


def exact(rows) -> np.ndarray:
    """The rows moved to values that are exactly float32: tenths to halves, mean pressure to quarters."""
    rows = rows.copy()
    for index, feature in enumerate(FEATURES):
        if feature[8] == 0.1:
            rows[:, index] = np.maximum(np.round(rows[:, index] * 2) / 2, 0.5)
    rows[:, MAP] = np.round(rows[:, MAP] * 4) / 4
    assert consistent(rows).all()
    return rows


def build(data: Path, out: Path, rows_out: Path | None):
    """Trains, measures and writes everything; returns model.json and the BOM."""
    everyone, outcome, accepted, stays = load(data)
    rows, outcome = everyone[accepted], outcome[accepted]
    indices = np.arange(len(rows))
    train, rest = train_test_split(indices, train_size=0.70, stratify=outcome, random_state=SEED)
    calibration, test = train_test_split(rest, train_size=0.50, stratify=outcome[rest], random_state=SEED)
    medians = {column: export.plain([np.nanmedian(rows[train, COLUMNS.index(column)])])[0] for column in sorted(IMPUTED)}
    missing = np.isnan(rows)
    for column, median in medians.items():
        rows[missing[:, COLUMNS.index(column)], COLUMNS.index(column)] = median
    if rows_out:
        rows_out.mkdir(parents=True, exist_ok=True)
        # For the distribution screen a value that was filled in is a missing one.
        table = np.column_stack([stays[accepted], np.where(missing, np.nan, rows), outcome])
        # "fit" is named like the source, so that more rows of it can join.
        parts = {"train": train, "calibration": calibration, "test": test, "fit": np.concatenate([train, calibration])}
        for name, part in parts.items():
            export.write_csv(rows_out / f"{name}.csv", ["RecordID"] + (COLUMNS if name == "fit" else NAMES) + ["died"], table[part])

    members = fit(rows[train], outcome[train])
    contents = {name: member["content"] for name, member in members.items()}

    def probabilities(part):
        return {name: export.predict(content, part) for name, content in contents.items()}

    def spread(answers):
        return np.abs(export.logit(answers["gbdt"]) - export.logit(answers["mlp"]))

    bound = export.conformal_bound(spread(probabilities(rows[calibration])), ALPHA)
    answers, truth = probabilities(rows[test]), outcome[test]
    ensemble = (answers["gbdt"] + answers["mlp"]) / 2
    imputed = rows[test].copy()
    for column, median in medians.items():
        imputed[:, COLUMNS.index(column)] = median
    imputed_answers = probabilities(imputed)
    metrics = [metric for name in contents for metric in export.measure(truth, answers[name], f"test, {name}")]
    metrics += export.measure(truth, ensemble, "test, ensemble")
    released = np.round(ensemble / GRID) * GRID
    metrics += export.measure(truth, released, "test, ensemble as released (1 decimal)")
    both = (imputed_answers["gbdt"] + imputed_answers["mlp"]) / 2
    metrics += export.measure(truth, both, "test, ensemble, bicarbonate and magnesium imputed")
    age, male = rows[test][:, 0], rows[test][:, 1]
    groups = {"women": male == 0, "men": male == 1, "age under 65": age < 65, "age 65 and over": age >= 65}
    for name, group in groups.items():
        metrics += export.measure(truth[group], ensemble[group], f"test, ensemble, {name}")

    synthetic = synthesise(rows[train], np.concatenate([everyone, rows]), 256)
    mean = np.mean(list(probabilities(synthetic).values()), axis=0)
    chosen = [int(np.argmin(np.abs(mean - target))) for target in (0.02, 0.10, 0.45, 0.75)]
    known = export.known_answers(["very low", "low", "high", "very high"], exact(synthetic[chosen]), contents)
    model = define(medians, bound, known)
    document = bundle.bom(model, CARD, members, dataset(data, len(everyone), len(rows)), metrics)

    def row(name, label):
        return export.metric_row(metrics, f"test, {name}", label)

    card = bundle.fill_card(
        HERE / "card.md",
        total=f"{len(everyone):,}", accepted=f"{len(rows):,}", train=f"{len(train):,}", calibration=f"{len(calibration):,}",
        test=f"{len(test):,}", died=f"{100 * truth.mean():.1f}", bound=f"{bound:g}",
        bicarbonate=f"{medians['HCO3']:g}", magnesium=f"{medians['Mg']:g}",
        disagreement=f"{100 * (spread(answers) > bound).mean():.1f}",
        ece_floor=f"{export.ece_of_perfect(ensemble):.3f}",
        metrics="\n".join(
            [row("gbdt", "boosted trees"), row("mlp", "perceptron"), row("ensemble", "**mean of both**"),
             row("ensemble as released (1 decimal)", "mean, as released (rounded to 0.1)"),
             row("ensemble, bicarbonate and magnesium imputed", "mean, bicarbonate and magnesium both imputed")]
            + [row(f"ensemble, {name}", f"mean, {name} (n = {int(group.sum())})") for name, group in groups.items()]
        ),
    )  # fmt: skip
    bundle.write_bundle(out, model, members, document, card)
    export.write_csv(out / "synthetic.csv", NAMES, synthetic)
    for metric in metrics[:9]:
        print(metric["slice"], metric["type"], metric["value"], metric.get("confidenceInterval", ""))
    print(f"max_logit_spread {bound}; over it in the test split: {(spread(answers) > bound).mean():.4f}")
    return model, document


def dataset(data: Path, total: int, accepted: int) -> dict:
    """The training data as a CycloneDX component."""
    return {
        "type": "data",
        "bom-ref": "data:physionet-cinc-2012",
        "name": "icu2012_ab.csv, from the PhysioNet/Computing in Cardiology Challenge 2012, sets a and b",
        "version": "1.0.0",
        "hashes": [{"alg": "SHA-256", "content": export.sha256(data.read_bytes())}],
        "licenses": [{"license": {"id": "ODC-By-1.0"}}],
        "copyright": (
            "Silva I, Moody G, Scott DJ, Celi LA, Mark RG. Computing in Cardiology 2012; "
            "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation 2000;101(23):e215-e220"
        ),
        "externalReferences": [{"type": "website", "url": "https://physionet.org/content/challenge-2012/1.0.0/"}],
        "data": [
            {
                "type": "dataset",
                "name": "ICU stays, first 24 h",
                "classification": "de-identified, public",
                "description": (
                    f"{total} adult stays of 48 h or more in medical, surgical and coronary units; last charted value in the "
                    f"first 24 h, urine as a 24 h sum; {accepted} with every feature that may not be imputed were used "
                    "(70% training, 15% calibration, 15% test). The hash is that of the derived CSV file."
                ),
                "sensitiveData": ["De-identified clinical measurements; no row is in this bundle"],
            }
        ],
    }


CARD = {
    "trained_by": ["The vitalgate project"],
    "architecture": "mean of two members' probabilities",
    "considerations": {
        "users": ["Engineers and clinicians who try vitalgate; nobody who treats patients"],
        "useCases": ["Showing how a clinical inference server verifies, screens, answers and audits"],
        "technicalLimitations": [
            "One hospital (Boston), 2001-2008, de-identified, ages over 90 recorded as 90: not valid elsewhere or today",
            "Stays under 48 h and cardiac-surgery recovery were excluded",
            "Not evaluated prospectively or on another hospital's patients",
            "Risk depends on treatment given: a prediction is no estimate of what treatment would change",
        ],
        "ethicalConsiderations": [
            {
                "name": "A low predicted chance of survival could be used to limit care",
                "mitigationStrategy": "Not for patient care; released as a coarse probability and a band, and never without audit",
            }
        ],
        "fairnessAssessments": [
            {
                "groupAtRisk": "Groups the data do not identify (ethnicity, language, insurance) or hold in small numbers",
                "benefits": "None claimed",
                "harms": "Worse calibration that cannot be measured with these data",
                "mitigationStrategy": "Discrimination and calibration are reported by sex and age",
            }
        ],
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="icu2012_ab.csv")
    parser.add_argument("--out", type=Path, default=HERE, help="where bundle/ and synthetic.csv go")
    parser.add_argument("--rows", type=Path, help="also write train, calibration and test rows here (patients' data)")
    parser.add_argument("--check", action="store_true", help="compare with the bundle in --out and write nothing")
    arguments = parser.parse_args()
    if arguments.rows and arguments.rows.resolve().is_relative_to(HERE.parent.parent):
        parser.error("--rows must be outside this repository")
    if not arguments.check:
        build(arguments.data, arguments.out, arguments.rows)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        model, document = build(arguments.data, Path(scratch), arguments.rows)
    return 0 if bundle.compare(arguments.out / "bundle", model, document) else 1


if __name__ == "__main__":
    sys.exit(main())
