"""Who must not be slowed: one EHR that scores a ward's patients again every two hours, and retries.

Real patients, where the data is there: what was charted at 18, 24, 30, 36, 42 and 48 h, what is measured together changing at some
hour between.
The server's clock is not ours to move, so six hours of a ward are sent in a minute; src/extraction/ward.rs does whole days by a
simulated clock.
"""

import numpy as np

from oracle import Live
from patients import ICU_COLUMNS, Cohort, Model

PATIENTS = 200
# Scorings of one patient in six hours, two hours apart.
SCORINGS = 3
RETRIES = 10
# What is measured together changes together: a cuff, a chemistry panel, a blood count.
TOGETHER = (
    ("systolic_bp", "diastolic_bp", "mean_bp"),
    ("bun", "creatinine", "sodium", "potassium", "bicarbonate", "glucose", "magnesium"),
    ("wbc", "hematocrit", "platelets"),
)


def stays(data, snapshots, model: Model, generator) -> np.ndarray:
    """Patients x scorings x features: the values of three scorings, two hours apart."""
    early = _table(data, model, None)
    late = _table(snapshots, model, 30)
    both = sorted(early.keys() & late.keys())
    chosen = [both[i] for i in generator.permutation(len(both))]
    stays = []
    for patient in chosen:
        before, after = early[patient], late[patient]
        if np.isnan(before[model.required]).any() or np.isnan(after[model.required]).any():
            continue
        changes_at = generator.integers(1, SCORINGS + 1, len(before))
        for panel in TOGETHER:
            places = [model.names.index(name) for name in panel]
            changes_at[places] = changes_at[places[0]]
        stays.append([np.where(step >= changes_at, after, before) for step in range(SCORINGS)])
        if len(stays) == PATIENTS:
            break
    return np.array(stays)


def _table(path, model: Model, hour: int | None) -> dict:
    table = np.genfromtxt(path, delimiter=",", names=True)
    if hour is not None:
        table = table[table["Hour"] == hour]
    rows = model.round(np.column_stack([table[column] for column in ICU_COLUMNS]))
    return dict(zip(table["RecordID"].astype(int), rows))


def synthetic_stays(cohort: Cohort, generator) -> np.ndarray:
    """Without the data: synthetic patients, a third of whose values drift by a fifth of a standard deviation."""
    stays = []
    for row in cohort.own[:PATIENTS]:
        series = [row]
        for _ in range(SCORINGS - 1):
            moves = (generator.random(len(row)) < 1 / 3) & ~cohort.model.booleans
            series.append(cohort.model.round(series[-1] + np.where(moves, generator.normal(0, 0.2, len(row)) * cohort.sd, 0)))
        stays.append(series)
    return np.array(stays)


def scored_again(stays: np.ndarray, live: Live) -> dict:
    """Every patient once, then every patient again, as a ward's EHR does; and one flagged patient retried."""
    counts = {"sent": 0, "predicted": 0, "review": 0, "rejected": 0, "coarse": 0, "refused": 0}
    codes: dict[str, int] = {}

    def send(row):
        counts["sent"] += 1
        status, _, body = live.post(live.model.request(live.model.round(row)))
        if status == 200:
            counts[body["disposition"]] += 1
            if body["disposition"] == "predicted" and "probability" not in body["prediction"]:
                counts["coarse"] += 1
            for reason in body.get("reasons", []):
                codes[reason["code"]] = codes.get(reason["code"], 0) + 1
            return body["disposition"]
        counts["rejected" if status == 422 else "refused"] += 1
        codes[body.get("code", str(status))] = codes.get(body.get("code", str(status)), 0) + 1
        return "refused"

    flagged = None
    for step in range(stays.shape[1]):
        for row in stays[:, step]:
            if send(row) == "review" and flagged is None:
                flagged = row
    retried = [send(flagged) for _ in range(RETRIES)] if flagged is not None else []
    return {
        **counts, "slowed": (counts["coarse"] + counts["refused"]) / counts["sent"], "codes": codes,
        "retries": len(retried), "retries_answered_alike": all(answer == "review" for answer in retried),
    }  # fmt: skip


