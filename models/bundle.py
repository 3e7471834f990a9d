"""What the train.py files share besides export.py: the ML-BOM, the bundle's files, and the check against what is committed."""

import json
import platform
import uuid
from importlib.metadata import version
from pathlib import Path
from string import Template

import export

REFERENCE = "reference.json"
TOLERANCE = {"AUROC": 0.005, "Brier score": 0.002, "ECE": 0.010, "max logit spread": 0.2}


def bom(model: dict, card: dict, members: dict[str, dict], dataset: dict, metrics: list[dict]) -> dict:
    """A CycloneDX 1.6 ML-BOM, the same for the same training.

    `members` maps a name to {"content": bytes, "family": str, "architecture": str}; `dataset` is a component of type data.
    """
    identity = f"{model['name']}@{model['version']}"
    data_ref = dataset["bom-ref"]

    def parameters(family, architecture):
        return {
            "approach": {"type": "supervised"},
            "task": "binary classification",
            "architectureFamily": family,
            "modelArchitecture": architecture,
            "datasets": [{"ref": data_ref}],
            "inputs": [{"format": f"features: float32 [N, {len(model['features'])}]"}],
            "outputs": [{"format": "probability: float32 [N, 1]"}],
        }

    components = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"member:{name}",
            "name": f"members/{name}.onnx",
            "version": str(model["version"]),
            "hashes": [{"alg": "SHA-256", "content": export.sha256(member["content"])}],
            "properties": export.census(member["content"]),
            "modelCard": {
                "modelParameters": parameters(member["family"], member["architecture"]),
                "quantitativeAnalysis": {
                    "performanceMetrics": [m for m in metrics if m["slice"] == f"test, {name}"]
                },
            },
        }
        for name, member in members.items()
    ]
    tools = [{"type": "platform", "name": "python", "version": platform.python_version()}] + [
        {"type": "library", "name": name, "version": version(name), "purl": f"pkg:pypi/{name}@{version(name)}"}
        for name in ("numpy", "scipy", "scikit-learn", "onnx", "onnxruntime")
    ]
    whole = " and ".join(member["family"] for member in members.values())
    architecture = card["architecture"]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'vitalgate:{identity}')}",
        "version": 1,
        "metadata": {
            "tools": {"components": tools},
            "authors": [{"name": name} for name in card["trained_by"]],
            "component": {
                "type": "machine-learning-model",
                "bom-ref": f"model:{identity}",
                "name": model["name"],
                "version": str(model["version"]),
                "description": model["intended_use"],
                # Nobody has changed it since, and nobody approved it for patients; a signature proves approval.
                "properties": [{"name": "vitalgate:approved_by", "value": "nobody, for patient care: a demonstration"}],
                "modelCard": {
                    "modelParameters": parameters(whole, architecture),
                    "quantitativeAnalysis": {"performanceMetrics": metrics},
                    "considerations": card["considerations"],
                },
            },
        },
        "components": components + [dataset],
        "dependencies": [
            {"ref": f"model:{identity}", "dependsOn": [c["bom-ref"] for c in components] + [data_ref]},
            *({"ref": c["bom-ref"], "dependsOn": [data_ref]} for c in components),
        ],
    }


def validate_bom(text: str) -> None:
    """Validates against the CycloneDX 1.6 schema where cyclonedx-python-lib[json-validation] is installed."""
    try:
        from cyclonedx.exception import MissingOptionalDependencyException
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        print("bom.cdx.json: not validated (cyclonedx-python-lib is not installed)")
        return
    try:
        fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    except MissingOptionalDependencyException:
        print("bom.cdx.json: not validated (the extra json-validation is not installed)")
        return
    assert fault is None, f"bom.cdx.json is not CycloneDX 1.6: {fault}"
    print("bom.cdx.json: valid CycloneDX 1.6")


def write_bundle(out: Path, model: dict, members: dict[str, dict], document: dict, card: str) -> None:
    """Writes `bundle/` but for reference.json, which `fit.py` makes; `card` is the finished README."""
    bundle = out / "bundle"
    (bundle / "members").mkdir(parents=True, exist_ok=True)
    for name, member in members.items():
        (bundle / "members" / f"{name}.onnx").write_bytes(member["content"])
    text = export.to_json(document)
    validate_bom(text)
    (bundle / "model.json").write_text(export.to_json(model), encoding="utf-8")
    (bundle / "bom.cdx.json").write_text(text, encoding="utf-8")
    (bundle / "README.md").write_text(card, encoding="utf-8")


def note_reference(bundle: Path, check: bool = False) -> bool:
    """Names the bundle's reference.json, its hash and how it was fitted in the BOM; whether it was named so before."""
    content = (bundle / REFERENCE).read_bytes()
    fitted = json.loads(content)
    parameters = {key: value for key, value in fitted["fit"].items() if key not in ("data", "unseen", "validation")}
    parameters |= {f"validation:{key}": value for key, value in fitted["fit"].get("validation", {}).items()}
    parameters |= {"alpha": fitted["calibration"]["alpha"]}
    parameters |= {f"budget:{key}": value for key, value in fitted["budget"].items()}
    if agreement := fitted.get("agreement"):
        parameters |= {f"agreement:{key}": agreement[key] for key in ("alpha", "bound")}
        parameters |= {"agreement:rows": len(agreement["calibration"])}
    files = {f"data:{i}": part for i, part in enumerate(fitted["fit"]["data"])}
    if unseen := fitted["fit"].get("unseen"):
        files["unseen"] = unseen
    parameters |= {key: f"sha256:{part['sha256']}, {part['rows']} rows" for key, part in files.items()}
    component = {
        "type": "data",
        "bom-ref": f"reference:{fitted['name']}@{fitted['version']}",
        "name": REFERENCE,
        "version": str(fitted["version"]),
        "description": "What the model's patients look like, for the distribution screen: aggregates only",
        "hashes": [{"alg": "SHA-256", "content": export.sha256(content)}],
        "properties": [{"name": f"vitalgate:fit:{key}", "value": str(value)} for key, value in parameters.items()],
    }
    path = bundle / "bom.cdx.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    before = [c for c in document["components"] if c["name"] == REFERENCE]
    if not check:
        document["components"] = [c for c in document["components"] if c["name"] != REFERENCE] + [component]
        text = export.to_json(document)
        validate_bom(text)
        path.write_text(text, encoding="utf-8")
    return before == [component]


def fill_card(template: Path, **values) -> str:
    """Fills the `$name`s of the card; one that is missing or unused is an error."""
    text = template.read_text(encoding="utf-8")
    unused = set(values) - set(Template(text).get_identifiers())
    assert not unused, f"unused in {template.name}: {sorted(unused)}"
    return Template(text).substitute(values)


def compare(committed: Path, model: dict, document: dict) -> bool:
    """Whether a new training agrees with the committed bundle; prints every difference."""
    old_model = json.loads((committed / "model.json").read_text(encoding="utf-8"))
    old = json.loads((committed / "bom.cdx.json").read_text(encoding="utf-8"))
    good = True

    def table(bill, definition):
        found = bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
        rows = {(m["type"], m["slice"]): float(m["value"]) for m in found}
        if agreement := definition.get("agreement"):
            rows["max logit spread", "calibration"] = agreement["max_logit_spread"]
        return rows

    before, after = table(old, old_model), table(document, model)
    if before.keys() != after.keys():
        print(f"the metrics differ in kind: {sorted(before.keys() ^ after.keys())}")
        good = False
    for key in before.keys() & after.keys():
        if abs(before[key] - after[key]) > TOLERANCE[key[0]]:
            print(f"{key[0]} ({key[1]}): committed {before[key]}, now {after[key]}, tolerance {TOLERANCE[key[0]]}")
            good = False

    def hashes(bill):
        found = {c["name"]: c["hashes"][0]["content"] for c in bill["components"] if "hashes" in c}
        return {name: digest for name, digest in found.items() if name != REFERENCE}

    if not note_reference(committed, check=True):
        print("reference.json: not the file that bom.cdx.json names; make fit writes both")
        good = False
    for name, digest in hashes(old).items():
        if name.startswith("members/") and export.sha256((committed / name).read_bytes()) != digest:
            print(f"{name}: not the file that bom.cdx.json names")
            good = False
    same = hashes(old) == hashes(document)
    print("members and data: " + ("byte for byte the same" if same else "not the same bytes (allowed: see the metrics)"))
    print("check: " + ("the committed bundle holds" if good else "the committed bundle does NOT hold"))
    return good
