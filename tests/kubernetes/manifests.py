#!/usr/bin/env python3
"""The manifests in docker/kubernetes against the schemas of Kubernetes and KServe, and against what the server has.

`make kubernetes` runs it. Kubernetes' resources are checked by the JSON schemas of the package kubernetes-validate, in
every version from FIRST on, unknown fields forbidden. KServe publishes no such schemas as a package; its Python client
is generated from them, and its tables of fields and types are read here (its code is not run).
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any, Iterator

import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docker/kubernetes"
FIRST = (1, 30)
KSERVE = Path(sysconfig.get_paths()["purelib"]) / "kserve/models"
#: Files that are no resources.
OTHERS = {"kustomization.yaml", "prometheus-adapter.yaml"}
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}


def main() -> int:
    problems = [*kustomization(), *resources(), *fitting(), *self_test()]
    for problem in problems:
        print(f"kubernetes: {problem}", file=sys.stderr)
    if not problems:
        print("manifests: ok")
    return 1 if problems else 0


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def versions() -> list[str]:
    found = {tuple(int(part) for part in version.split(".")[:2]) for version in all_versions()}
    return [".".join(map(str, version)) for version in sorted(found) if version >= FIRST]


# --- by schema ---


def resources() -> Iterator[str]:
    """Problems of every resource."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        if path.name in OTHERS:
            continue
        for document in documents(path):
            name = f"{path.relative_to(ROOT)}: {document['kind']}"
            for problem in kserve(document) if "kserve" in document["apiVersion"] else core(document):
                yield f"{name}: {problem}"


def core(document: dict[str, Any]) -> Iterator[str]:
    for version in versions():
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"


def kserve(document: dict[str, Any]) -> Iterator[str]:
    group, version = document["apiVersion"].split("/")
    if group != "serving.kserve.io":
        yield f"there is no group {group}"
        return
    yield from typed(document, f"V{version[1:]}{document['kind']}", document["kind"])


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def fields(kind: str) -> dict[str, str] | None:
    """JSON names of a type of KServe with their types; None for what is Kubernetes' own."""
    path = KSERVE / f"{snake(kind)}.py"
    if not path.is_file():
        return None
    tables: dict[str, dict[str, str]] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("openapi_types", "attribute_map"):
            tables[node.targets[0].id] = ast.literal_eval(node.value)
    types, names = tables["openapi_types"], tables["attribute_map"]
    return {names[attribute]: kind for attribute, kind in types.items()}


def typed(value: Any, kind: str, place: str) -> Iterator[str]:
    """Problems of a value that has to be of a type."""
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        if not isinstance(value, list):
            yield f"{place} is no list"
            return
        for i, item in enumerate(value):
            yield from typed(item, match[1], f"{place}[{i}]")
    elif match := re.fullmatch(r"dict\(str, (.*)\)", kind):
        for key, item in value.items():
            yield from typed(item, match[1], f"{place}.{key}")
    elif kind in PLAIN:
        if not isinstance(value, PLAIN[kind]) or (kind == "int" and isinstance(value, bool)):
            yield f"{place} is {value!r}, it has to be of type {kind}"
    elif (known := fields(kind)) is not None:
        for key, item in value.items():
            if key in known:
                yield from typed(item, known[key], f"{place}.{key}")
            else:
                yield f"{place} has no field {key}"
    else:
        yield from (f"{place}: {problem}" for problem in in_a_pod(value, kind))


def in_a_pod(value: Any, kind: str) -> Iterator[str]:
    """Problems of a part of Kubernetes' own, which is looked at in a pod."""
    container = {"name": "x", "image": "x"}
    spec: dict[str, Any] = {"containers": [container]}
    metadata: dict[str, Any] = {"name": "x"}
    if kind == "V1ObjectMeta":
        metadata = value
    elif kind == "V1Container":
        spec["containers"] = [value]
    elif kind == "V1Volume":
        spec["volumes"] = [value]
    elif kind == "V1EnvVar":
        container["env"] = [value]
    else:
        yield f"nothing checks the type {kind}"
        return
    yield from core({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


# --- by what is there ---


def kustomization() -> Iterator[str]:
    """Problems of the list of files."""
    listed = documents(FOLDER / "kustomization.yaml")[0]["resources"]
    there = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name not in OTHERS)
    if sorted(listed) != there:
        yield f"kustomization.yaml lists {sorted(listed)}, there are {there}"


def fitting() -> Iterator[str]:
    """Whether the resources fit each other and the server."""
    by_kind = {
        document["kind"]: document
        for path in FOLDER.glob("*.yaml")
        if path.name not in OTHERS
        for document in documents(path)
    }
    pod = by_kind["Deployment"]["spec"]["template"]
    labels, container = pod["metadata"]["labels"], pod["spec"]["containers"][0]
    for kind, selector in {
        "Deployment": by_kind["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": by_kind["Service"]["spec"]["selector"],
        "PodDisruptionBudget": by_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    }.items():
        if selector != labels:
            yield f"{kind} selects {selector}, pods have {labels}"
    target = by_kind["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    if target["name"] != by_kind["Deployment"]["metadata"]["name"]:
        yield f"the autoscaler scales {target['name']}"

    literals = documents(FOLDER / "kustomization.yaml")[0]["configMapGenerator"][0]["literals"]
    settings = dict(literal.split("=", 1) for literal in literals)
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    if pod["spec"]["terminationGracePeriodSeconds"] <= pause + int(settings["XPROMPT_DRAIN_TIMEOUT"].removesuffix("s")):
        yield "terminationGracePeriodSeconds ends before the server has drained"

    reference = (ROOT / "docs/reference/xprompt-server.md").read_text(encoding="utf-8")
    runtime, service = (documents(FOLDER / f"kserve/{name}.yaml")[0]["spec"] for name in ("runtime", "service"))
    variables = [*settings]
    for holder in (container, runtime["containers"][0], service["predictor"]["model"]):
        variables += [variable["name"] for variable in holder["env"] if variable["name"].startswith("XPROMPT")]
    yield from (f"the server has no variable {name}" for name in variables if f"`{name}`" not in reference)
    if service["predictor"]["model"]["modelFormat"]["name"] != runtime["supportedModelFormats"][0]["name"]:
        yield "the InferenceService asks for a format that the runtime does not have"

    routes = (ROOT / "docs/reference/http.md").read_text(encoding="utf-8")
    for holder in (container, runtime["containers"][0]):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = holder[probe]["httpGet"]["path"]
            if f"`GET {path}`" not in routes:
                yield f"{probe}: the server has no route {path}"

    rule = documents(FOLDER / "prometheus-adapter.yaml")[0]["rules"]["custom"][0]
    asked = by_kind["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    if rule["name"]["as"] != asked:
        yield f"the adapter makes {rule['name']['as']}, the autoscaler asks for {asked}"
    source = rule["seriesQuery"].split("{")[0]
    if f"`{source}`" not in (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8"):
        yield f"the server exports no {source}"


def self_test() -> Iterator[str]:
    """Manifests with mistakes: whoever finds none in them finds none anywhere."""
    deployment = documents(FOLDER / "deployment.yaml")[0]
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    runtime = documents(FOLDER / "kserve/runtime.yaml")[0]
    runtime["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
    service = documents(FOLDER / "kserve/service.yaml")[0]
    service["spec"]["predictor"]["model"]["modelFormat"]["names"] = "t5"
    for document, check in ((deployment, core), (runtime, kserve), (service, kserve)):
        if not any(check(document)):
            yield f"a mistake in {document['kind']} is not found"


if __name__ == "__main__":
    sys.exit(main())
