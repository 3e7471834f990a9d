"""Attacks that push one patient across the high-risk threshold by changes within measurement-like bounds.

A push of at most `epsilon` population standard deviations in each feature, values rounded to clinical precision, the booleans
left alone. An attack succeeds with the first query whose answer is a prediction on the other side: what is withheld for a
person to look at is no success. SimBA, HopSkipJump, Boundary and ZOO are those of adversarial-robustness-toolbox; its Square
attack is for square images, so the one here is written for a row (random signs everywhere, then ever smaller random blocks).
"""

import warnings

import numpy as np

from oracle import Blocked, Oracle, Spent, score
from patients import Cohort

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from art.attacks.evasion import BoundaryAttack, HopSkipJump, SimBA, ZooAttack
    from art.estimators.classification import BlackBoxClassifier
    from art.estimators.classification.blackbox import BlackBoxClassifierNeuralNetwork

# Distinct queries that one attack on one patient may make.
MOST = 600
# What the attacks search in, standard deviations from the patient.
FIELD = 8.0
# What rounding to six decimals adds to a push, clinical units.
TOLERANCE = 1e-5


class Crossed(Exception):
    """The attack has what it wanted."""


class Push:
    """One patient under attack: from standard deviations to a query, and from its answer to class probabilities."""

    def __init__(self, oracle: Oracle, cohort: Cohort, patient: np.ndarray, epsilon: float, disguise=None):
        self.oracle, self.cohort, self.patient, self.epsilon = oracle, cohort, patient, epsilon
        self.disguise = disguise
        model = cohort.model
        self.free = ~model.booleans & ~np.isnan(patient)
        # Only steps that survive rounding stay within epsilon.
        self.reach = epsilon * cohort.sd
        first = score(oracle.ask(patient), model)
        if first is None:
            raise ValueError("the patient to be attacked is not predicted for")
        self.was_high = first > 0.5
        self.start = first

    def row(self, z: np.ndarray) -> np.ndarray:
        """The row that is `z` standard deviations from the patient."""
        moved = self.patient + np.where(self.free, z * self.cohort.sd, 0.0)
        row = self.cohort.model.round(moved)
        # A step that rounding carries beyond epsilon is taken back, where the push was within it.
        step = np.nan_to_num(self.cohort.model.steps, nan=0.0)
        over = (np.abs(row - self.patient) > self.reach + TOLERANCE) & (np.abs(z) <= self.epsilon + 1e-6)
        return np.where(over, self.cohort.model.round(row - np.sign(row - self.patient) * step), row)

    def side(self, z: np.ndarray) -> float:
        """How far towards high risk the server says a push is; raises when the goal is reached."""
        plain = self.row(z)
        row = plain if self.disguise is None else self.disguise(plain.copy(), self)
        value = score(self.oracle.ask(row), self.cohort.model)
        if value is None:
            # Withheld or rejected: to the attacker as good as going the wrong way.
            return 0.999 if self.was_high else 0.001
        if (value > 0.5) != self.was_high:
            if self.is_within(row):
                raise Crossed()
            # What a disguise brought across may cross without it.
            if row is not plain and self.is_within(plain):
                bare = score(self.oracle.ask(plain), self.cohort.model)
                if bare is not None and (bare > 0.5) != self.was_high:
                    raise Crossed()
        return value

    def is_within(self, row: np.ndarray) -> bool:
        """Whether a row is the patient but for a push within the bounds; what is not measured may have been left out."""
        moved = np.abs(row - self.patient)
        same = (row == self.patient) | (np.isnan(row) & np.isnan(self.patient))
        return bool((np.where(self.free, np.nan_to_num(moved, nan=np.inf) <= self.reach + TOLERANCE, same)).all())

    def classes(self, batch: np.ndarray) -> np.ndarray:
        """Two class probabilities a row, as the toolbox wants them."""
        high = np.array([self.side(z) for z in np.asarray(batch, dtype=float).reshape(len(batch), -1)])
        return np.column_stack([1 - high, high]).astype(np.float32)

    def classifier(self):
        """For attacks on vectors."""
        return BlackBoxClassifier(self.classes, (len(self.patient),), 2, clip_values=(-FIELD, FIELD))

    def origin(self, *shape: int) -> np.ndarray:
        """The patient itself."""
        return np.zeros((1, *shape, len(self.patient)), dtype=np.float32)

    def opposite(self) -> np.ndarray | None:
        """Where decision attacks begin: the nearest of the attacker's own patients whom the server puts on the other side."""
        z = np.nan_to_num((self.cohort.own - self.patient) / self.cohort.sd)
        order = np.argsort((z[:, self.free] ** 2).sum(axis=1))
        # Those whom the attacker has reason to believe on the other side are asked first.
        order = sorted(order, key=lambda i: bool(self.cohort.own_outcome[i]) == self.was_high)
        for i in order[:20]:
            value = score(self.oracle.ask(self.row(z[i])), self.cohort.model)
            if value is not None and (value > 0.5) != self.was_high:
                return z[i][None].astype(np.float32)
        return None


def simba(push: Push, seed: int) -> None:
    """SimBA, pixel by pixel, one pass over the features (so that no feature moves twice)."""
    size = len(push.patient)
    classifier = BlackBoxClassifierNeuralNetwork(push.classes, (1, 1, size), 2, clip_values=(-FIELD, FIELD))
    attack = SimBA(classifier, attack="px", max_iter=size, epsilon=push.epsilon, freq_dim=1, verbose=False)
    attack.generate(push.origin(1, 1))


def square(push: Push, seed: int) -> None:
    """Square attack (L-infinity) for a row of features: random search over corners of the box."""
    generator = np.random.default_rng(seed)
    sign = -1 if push.was_high else 1
    size, best = len(push.patient), push.start
    z, share = np.zeros(size), 0.8
    for step in range(100):
        proposal = z.copy()
        if step == 0:
            chosen = np.ones(size, bool)
        else:
            chosen = np.zeros(size, bool)
            chosen[generator.permutation(size)[: max(1, round(share * size))]] = True
        proposal[chosen] = push.epsilon * generator.choice([-1, 1], chosen.sum())
        value = push.side(proposal)
        if step == 0 or sign * (value - best) > 0:
            z, best = proposal, value
        share = max(share * 0.9, 1 / size)


def hop_skip_jump(push: Push, seed: int) -> None:
    """HopSkipJump, L-infinity, from one of the attacker's own patients on the other side."""
    start = push.opposite()
    if start is None:
        return
    attack = HopSkipJump(push.classifier(), norm=np.inf, max_iter=20, max_eval=100, init_eval=20, verbose=False)
    attack.generate(push.origin(), x_adv_init=start)


def boundary(push: Push, seed: int) -> None:
    """Boundary attack, from one of the attacker's own patients on the other side."""
    start = push.opposite()
    if start is None:
        return
    attack = BoundaryAttack(push.classifier(), targeted=False, delta=0.2, epsilon=0.2, max_iter=60, verbose=False)
    attack.generate(push.origin(), x_adv_init=start)


def zoo(push: Push, seed: int) -> None:
    """ZOO: gradients by finite differences, steps by Adam."""
    attack = ZooAttack(
        push.classifier(), learning_rate=push.epsilon, max_iter=200, binary_search_steps=1, initial_const=1000.0,
        use_resize=False, use_importance=False, nb_parallel=5, variable_h=push.epsilon / 2, abort_early=False, verbose=False,
    )  # fmt: skip
    attack.generate(push.origin())


class Transfer:
    """One query: the push that most misleads a model of the attacker's own patients."""

    def __init__(self, cohort: Cohort):
        from theft import LEARNERS, fill

        self.copies = [learn(fill(cohort.model, cohort.own), cohort.own_outcome) for learn in LEARNERS.values()]
        self.model = cohort.model

    def __call__(self, push: Push, seed: int) -> None:
        from theft import fill

        generator = np.random.default_rng(seed)
        size = len(push.patient)
        # Coordinate ascent on the copies' mean; it costs no query.
        z = push.epsilon * generator.choice([-1, 1], size)

        def gain(batch):
            rows = fill(self.model, np.array([push.row(one) for one in batch]))
            mean = np.mean([copy(rows) for copy in self.copies], axis=0)
            return -mean if push.was_high else mean

        for _ in range(2):
            for j in generator.permutation(size):
                candidates = np.repeat(z[None], 3, axis=0)
                candidates[:, j] = [-push.epsilon, 0, push.epsilon]
                z = candidates[int(np.argmax(gain(candidates)))]
        push.side(z)


ATTACKS = {"simba": simba, "square": square, "hop_skip_jump": hop_skip_jump, "boundary": boundary, "zoo": zoo}


def attack(attack, oracle: Oracle, cohort: Cohort, patient: np.ndarray, epsilon: float, seed: int, disguise=None) -> dict:
    """One attack on one patient; how it ended. A disguise changes each row before it is sent."""
    np.random.seed(seed)  # what the toolbox draws from
    ended = "gave up"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attack(Push(oracle, cohort, patient, epsilon, disguise), seed)
    except Crossed:
        ended = "crossed"
    except Blocked:
        ended = "blocked"
    except Spent:
        ended = "spent"
    except ValueError as error:
        if "not predicted for" not in str(error):
            raise
        ended = "withheld"
    return {
        "success": ended == "crossed", "ended": ended, "queries": oracle.queries, "informative": oracle.informative,
        "blocked": oracle.blocked, "coarse_at": getattr(oracle, "coarse_at", None), "waited": getattr(oracle, "waited", 0.0),
    }  # fmt: skip
