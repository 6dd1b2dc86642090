"""`helm template` by Helm's own engine, for machines without helm: the package helm-python-sdk of PyPI has it inside.

    HELM="python3 tests/helm.py" cargo test -p clusterip-tests --test deploy

Takes what the test gives: template NAME CHART --namespace NS --values FILE.
"""

import json
import sys

import helm_python

# The order in which Helm installs, and prints.
KINDS = ["ServiceAccount", "ConfigMap", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Service", "DaemonSet"]


def main(arguments):
    if arguments == ["version"]:
        print(helm_python.helm_sdk_version())
        return
    template, name, chart, namespace_flag, namespace, values_flag, values = arguments
    assert (template, namespace_flag, values_flag) == ("template", "--namespace", "--values"), arguments
    with open(values, encoding="utf-8") as file:
        values = helm_python.values_from_yaml(file.read())
    if isinstance(values, str):
        values = json.loads(values)
    with helm_python.Chart.load(chart) as loaded:
        rendered = loaded.render(values=values, name=name, namespace=namespace)
    documents = []
    for path, text in rendered.items():
        if path.endswith(".yaml"):
            documents += [(path, part.strip("\n")) for part in text.split("\n---\n") if part.strip()]

    def order(document):
        kinds = [line.split()[1] for line in document[1].splitlines() if line.startswith("kind: ")]
        kind = kinds[0] if kinds else ""
        return (KINDS.index(kind) if kind in KINDS else len(KINDS), document[0])

    for path, text in sorted(documents, key=order):
        print(f"---\n# Source: {path}\n{text}")


main(sys.argv[1:])
