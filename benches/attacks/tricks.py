"""What a careful attacker does about budgets and query patterns.

`DISGUISES` change each query of an evasion attack so that it looks less like the one before. `budget_tricks` try to get more
answers than the budget allows: other connections, paths and encounters, and one row in many clothes.
"""

import json
import time

import numpy as np

from oracle import Blocked, Live, Spent
from patients import Cohort

# How often one row is sent in other clothes.
CLOTHES = 300


def _feature(push, name: str) -> int:
    return push.cohort.model.names.index(name)


def _random(push):
    return np.random.default_rng(push.oracle.queries + 7919)


def jitter_age(row, push):
    """Another age each time, within what the push allows."""
    j = _feature(push, "age")
    reach = int(push.reach[j])
    row[j] = push.patient[j] + _random(push).integers(-reach, reach + 1)
    return push.cohort.model.round(row)


def alternate_sex(row, push):
    """Every second query as the other sex."""
    if push.oracle.queries % 2:
        j = _feature(push, "male")
        row[j] = 1 - row[j]
    return row


def leave_out(row, push):
    """What may be left out is left out, now one and now the other."""
    optional = np.flatnonzero(~push.cohort.model.required)
    row[optional[push.oracle.queries % len(optional)]] = np.nan
    return row


def decoy(row, push):
    """One value that hardly matters is moved far, so that the row is far from the last one."""
    names = ["platelets", "hematocrit", "magnesium", "potassium", "glucose"]
    j = _feature(push, names[push.oracle.queries % len(names)])
    row[j] = push.patient[j] + _random(push).choice([-1, 1]) * _random(push).uniform(2.3, 3.0) * push.cohort.sd[j]
    return push.cohort.model.round(row)


def wander(row, push):
    """Everything that hardly matters is moved by up to a standard deviation at once."""
    for name in ("platelets", "hematocrit", "magnesium", "potassium", "glucose", "sodium", "wbc"):
        j = _feature(push, name)
        row[j] = push.patient[j] + _random(push).uniform(-1.0, 1.0) * push.cohort.sd[j] * 1.2
    return push.cohort.model.round(row)


DISGUISES = {
    "jitter_age": jitter_age,
    "alternate_sex": alternate_sex,
    "leave_out": leave_out,
    "decoy": decoy,
    "wander": wander,
}


class Routed(Live):
    """A caller that changes something about its requests each time."""

    def __init__(self, *arguments, connections: int = 1, paths=None, context=None):
        super().__init__(*arguments)
        self.others = [Live(*arguments) for _ in range(connections - 1)]
        self.paths = paths or [self.path]
        self.context_of = context

    def post(self, body, path=None):
        turn = self.queries
        if self.context_of is not None:
            document = json.loads(body)
            document["context"] = self.context_of(turn)
            body = json.dumps(document).encode()
        path = path or self.paths[turn % len(self.paths)]
        lines = [super(), *self.others]
        return lines[turn % len(lines)].post(body, path)

    def close(self):
        super().close()
        for other in self.others:
            other.close()


def budget_tricks(server, callers, cohort: Cohort) -> dict:
    """How many of the attacker's own patients each trick gets an answer for, and what stopped it."""
    model, most = cohort.model, 420
    base = f"/v1/models/{model.name}"
    variants = {
        "plain": {},
        "four connections": {"connections": 4},
        "with and without the version": {"paths": [f"{base}/predict", f"{base}/versions/{model.spec['version']}/predict"]},
        "a new encounter each": {"context": lambda turn: {"encounter": f"encounter-{turn}"}},
        "a new patient each": {"context": lambda turn: {"patient": f"patient-{turn}", "encounter": f"e-{turn}"}},
    }
    outcome = {}
    for name, variant in variants.items():
        live = Routed(server, next(callers), model, most, **variant)
        try:
            for row in cohort.own[:most]:
                live.ask(row)
        except (Blocked, Spent):
            pass
        outcome[name] = {
            "informative": live.informative, "queries": live.queries, "blocked": live.blocked, "coarse_at": live.coarse_at,
        }  # fmt: skip
        live.close()
    outcome["one row in other clothes"] = other_clothes(Live(server, next(callers), model, most), cohort)
    return outcome


def clothes(model, row):
    """The same row over and over: other orders, spellings, units, and values that round to it."""
    observations = model.observations(row)
    features = {feature["name"]: feature for feature in model.spec["features"]}
    generator = np.random.default_rng(1)
    for turn in range(CLOTHES):
        names = list(generator.permutation(list(observations)))
        worn = {}
        for name in names:
            value, feature = observations[name], features[name]
            if isinstance(value, bool) or value is None:
                worn[name] = int(value) if isinstance(value, bool) and turn % 2 else value
                continue
            step = feature.get("precision")
            if turn % 3 == 1 and step and feature["kind"] == "quantity":
                value = value + generator.uniform(-0.3, 0.3) * step
            if turn % 4 == 2:
                value = {"value": value, "unit": feature["unit"]}
            if name == "temperature" and turn % 5 == 3:
                fahrenheit = observations[name] * 9 / 5 + 32
                value = {"value": round(fahrenheit, 6), "unit": "[degF]"}
            if name == "urine_24h" and turn % 5 == 4:
                value = {"value": observations[name] / 1000, "unit": "L"}
            worn[name] = value
        yield json.dumps({"observations": worn, "context": {"encounter": f"encounter-{turn}"}}).encode()


def other_clothes(live: Live, cohort: Cohort) -> dict:
    """One row in many clothes must cost one query and get one answer."""
    row = next(row for row in cohort.own if not np.isnan(row).any() and live.post(live.model.request(row))[0] == 200)
    answers: dict[str, int] = {}
    for body in clothes(cohort.model, row):
        while True:
            status, headers, document = live.post(body)
            # The rate limit is not what is looked at here.
            if status != 429 or float(headers.get("Retry-After", "1e9")) > 5:
                break
            time.sleep(float(headers["Retry-After"]))
        prediction = document.get("prediction", {})
        kind = f"{status} {document.get('code') or document['disposition']} {prediction.get('probability')} {prediction.get('band')}"
        answers[kind] = answers.get(kind, 0) + 1
    live.close()
    return {"sent": CLOTHES, "answers": answers}
