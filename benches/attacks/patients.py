"""The model under attack, the patients attacked, and the attacker's own cohort."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# The attacker's own patients, with their outcomes: what one other hospital has.
OWN = 1300

# How the columns of the public ICU data are called in the model.
ICU_COLUMNS = {
    "Age": "age", "Male": "male", "HR": "heart_rate", "SBP": "systolic_bp", "DBP": "diastolic_bp", "MAP": "mean_bp",
    "Temp": "temperature", "GCS": "gcs", "MechVent": "mechanical_ventilation", "Urine24": "urine_24h", "BUN": "bun",
    "Creatinine": "creatinine", "Na": "sodium", "K": "potassium", "HCO3": "bicarbonate", "Glucose": "glucose", "WBC": "wbc",
    "HCT": "hematocrit", "Platelets": "platelets", "Mg": "magnesium",
}  # fmt: skip
# As models/icu-mortality/train.py draws its training patients; the others were never seen by the model.
TRAIN_SEED, TRAIN_SHARE = 2012, 0.70


class Model:
    """What a caller may know of a model: it is all in `GET /v1/models/{model}`."""

    def __init__(self, name: str, threshold: float):
        self.name = name
        self.bundle = ROOT / "models" / name / "bundle"
        self.spec = json.loads((self.bundle / "model.json").read_text())
        features = self.spec["features"]
        self.names = [feature["name"] for feature in features]
        self.steps = np.array([_step(feature) for feature in features])
        self.booleans = np.array([feature["kind"] == "boolean" for feature in features])
        self.required = np.array([feature["missing"] == "reject" for feature in features])
        self.imputed = np.array(
            [np.nan if required else f["missing"]["impute"] for required, f in zip(self.required, features)], dtype=float
        )
        self.possible = np.array([[f["possible"]["min"], f["possible"]["max"]] for f in features], dtype=float)
        self.expected = np.array([[f["expected"]["min"], f["expected"]["max"]] for f in features], dtype=float)
        bands = self.spec["outcome"]["bands"]
        self.bands = [band["name"] for band in bands]
        self.edges = [band["below"] for band in bands if "below" in band]
        self.threshold = threshold
        self.high_band = self.edges.index(threshold) + 1

    def round(self, rows: np.ndarray) -> np.ndarray:
        """To measurement precision, as the server does; within what is possible."""
        rows = np.where(np.isnan(self.steps), rows, np.round(rows / self.steps) * self.steps)
        return np.clip(np.round(rows, 6), self.possible[:, 0], self.possible[:, 1])

    def band(self, probability: float) -> int:
        """Index of the band of an unrounded probability."""
        return int(np.searchsorted(self.edges, probability, side="right"))

    def middle(self, band: int) -> float:
        """A probability for those who were told the band only."""
        edges = [0.0, *self.edges, 1.0]
        return (edges[band] + edges[band + 1]) / 2

    def request(self, row: np.ndarray) -> bytes:
        """One row as the body of a request."""
        return json.dumps({"observations": self.observations(row)}).encode()

    def observations(self, row: np.ndarray) -> dict:
        """One row as JSON values."""
        return {
            name: None if np.isnan(value) else bool(value) if boolean else float(value)
            for name, value, boolean in zip(self.names, row, self.booleans)
        }


def _step(feature: dict) -> float:
    if feature["kind"] == "boolean":
        return 1.0
    return feature.get("precision", np.nan)


@dataclass
class Cohort:
    """Patients by what the attacker has of them."""

    model: Model
    # The attacker's own patients, and who of them died (or had the outcome).
    own: np.ndarray
    own_outcome: np.ndarray
    # Patients to push across the threshold, whom neither the model nor the attacker has seen.
    targets: np.ndarray
    # Patients on whom a copy is compared with the model; none of them the attacker's.
    judged: np.ndarray
    # Whether they are real.
    real: bool
    description: str

    @property
    def sd(self) -> np.ndarray:
        """Population standard deviations, from the attacker's own patients."""
        return np.nanstd(self.own, axis=0)


def icu(data: Path | None, seed: int) -> Cohort:
    """The ICU model's patients: real when `data` is there, else synthetic."""
    model = Model("icu-mortality", 0.35)
    generator = np.random.default_rng(seed)
    if data is None or not data.exists():
        return _synthetic(model, generator)
    table = np.genfromtxt(data, delimiter=",", names=True)
    rows = model.round(np.column_stack([table[column] for column in ICU_COLUMNS]))
    outcome = table["died"].astype(int)
    accepted = ~np.isnan(rows[:, model.required]).any(axis=1)
    rows, outcome = rows[accepted], outcome[accepted]
    train, unseen = _split(outcome)
    unseen = generator.permutation(unseen)
    own, held_out = unseen[:OWN], unseen[OWN:]
    return Cohort(
        model, rows[own], outcome[own], rows[held_out], rows[np.concatenate([held_out, train])], True,
        f"{OWN} real patients as the attacker's own, {len(held_out)} real held-out patients as targets; copies judged on these "
        f"and the {len(train)} training patients",
    )  # fmt: skip


def _split(outcome):
    from sklearn.model_selection import train_test_split

    return train_test_split(np.arange(len(outcome)), train_size=TRAIN_SHARE, stratify=outcome, random_state=TRAIN_SEED)


def _synthetic(model: Model, generator) -> Cohort:
    from oracle import Networks

    seeds = np.genfromtxt(ROOT / "models/icu-mortality/synthetic.csv", delimiter=",", skip_header=1)
    rows = copula(model, seeds, 3 * OWN + 400, generator)
    # Nobody's outcome is known, so it is drawn by the model's own risk.
    outcome = (generator.random(len(rows)) < Networks.of(model).predict(rows)).astype(int)
    own, rest = rows[:OWN], rows[OWN:]
    return Cohort(
        model, own, outcome[:OWN], rest[:400], rest, False,
        f"{len(rows)} SYNTHETIC patients, drawn from the {len(seeds)} of synthetic.csv, outcomes drawn by the model's own risk: "
        "the figures say how the machinery works, not how real patients fare",
    )  # fmt: skip


def copula(model: Model, rows: np.ndarray, count: int, generator) -> np.ndarray:
    """More patients like these: their marginals, and the dependence of their ranks."""
    from scipy.stats import norm, rankdata

    rows = np.where(np.isnan(rows), np.nanmedian(rows, axis=0), rows)
    normal = norm.ppf((rankdata(rows, axis=0) - 0.5) / len(rows))
    drawn = generator.multivariate_normal(np.zeros(rows.shape[1]), np.corrcoef(normal.T), count * 2)
    ranks = norm.cdf(drawn)
    new = np.column_stack([np.quantile(rows[:, j], ranks[:, j]) for j in range(rows.shape[1])])
    new[:, model.booleans] = np.round(new[:, model.booleans])
    if "mean_bp" in model.names:
        systolic, diastolic, mean = (model.names.index(n) for n in ("systolic_bp", "diastolic_bp", "mean_bp"))
        new = new[new[:, systolic] - new[:, diastolic] >= 15]
        new[:, mean] = np.round((new[:, systolic] + 2 * new[:, diastolic]) / 3, 2)
    return model.round(new[:count])


def breast_cancer(seed: int) -> Cohort:
    """The logistic model's patients, which come with scikit-learn. The attacker owns half of them."""
    from sklearn.datasets import load_breast_cancer

    model = Model("breast-cancer", 0.65)
    rows, benign = load_breast_cancer(return_X_y=True)
    rows, outcome = model.round(rows), 1 - benign
    order = np.random.default_rng(seed).permutation(len(rows))
    own, rest = order[: len(rows) // 2], order[len(rows) // 2 :]
    return Cohort(
        model, rows[own], outcome[own], rows[rest], rows[rest], True,
        f"{len(own)} public patients as the attacker's own, {len(rest)} others to judge by",
    )  # fmt: skip
