"""What the train.py files share: ONNX graphs, metrics, synthetic patients and file formats. `bundle.py` has the rest.

Every network maps float32 [N, features] `features` to float32 [N, 1] `probability`; scaling is inside the graph.
The graphs are written by hand, so they hold no labels, timestamps or tool-dependent names.
"""

import os

# One thread: sums are taken in the same order on every run. Must be set before numpy is imported.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import csv
import hashlib
import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm, rankdata

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
BATCH_TOLERANCE = 1e-6  # a matrix product may add in another order at another batch size

# --- ONNX -------------------------------------------------------------------------------------------------------------


def _model(nodes, initializers, features: int, name: str) -> bytes:
    tensors = [numpy_helper.from_array(value, key) for key, value in initializers.items()]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", features])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", 1])],
        tensors,
    )
    domains = [helper.make_opsetid("", OPSET)]
    if any(node.domain == "ai.onnx.ml" for node in nodes):
        domains.append(helper.make_opsetid("ai.onnx.ml", ML_OPSET))
    model = helper.make_model(
        graph, producer_name="vitalgate-models", producer_version="1", ir_version=IR_VERSION, opset_imports=domains
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def _floor_to_float32(value: float) -> float:
    """The largest float32 <= value: for a float32 x, `x <= value` and `x <= floor` then agree."""
    rounded = np.float32(value)
    return float(np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > value else rounded)


def boosted_trees(classifier, features: int, name: str) -> bytes:
    """A fitted binary HistGradientBoostingClassifier."""
    nodes = {key: [] for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    targets = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, (predictor,) in enumerate(classifier._predictors):
        for index, node in enumerate(predictor.nodes):
            leaf = bool(node["is_leaf"])
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(index)
            nodes["featureids"].append(0 if leaf else int(node["feature_idx"]))
            nodes["values"].append(0.0 if leaf else _floor_to_float32(float(node["num_threshold"])))
            nodes["modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            nodes["truenodeids"].append(0 if leaf else int(node["left"]))
            nodes["falsenodeids"].append(0 if leaf else int(node["right"]))
            if leaf:
                targets["treeids"].append(tree)
                targets["nodeids"].append(index)
                targets["ids"].append(0)
                targets["weights"].append(float(node["value"]))
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["logit"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",  # the runtime ignores LOGISTIC here, hence the Sigmoid
        base_values=[float(np.ravel(classifier._baseline_prediction)[0])],
        **{f"nodes_{key}": value for key, value in nodes.items()},
        **{f"target_{key}": value for key, value in targets.items()},
    )
    return _model([trees, helper.make_node("Sigmoid", ["logit"], ["probability"])], {}, features, name)


def perceptron(mean, scale, clip: float, weights, biases, name: str) -> bytes:
    """clip((x - mean) / scale), then dense layers with ReLU between them and a sigmoid at the end."""
    values = {
        "mean": np.asarray(mean, np.float32),
        "scale": np.asarray(scale, np.float32),
        "low": np.float32(-clip).reshape(()),
        "high": np.float32(clip).reshape(()),
    }
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["standardised"]),
        helper.make_node("Clip", ["standardised", "low", "high"], ["layer_0"]),
    ]
    last = len(weights) - 1
    for index, (weight, bias) in enumerate(zip(weights, biases)):
        values[f"weight_{index}"] = np.asarray(weight, np.float32)
        values[f"bias_{index}"] = np.asarray(bias, np.float32)
        dense = "logit" if index == last else f"dense_{index}"
        nodes.append(helper.make_node("Gemm", [f"layer_{index}", f"weight_{index}", f"bias_{index}"], [dense]))
        if index != last:
            nodes.append(helper.make_node("Relu", [dense], [f"layer_{index + 1}"]))
    nodes.append(helper.make_node("Sigmoid", ["logit"], ["probability"]))
    return _model(nodes, values, len(values["mean"]), name)


def census(content: bytes) -> list[dict]:
    """What a graph consists of, as properties of a bill of materials; `vitalgate bundle build` writes the same."""
    model = onnx.load_from_string(content)
    counts = Counter(f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in model.graph.node)
    values = {"ir_version": model.ir_version, "producer": f"{model.producer_name} {model.producer_version}"}
    values |= {f"opset:{entry.domain or 'ai.onnx'}": entry.version for entry in model.opset_import}
    values |= {f"nodes:{operator}": count for operator, count in sorted(counts.items())}
    return [{"name": f"vitalgate:onnx:{name}", "value": str(value)} for name, value in values.items()]


def predict(content: bytes, rows) -> np.ndarray:
    """The network's probabilities, as float64 [N]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    output = session.run(["probability"], {"features": np.asarray(rows, np.float32)})[0]
    assert output.shape == (len(rows), 1), output.shape
    return output[:, 0].astype(np.float64)


def check_member(content: bytes, rows, expected, tolerance: float) -> None:
    """Asserts the contract of the graph, that batching changes no answer, and that it equals the trained model."""
    model = onnx.load_from_string(content)
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx.ml"}
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert [entry.name for entry in model.graph.input] == ["features"]
    assert [entry.name for entry in model.graph.output] == ["probability"]
    together = predict(content, rows)
    assert np.isfinite(together).all() and (together >= 0).all() and (together <= 1).all()
    assert np.abs(together - expected).max() <= tolerance, np.abs(together - expected).max()
    batch = rows[:32]
    alone = np.array([predict(content, row[None, :])[0] for row in batch])
    assert np.abs(alone - predict(content, batch)).max() <= BATCH_TOLERANCE


# --- Metrics ----------------------------------------------------------------------------------------------------------


def auroc(outcome, probability) -> float:
    """Area under the ROC curve (Mann-Whitney, ties count half)."""
    positive = int(outcome.sum())
    negative = len(outcome) - positive
    if not positive or not negative:
        return math.nan
    ranks = rankdata(probability)[outcome == 1].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def brier(outcome, probability) -> float:
    """Mean squared difference between probability and outcome."""
    return float(np.mean((probability - outcome) ** 2))


def ece(outcome, probability, bins: int = 10) -> float:
    """Expected calibration error over ten bins of equal count."""
    order = np.array_split(np.argsort(probability, kind="stable"), bins)
    return float(sum(abs(outcome[part].mean() - probability[part].mean()) * len(part) for part in order) / len(outcome))


def ece_of_perfect(probability) -> float:
    """The ECE that chance alone gives a perfectly calibrated model on this many rows (mean of 200 draws)."""
    generator = np.random.default_rng(2012)
    draws = [ece((generator.random(len(probability)) < probability).astype(int), probability) for _ in range(200)]
    return float(np.mean(draws))


def measure(outcome, probability, slice_name: str, only_auroc: bool = False) -> list[dict]:
    """CycloneDX performance metrics with 95% percentile intervals of 1,000 bootstrap samples."""
    kinds = {"AUROC": auroc} if only_auroc else {"AUROC": auroc, "Brier score": brier, "ECE": ece}
    generator = np.random.default_rng(2012)
    samples = [generator.integers(0, len(outcome), len(outcome)) for _ in range(1000)]
    metrics = []
    for kind, function in kinds.items():
        drawn = [function(outcome[sample], probability[sample]) for sample in samples]
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        metric = {"type": kind, "value": f"{function(outcome, probability):.4f}", "slice": slice_name}
        if kind != "ECE":  # resampling biases ECE upwards, so its interval would mislead
            metric["confidenceInterval"] = {"lowerBound": f"{low:.4f}", "upperBound": f"{high:.4f}"}
        metrics.append(metric)
    return metrics


def metric_row(metrics: list[dict], slice_name: str, label: str) -> str:
    """One row of the card's table."""
    cells = []
    for kind in ("AUROC", "Brier score", "ECE"):
        metric = next((m for m in metrics if m["type"] == kind and m["slice"] == slice_name), None)
        if metric is None:
            cells.append("")
            continue
        cell = f"{float(metric['value']):.3f}"
        if interval := metric.get("confidenceInterval"):
            cell += f" [{float(interval['lowerBound']):.3f}–{float(interval['upperBound']):.3f}]"
        cells.append(cell)
    return f"| {label} | " + " | ".join(cells) + " |"


def logit(probability):
    """Log odds, with probabilities clipped to [1e-6, 1 - 1e-6]."""
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def conformal_bound(scores, alpha: float) -> float:
    """The bound that a new exchangeable score exceeds with probability <= alpha."""
    rank = math.ceil((len(scores) + 1) * (1 - alpha))
    assert rank <= len(scores), "too few calibration rows for this alpha"
    return math.ceil(float(np.sort(scores)[rank - 1]) * 1000) / 1000


# --- Aggregates and synthetic patients --------------------------------------------------------------------------------


def round_to(values, step):
    """Rounds to a multiple of `step`, without binary dust."""
    if step is None:
        return np.asarray(values, np.float64)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return np.round(np.round(np.asarray(values, np.float64) / step) * step, decimals)


def copula(rows, count: int, generator) -> np.ndarray:
    """Draws from a Gaussian copula: rank correlations of `rows`, marginals between the smoothed 1% and 99% quantiles.

    A column with fewer than 20 values keeps its step function, so that 0/1 stay 0/1.
    """
    scores = np.column_stack([norm.ppf(rankdata(column) / (len(column) + 1)) for column in rows.T])
    correlation = np.corrcoef(scores, rowvar=False)
    drawn = norm.cdf(generator.multivariate_normal(np.zeros(rows.shape[1]), correlation, count, method="cholesky"))
    grid = np.concatenate([[0.01], np.linspace(0.05, 0.95, 19), [0.99]])
    columns = []
    for column, share in zip(rows.T, drawn.T):
        if len(np.unique(column)) < 20:
            columns.append(np.quantile(column, share, method="inverted_cdf"))
        else:
            quantile = PchipInterpolator(grid, np.quantile(column, grid))
            columns.append(quantile(np.clip(share, grid[0], grid[-1])))
    return np.column_stack(columns)


def known_answers(names: list[str], rows, members: dict[str, bytes]) -> list[dict]:
    """Answers of ONNX Runtime for rows whose every value is exactly a float32."""
    assert (np.asarray(rows, np.float32).astype(np.float64) == rows).all()
    answers = []
    for name, row in zip(names, rows):
        outputs = {key: round(float(predict(content, row[None, :])[0]), 7) for key, content in members.items()}
        answers.append({"name": name, "inputs": plain(row), "outputs": outputs, "tolerance": 0.0001})
    return answers


# --- Files ------------------------------------------------------------------------------------------------------------


def plain(values) -> list:
    """JSON numbers, whole ones without a point."""
    return [int(value) if float(value).is_integer() else float(value) for value in values]


def to_json(value) -> str:
    """Indented JSON with flat lists and small flat objects on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)

    def join(match):
        flat = re.sub(r"\s*\n\s*", " ", match.group(0))
        flat = re.sub(r"^([\[{]) | ([\]}])$", r"\1\2", flat)
        return flat if len(flat) < 100 or not re.search(r'"', flat) else match.group(0)

    return re.sub(r"[\[{]\s[^\[\]{}]*[\]}]", join, text) + "\n"


def write_csv(path: Path, header: list[str], rows) -> None:
    """Rows with the shortest decimals that give the same numbers."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(plain(row) for row in rows)


def sha256(content: bytes) -> str:
    """Lower-case hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()
