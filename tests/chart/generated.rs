//! What is generated from the chart is up to date. `make generate` writes it anew.

use std::fs;

use serde_json::{Value, json};

use crate::rendering::{NAMESPACE, chart, helm};
use crate::values::{schema, table};

const INSTALL_HEAD: &str = "\
# Generated from deploy/chart with its default values by `make generate`; do not edit.
#
#   kubectl apply --server-side -f crds.yaml
#   kubectl apply --server-side -f install.yaml
#
# Set the image first, with kustomize (kustomization.yaml beside this file is the base) or by hand. Nothing in here holds
# data or protects any: it can be deleted and applied again.
";

const CRDS_HEAD: &str = "\
# Generated from deploy/chart by `make generate`; do not edit.
#
# What stays when the operator goes: its namespace, its CRDs, and the admission policies that see to it that nobody prepares
# what a later operator would act on. NEVER DELETE THIS FILE'S OBJECTS while anything of theirs is needed: with a CRD all
# objects of its kind go, sealed secrets among them, and with the namespace the keyring that opens them.
#
#   kubectl apply --server-side -f crds.yaml
---
apiVersion: v1
kind: Namespace
metadata:
  name: graph-credentials
  labels:
    pod-security.kubernetes.io/enforce: restricted
  annotations:
    argocd.argoproj.io/sync-options: Prune=false,Delete=false
    kustomize.toolkit.fluxcd.io/prune: disabled
";

const PREREQUISITES_HEAD: &str = "\
# Generated from deploy/chart by `make generate`; do not edit.
#
# What a cluster administrator applies once, where those who install the operator may not: the CRDs, the rights of people
# over their kinds, and the admission policies. The chart is then installed with crds.enabled=false,
# rbac.aggregateClusterRoles=false and admissionPolicies.enabled=false. The last policy names the operator's ServiceAccount,
# graph-credential-operator in the namespace graph-credentials: write your own there.
#
#   kubectl apply --server-side -f prerequisites.yaml
#
# Never delete the CRDs while an object is needed: all objects of their kinds go with them, sealed secrets among them.
";

const README_HEAD: &str = "\
<!-- Generated from values.yaml by `make generate`; do not edit. -->

# Chart of graph-credential-operator

Keeps Microsoft Graph app-only credentials registered at Woodpecker, as Kubernetes resources declare them. Needs
Kubernetes 1.30 or newer; tested with helm 4.

```sh
helm install graph-credential-operator deploy/chart --namespace graph-credentials --create-namespace \\
  --set image.registry=registry.example.com
```

What it installs, with which rights, and how it goes again: `docs/install.md` in the repository.

## Values

";

/// Each generated file and what must stand in it.
fn files() -> Vec<(&'static str, String)> {
    let of_administrators =
        ["templates/clusterroles-users.yaml", "templates/admission.yaml", "templates/admission-keyring.yaml"];
    let prerequisites = [show_only(&CRDS), show_only(&of_administrators)].concat();
    let lasting = [show_only(&CRDS), show_only(&["templates/admission.yaml"])].concat();
    vec![
        ("chart/README.md", format!("{README_HEAD}{}", table())),
        ("chart/values.schema.json", schema()),
        ("crds.yaml", format!("{CRDS_HEAD}{}", manifest(&json!({}), &lasting))),
        ("install.yaml", format!("{INSTALL_HEAD}{}", without_what_lasts())),
        ("prerequisites.yaml", format!("{PREREQUISITES_HEAD}{}", manifest(&json!({}), &prerequisites))),
    ]
}

const CRDS: [&str; 3] = [
    "templates/crds/microsoftgraphcredentials.yaml",
    "templates/crds/sealedgraphcredentials.yaml",
    "templates/crds/woodpeckeraccounts.yaml",
];

/// These templates alone, as helm is told them.
fn show_only(templates: &[&'static str]) -> Vec<&'static str> {
    templates.iter().flat_map(|template| ["--show-only", template]).collect()
}

/// What helm renders, without what only helm itself reads.
fn manifest(values: &Value, more: &[&str]) -> String {
    let text = helm().template(&chart(), NAMESPACE, values, more).expect("the chart renders");
    let of_helm = ["helm.sh/", "app.kubernetes.io/managed-by: Helm", "# Source: ", "# Generated from src/"];
    let lines = text.lines().filter(|line| !of_helm.iter().any(|word| line.trim_start().starts_with(word)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What a release installs, and goes with it.
fn without_what_lasts() -> String {
    let text = manifest(&json!({"crds": {"enabled": false}}), &["--no-hooks"]);
    let lasts = |document: &&str| document.contains("kustomize.toolkit.fluxcd.io/prune: disabled");
    text.split_inclusive("---\n").filter(|document| !lasts(document)).collect()
}

#[test]
fn what_is_generated_from_the_chart_is_up_to_date() {
    let write = std::env::var_os("GENERATE").is_some();
    if write {
        // First: helm holds the values against it.
        fs::write(chart().join("values.schema.json"), schema()).unwrap();
    }
    for (file, expected) in files() {
        let path = kit::workspace().join("deploy").join(file);
        if write {
            fs::write(&path, &expected).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == expected, "{} is stale: run `make generate` and commit the result", path.display());
    }
}

#[test]
fn the_plain_manifests_hold_what_helm_installs_and_nothing_of_helm() {
    let read = |file: &str| {
        let text = fs::read_to_string(kit::workspace().join("deploy").join(file)).unwrap();
        assert!(!text.to_lowercase().contains("helm"), "{file} speaks of helm");
        kit::helm::parse(&text).unwrap()
    };
    let kinds = |objects: &[Value], kind: &str| objects.iter().filter(|it| it["kind"] == kind).count();
    let crds = read("crds.yaml");
    assert_eq!(crds[0]["kind"], "Namespace");
    assert_eq!(kinds(&crds, "CustomResourceDefinition"), 3);
    assert_eq!(kinds(&crds, "ValidatingAdmissionPolicy"), 2);
    assert_eq!(kinds(&crds, "ValidatingAdmissionPolicyBinding"), 2);
    assert_eq!(crds.len(), 8);
    for object in &crds {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false", "{object}");
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{object}");
    }
    // Whoever deletes what is in it loses no credential and no key.
    let install = read("install.yaml");
    for kind in ["Namespace", "CustomResourceDefinition", "Secret"] {
        assert_eq!(kinds(&install, kind), 0, "{kind}");
    }
    assert_eq!(kinds(&install, "Deployment"), 1);
    assert_eq!(kinds(&install, "ValidatingAdmissionPolicy"), 1, "that of the operator itself");
    assert_eq!(kinds(&install, "Job"), 0, "there is nobody to run it at the right time");
    // What a release puts its own image in place of.
    let image = format!("\"graph-credential-operator:{}\"", env!("CARGO_PKG_VERSION"));
    let text = fs::read_to_string(kit::workspace().join("deploy/install.yaml")).unwrap();
    assert_eq!(text.matches(&image).count(), 1);
    let prerequisites = read("prerequisites.yaml");
    assert_eq!(kinds(&prerequisites, "CustomResourceDefinition"), 3);
    assert_eq!(kinds(&prerequisites, "ClusterRole"), 2);
    assert_eq!(kinds(&prerequisites, "ValidatingAdmissionPolicyBinding"), 3);
    assert_eq!(kinds(&prerequisites, "Deployment"), 0);
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let about = kit::helm::parse(&text).unwrap().remove(0);
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
}
