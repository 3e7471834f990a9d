"""Whom an attack asks: the model alone (undefended), or the live server as one caller (defended).

Both count distinct rows, as an attacker would: what was answered once is remembered and not asked again.
"""

import http.client
import json
import math
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from patients import Model
from server import EnvironmentFault

# A row that is withheld tells the attacker nothing about the model. So many of them on end, and an attack is over.
SILENT = 25


class Blocked(Exception):
    """The server answers this caller no more; says with which code."""


class Spent(Exception):
    """The attack used up the queries that it was given."""


@dataclass
class Answer:
    """What one query told."""

    disposition: str
    probability: float | None = None
    band: int | None = None

    def __bool__(self) -> bool:
        """Whether it told anything about the model."""
        return self.band is not None


class Oracle:
    """Counts, remembers and limits."""

    def __init__(self, model: Model, most: int):
        self.model = model
        self.most = most
        self.seen: dict[bytes, Answer] = {}
        self.informative = 0
        self.silent = 0
        self.blocked: str | None = None

    @property
    def queries(self) -> int:
        """Distinct rows sent so far."""
        return len(self.seen)

    def ask(self, row: np.ndarray) -> Answer:
        """What the model says to one row, in clinical units (NaN: not measured)."""
        row = self.model.round(row)
        key = row.tobytes()
        known = self.seen.get(key)
        if known is not None:
            return known
        if self.blocked:
            raise Blocked(self.blocked)
        if self.queries >= self.most:
            raise Spent()
        answer = self.answer(row)
        self.seen[key] = answer
        self.informative += bool(answer)
        self.silent = 0 if answer else self.silent + 1
        if self.silent >= SILENT:
            self.blocked = f"nothing but {answer.disposition}"
        return answer

    def answer(self, row: np.ndarray) -> Answer:
        """Sends one row."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what it holds."""


class Undefended(Oracle):
    """The bundle's networks in ONNX Runtime: no screens, no limits, full precision."""

    def __init__(self, model: Model, most: int):
        super().__init__(model, most)
        self.networks = Networks.of(model)

    def answer(self, row):
        probability = float(self.networks.predict(row[None])[0])
        return Answer("predicted", probability, self.model.band(probability))


class Rounded(Undefended):
    """The networks alone, their answers hardened as the bundle says: what patience alone would give."""

    def answer(self, row):
        step = self.model.spec["output"]["precision"]
        probability = round(super().answer(row).probability / step) * step
        return Answer("predicted", probability, self.model.band(probability))


class Networks:
    """A bundle's networks; their mean is what the server rounds and releases."""

    _made: dict[Path, "Networks"] = {}

    def __init__(self, model: Model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.model = model
        self.sessions = [
            (onnxruntime.InferenceSession(str(model.bundle / member["file"]), options), member)
            for member in model.spec["members"]
        ]

    @classmethod
    def of(cls, model: Model) -> "Networks":
        """One for each bundle."""
        return cls._made.setdefault(model.bundle, cls(model))

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities, unrounded."""
        rows = np.where(np.isnan(rows), self.model.imputed, rows).astype(np.float32)
        answers = [
            np.asarray(session.run([member["output"]], {member["input"]: rows})[0]).reshape(len(rows))
            for session, member in self.sessions
        ]
        return np.mean(answers, axis=0)


class Live(Oracle):
    """The server, over mutual TLS, as one caller."""

    def __init__(self, server, caller: str, model: Model, most: int, patience: float = 0.0):
        """`patience`: seconds that it waits, in all, when told to come back later. A row that would be answered later than that is
        taken for refused, and the attack goes on with others."""
        super().__init__(model, most)
        self.server, self.caller, self.patience = server, caller, patience
        self.context = ssl.create_default_context(cafile=str(server.state / "ca.pem"))
        self.context.load_cert_chain(*server.identity(caller))
        self.connection = None
        self.path = f"/v1/models/{model.name}/predict"
        self.waited = 0.0
        self.coarse_at: int | None = None
        self.codes: dict[str, int] = {}

    def answer(self, row):
        while True:
            status, headers, body = self.post(self.model.request(row))
            if status != 200 or body["disposition"] != "predicted":
                for code in [body.get("code")] + [reason["code"] for reason in body.get("reasons", [])]:
                    if code:
                        self.codes[code] = self.codes.get(code, 0) + 1
            if status == 200:
                return self.read(body)
            if status == 422:
                return Answer("rejected")
            if body.get("code") == "FORBIDDEN":
                raise EnvironmentFault(f"{self.caller} may not ask for predictions")
            if status not in (429, 503) or body["code"] == "BUDGET_EXHAUSTED":
                self.blocked = body.get("code", str(status))
                raise Blocked(self.blocked)
            if not self.wait(float(headers["Retry-After"])):
                return Answer("refused")

    def read(self, body) -> Answer:
        """A 200: a prediction, or a review without one."""
        prediction = body.get("prediction")
        if prediction is None:
            return Answer(body["disposition"])
        probability, band = prediction.get("probability"), self.model.bands.index(prediction["band"])
        if probability is None and self.coarse_at is None:
            self.coarse_at = self.queries + 1
        if "range" in prediction:
            # Within measurement uncertainty of another band: nearer to the edge between them than to the middle.
            low = self.model.bands.index(prediction["range"][0])
            edge = self.model.edges[band if low == band else band - 1]
            middle = self.model.middle(band) if probability is None else probability
            probability = edge + 0.3 * (middle - edge)
        return Answer(body["disposition"], probability, band)

    def wait(self, seconds: float) -> bool:
        """Waits as it is told, as long as there is patience for it."""
        if self.waited + seconds > self.patience:
            return False
        self.waited += seconds
        time.sleep(seconds)
        return True

    def post(self, body: bytes, path: str | None = None):
        """Status, headers and document of one request; a connection that was closed is opened again once."""
        for attempt in (0, 1):
            fresh = self.connection is None
            if fresh:
                self.connection = http.client.HTTPSConnection(
                    self.server.host, self.server.port, context=self.context, timeout=30
                )
            try:
                self.connection.request(
                    "POST", path or self.path, body, {"Content-Type": "application/json"}
                )
                response = self.connection.getresponse()
                return response.status, response.headers, json.loads(response.read())
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if fresh or attempt:
                    raise
        raise AssertionError("not reached")

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def logit(probability):
    """Of probabilities that may have been rounded to 0 or 1."""
    probability = np.clip(probability, 0.02, 0.98)
    return np.log(probability / (1 - probability))


def score(answer: Answer, model: Model) -> float | None:
    """How far towards the threshold, 0 to 1, the threshold at .5; None when the answer told nothing."""
    if not answer:
        return None
    probability = answer.probability if answer.probability is not None else model.middle(answer.band)
    high = answer.band >= model.high_band
    odds = float(logit(probability)) - math.log(model.threshold / (1 - model.threshold))
    value = 1 / (1 + math.exp(-odds))
    # A released probability is rounded: the band decides on which side it is.
    return max(value, 0.5001) if high else min(value, 0.4999)
