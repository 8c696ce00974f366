"""Checks what `deploy/check` has rendered: every object against its schema, every workload against the policy below.

    check.py OVERLAY.yaml...

Kubernetes' schemas come with the package kubernetes-validate; KEDA's stands in kubernetes/schemas/.
"""

import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.34"
KEDA = json.loads((pathlib.Path(__file__).parent / "kubernetes/schemas/keda.json").read_text())


def schema_errors(thing):
    try:
        if thing["apiVersion"].startswith("keda.sh/"):
            jsonschema.validate(thing, KEDA, cls=jsonschema.Draft202012Validator)
        else:
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        yield f"{error.message} at {'/'.join(map(str, error.path))}"


def pod_template(thing):
    """Of a Deployment or a Job; of a CronJob, that of its Jobs."""
    spec = thing.get("spec")
    if not isinstance(spec, dict):
        return None
    return spec.get("jobTemplate", {}).get("spec", spec).get("template")


def policy_errors(thing):
    template = pod_template(thing)
    if not template:
        return
    pod = template["spec"]
    labels = template.get("metadata", {}).get("labels", {})
    asks = any(v["name"] == "PERITO_API_URL" for c in pod["containers"] for v in c.get("env", []))
    if asks and labels.get("perito.dev/api-client") != "true":
        yield "the pod uses the API, which only pods with the label perito.dev/api-client reach"
    if not pod.get("securityContext", {}).get("runAsNonRoot"):
        yield "the pod may run as root"
    if pod.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token of the Kubernetes API"
    if not pod.get("priorityClassName"):
        yield "the pod has no priority class"
    for container in pod["containers"] + pod.get("initContainers", []):
        name, context = container["name"], container.get("securityContext", {})
        tag = container["image"].rpartition(":")[2] if ":" in container["image"].rpartition("/")[2] else ""
        if tag in ("", "latest"):
            yield f"{name}: the image {container['image']} has no version"
        resources = container.get("resources", {})
        for kind, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
            if what not in resources.get(kind, {}):
                yield f"{name}: no {kind} of {what}"
        if not context.get("readOnlyRootFilesystem"):
            yield f"{name}: the root filesystem can be written"
        if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities", {}).get("drop") != ["ALL"]:
            yield f"{name}: privileges are not dropped"
        for variable in container.get("env", []):
            secret = any(word in variable["name"] for word in ("PASSWORD", "SECRET", "KEY", "TOKEN", "DATABASE_URL", "AMQP_URL"))
            if secret and "value" in variable:
                yield f"{name}: {variable['name']} is written down instead of being taken from a Secret"
        grace = next((v["value"] for v in container.get("env", []) if v["name"] == "PERITO_GRACE"), "25s")
        if thing["kind"] == "Deployment" and pod.get("terminationGracePeriodSeconds", 30) < int(grace.rstrip("s")) + 5:
            yield f"{name}: is killed before its grace period of {grace} is over"
        if thing["kind"] == "Deployment" and not (container.get("readinessProbe") and container.get("livenessProbe")):
            yield f"{name}: lacks a probe"


def reference_errors(things):
    """Names that one object uses and no other one has."""
    names = {(thing["kind"], thing["metadata"]["name"]) for thing in things}
    for thing in things:
        spec = thing.get("spec", {})
        wanted = []
        template = pod_template(thing)
        if template:
            pod = template["spec"]
            wanted += [("ServiceAccount", pod.get("serviceAccountName")), ("PriorityClass", pod.get("priorityClassName"))]
            for container in pod["containers"]:
                wanted += [("ConfigMap", s["configMapRef"]["name"]) for s in container.get("envFrom", []) if "configMapRef" in s]
        if thing["kind"] == "ScaledObject":
            wanted.append(("Deployment", spec["scaleTargetRef"]["name"]))
            wanted += [("TriggerAuthentication", t["authenticationRef"]["name"]) for t in spec["triggers"]]
        for kind, name in wanted:
            if (kind, name) not in names:
                yield f"{thing['kind']}/{thing['metadata']['name']}: there is no {kind} {name}"


def main(paths):
    failed = checked = 0
    for path in paths:
        things = [thing for thing in yaml.safe_load_all(pathlib.Path(path).read_text()) if thing]
        errors = [
            f"{thing['kind']}/{thing['metadata']['name']}: {error}"
            for thing in things
            for check in (schema_errors, policy_errors)
            for error in check(thing)
        ] + list(reference_errors(things))
        for error in errors:
            print(f"{pathlib.Path(path).stem}: {error}", file=sys.stderr)
        failed += len(errors)
        checked += len(things)
    print(f"manifests: {checked} objects checked, {failed} errors")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
