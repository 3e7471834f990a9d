"""Attacks that copy the model from its answers, and the copy that needs none.

A copy's agreement is the share of patients, none of them the attacker's, whom copy and model put on the same side of the
high-risk threshold. The baseline is what the attacker learns from their own patients' outcomes without one query. Each theft
adds its answers to those; of all learners the best copy counts, judged with knowledge the attacker lacks, so that
every figure is an upper bound (of the baseline too).
"""

import warnings

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from oracle import Blocked, Networks, Oracle, Spent, logit
from patients import Cohort, Model

# The budget of a role that has no other.
QUERIES = 200


def fill(model: Model, rows: np.ndarray) -> np.ndarray:
    """Missing values as the model fills them in."""
    return np.where(np.isnan(rows), model.imputed, rows)


def _soft(rows, target, weight):
    """Rows with probabilities as rows with outcomes: each twice, weighted."""
    target = np.clip(np.asarray(target, dtype=float), 0, 1)
    return np.vstack([rows, rows]), np.repeat([1, 0], len(rows)), np.concatenate([weight * target, weight * (1 - target)])


def _logistic(rows, target, weight=None):
    rows, outcome, weight = _soft(rows, target, np.ones(len(rows)) if weight is None else weight)
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=10.0, max_iter=2000))
    fitted.fit(rows, outcome, logisticregression__sample_weight=weight)
    return lambda new: fitted.predict_proba(new)[:, 1]


def _trees(rows, target, weight=None):
    rows, outcome, weight = _soft(rows, target, np.ones(len(rows)) if weight is None else weight)
    fitted = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=120, max_leaf_nodes=8, l2_regularization=5.0, random_state=0, early_stopping=False
    )
    fitted.fit(rows, outcome, sample_weight=weight)
    return lambda new: fitted.predict_proba(new)[:, 1]


def _perceptron(rows, target, weight=None):
    rows, outcome, weight = _soft(rows, target, np.ones(len(rows)) if weight is None else weight)
    scale = StandardScaler().fit(rows)
    fitted = MLPClassifier((64, 32), alpha=1.0, max_iter=30, random_state=0)
    scaled = np.clip(scale.transform(rows), -8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it stops when it stops
        try:
            fitted.fit(scaled, outcome, sample_weight=weight)
        except ZeroDivisionError:  # a batch of rows without weight has no mean
            kept = weight > 0
            fitted.fit(scaled[kept], outcome[kept], sample_weight=weight[kept])
    return lambda new: fitted.predict_proba(np.clip(scale.transform(new), -8, 8))[:, 1]


LEARNERS = {"logistic": _logistic, "trees": _trees, "perceptron": _perceptron}


def learn_all(rows, target, weight=None) -> dict:
    """Copies by every learner, and the mean of them."""
    copies = {name: learn(rows, target, weight) for name, learn in LEARNERS.items()}
    each = list(copies.values())
    return {**copies, "all three": lambda new: np.mean([copy(new) for copy in each], axis=0)}


class Judge:
    """Compares copies with the model."""

    def __init__(self, cohort: Cohort):
        self.cohort = cohort
        self.rows = fill(cohort.model, cohort.judged)
        self.own = fill(cohort.model, cohort.own)
        self.high = Networks.of(cohort.model).predict(self.rows) >= cohort.model.threshold
        self.baseline = self.best(learn_all(self.own, cohort.own_outcome))

    def agreement(self, copy) -> float:
        """Share of patients on the same side."""
        return float(((copy(self.rows) >= self.cohort.model.threshold) == self.high).mean())

    def best(self, copies: dict) -> tuple[float, str]:
        """The best of several."""
        return max((self.agreement(copy), name) for name, copy in copies.items())

    def judge(self, asked: np.ndarray, answers: np.ndarray) -> tuple[float, str]:
        """The best copy that can be made with these answers."""
        if len(asked) == 0:
            return self.baseline
        asked = fill(self.cohort.model, asked)
        rows = np.vstack([self.own, asked])
        target = np.concatenate([self.cohort.own_outcome, answers])
        # An answer says more than an outcome, which is one draw of a risk.
        weights = np.concatenate([np.ones(len(self.own)), np.full(len(asked), 5.0)])
        copies = {f"{name}, own patients and answers": copy for name, copy in learn_all(rows, target, weights).items()}
        if len(asked) >= 20 and 0 < answers.sum() < len(answers):
            copies |= {f"{name}, answers alone": copy for name, copy in learn_all(asked, answers).items()}
        copies["equations"] = equations(asked, answers)
        return self.best(copies)


def equations(asked, answers):
    """Solves for a linear logit (Tramer et al., 2016), by least squares where rounding leaves no solution."""
    rounded = np.mean(np.isclose(answers * 10, np.round(answers * 10))) > 0.5
    # Exact answers are equations as long as single precision leaves them different from 0 and 1.
    usable = np.ones(len(answers), bool) if rounded else (answers > 1e-5) & (answers < 1 - 1e-5)
    if usable.sum() < 2:
        return lambda new: np.full(len(new), answers.mean())
    asked, answers = asked[usable], answers[usable]
    odds = logit(answers) if rounded else np.log(answers / (1 - answers))
    scale = StandardScaler().fit(asked)
    fitted = Ridge(alpha=1e-6).fit(scale.transform(asked), odds)
    return lambda new: 1 / (1 + np.exp(-np.clip(fitted.predict(scale.transform(new)), -30, 30)))


def uniform(cohort: Cohort, generator) -> np.ndarray:
    """Every value anywhere in its expected range."""
    low, high = cohort.model.expected.T
    return _ordered(cohort.model, generator.uniform(low, high, (QUERIES, len(low))))


def marginal(cohort: Cohort, generator) -> np.ndarray:
    """Every value from some patient of the attacker's own, each from another."""
    picks = generator.integers(0, len(cohort.own), (QUERIES, cohort.own.shape[1]))
    return _ordered(cohort.model, np.take_along_axis(cohort.own, picks, axis=0))


def natural(cohort: Cohort, generator) -> np.ndarray:
    """The attacker's own patients, as they are."""
    return cohort.own[generator.permutation(len(cohort.own))[:QUERIES]]


def equation_solving(cohort: Cohort, generator) -> np.ndarray:
    """A patient in the middle and one feature moved at a time, then several: well-conditioned equations, near the middle."""
    own = fill(cohort.model, cohort.own)
    middle, sd = np.median(own, axis=0), cohort.sd
    size = len(middle)
    rows = [middle]
    rows += [middle + step * sd * np.eye(size)[j] for step in (1.0, -1.0) for j in range(size)]
    while len(rows) < QUERIES:
        rows.append(middle + sd * generator.normal(0, 1.0, size))
    rows = np.array(rows[:QUERIES])
    booleans = cohort.model.booleans
    rows[:, booleans] = np.clip(np.round(rows[:, booleans]), 0, 1)
    return _ordered(cohort.model, np.clip(rows, *cohort.model.expected.T))


def _ordered(model: Model, rows: np.ndarray) -> np.ndarray:
    """Blood pressures in the order that the model's rules want, as an attacker would see to."""
    rows = np.where(np.isnan(rows), model.imputed, rows)
    if "mean_bp" in model.names:
        places = [model.names.index(name) for name in ("diastolic_bp", "mean_bp", "systolic_bp")]
        rows[:, places] = np.sort(rows[:, places], axis=1) + [0, 0.5, 1]
    return model.round(rows)


THEFTS = {
    "equation_solving": equation_solving,
    "marginal_theft": marginal,
    "uniform_theft": uniform,
    "natural_theft": natural,
}


def steal(rows: np.ndarray, oracle: Oracle, judge: Judge) -> dict:
    """Asks for these rows, as far as the oracle answers, and judges what can be made of it."""
    asked, answers = [], []
    try:
        for row in rows:
            answer = oracle.ask(row)
            if answer:
                probability = answer.probability
                asked.append(oracle.model.round(row))
                answers.append(oracle.model.middle(answer.band) if probability is None else probability)
    except (Blocked, Spent):
        pass
    agreement, how = judge.judge(np.array(asked), np.array(answers))
    return {
        "agreement": agreement, "baseline": judge.baseline[0], "how": how, "queries": oracle.queries,
        "informative": len(asked), "blocked": oracle.blocked, "coarse_at": getattr(oracle, "coarse_at", None),
    }  # fmt: skip
