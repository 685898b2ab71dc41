"""The manifests of deploy/kubernetes against the schemas of what they describe; no field is there that no one knows."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

jsonschema = pytest.importorskip("jsonschema", reason="kubernetes-validate is not installed")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.31", kubernetes_validate.latest_version())
OWN = ("load.yaml", "oceanbase.yaml")
"""The files that hold Kubernetes' own kinds."""
OPERATOR = "github.com/cloudnative-pg/cloudnative-pg@v1.27.0"
"""The operator whose schema could be had as a Go module; of the others: deploy/kubernetes/README.md."""
FETCHED_WITHIN_S = 120


def documents(file: str) -> list[dict[str, Any]]:
    """What a manifest describes."""
    return list(yaml.safe_load_all((FOLDER / file).read_text()))


def is_own(document: dict[str, Any]) -> bool:
    """Whether a resource is of Kubernetes itself, not of an operator."""
    return "." not in document["apiVersion"].partition("/")[0]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("file", OWN)
def test_own_kinds_keep_kubernetes_schema(file: str, version: str) -> None:
    """Strictly: an unknown field is an error."""
    found = [document for document in documents(file) if is_own(document)]

    assert found
    for document in found:
        kubernetes_validate.validate(document, version, strict=True)


def test_schema_refuses_a_misspelt_field() -> None:
    """The check would notice."""
    (job, *_) = (document for document in documents("load.yaml") if document["kind"] == "Job")
    job["spec"]["template"]["spec"]["containers"][0]["arguments"] = []
    with pytest.raises(kubernetes_validate.ValidationError, match="arguments"):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_number_of_workers_is_one_number() -> None:
    """As they are in the file, and as the kustomization changes them: the master waits for as many as there are."""
    jobs = {one["metadata"]["name"]: one["spec"] for one in documents("load.yaml") if one["kind"] == "Job"}
    arguments = jobs["loadgen-master"]["template"]["spec"]["containers"][0]["args"]
    workers = jobs["loadgen-worker"]
    (kustomization,) = documents("kustomization.yaml")
    changes = {
        (patch["target"]["name"], change["path"]): change["value"]
        for patch in kustomization["patches"]
        for change in yaml.safe_load(patch["patch"])
    }
    ((_, path), expected) = next(item for item in changes.items() if item[0][0] == "loadgen-master")
    count = changes["loadgen-worker", "/spec/completions"]

    assert arguments[int(path.rsplit("/", 1)[1])] == f"--expect-workers={workers['completions']}"
    assert workers["parallelism"] == workers["completions"]
    assert expected == f"--expect-workers={count}"
    assert changes["loadgen-worker", "/spec/parallelism"] == count


def test_postgres_keeps_its_operators_schema(tmp_path: Path) -> None:
    """CloudNativePG's own definition, out of its Go module."""
    if shutil.which("go") is None:
        pytest.skip("there is no go here to fetch the operator's module")
    command = ["go", "mod", "download", "-json", OPERATOR]
    fetched = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=FETCHED_WITHIN_S, check=False
    )
    if fetched.returncode:
        pytest.skip(f"{OPERATOR} cannot be fetched: {fetched.stderr.strip() or fetched.stdout.strip()}"[:300])
    folder = Path(json.loads(fetched.stdout)["Dir"]) / "config" / "crd" / "bases"
    definition = yaml.safe_load((folder / "postgresql.cnpg.io_clusters.yaml").read_text())["spec"]
    (schema,) = (one["schema"]["openAPIV3Schema"] for one in definition["versions"] if one["name"] == "v1")
    (cluster,) = documents("postgres.yaml")

    assert cluster["apiVersion"] == f"{definition['group']}/v1"
    assert cluster["kind"] == definition["names"]["kind"]
    jsonschema.validate(cluster, strict(schema))
    cluster["spec"]["postgresql"]["synchronous"]["dataDurabilty"] = "required"
    with pytest.raises(jsonschema.ValidationError, match="dataDurabilty"):
        jsonschema.validate(cluster, strict(schema))


def strict(schema: Any) -> Any:
    """A definition's schema under which no field is there that it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed
