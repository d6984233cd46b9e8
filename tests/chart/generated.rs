//! Checks that the files generated from the chart are up to date. `make generate` writes them.

use std::fs;

use serde_json::{Value, json};

use crate::profiles;
use crate::rendering::{NAMESPACE, chart, helm};
use crate::values::{defaults, schema, table};

const INSTALL_HEAD: &str = "\
# Generated from deploy/chart with its default values by `make generate`; do not edit.
#
#   kubectl apply --server-side -f crds.yaml
#   kubectl apply --server-side -f install.yaml
#
# Set the image first, with kustomize (kustomization.yaml in this folder is the base) or manually: no public registry has
# it. No object in this file stores or protects data: you can delete them all and apply them again.
";

const CRDS_HEAD: &str = "\
# Generated from deploy/chart by `make generate`; do not edit.
#
# Objects that remain when the operator is removed: its namespace, its CRDs, and the admission policies that prevent
# users from preparing objects for a later operator. NEVER DELETE THE OBJECTS OF THIS FILE while their data is needed:
# a deleted CRD deletes all objects of its kind, including sealed credentials, and a deleted namespace deletes the
# keyring that decrypts them.
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
# Objects that a cluster administrator applies once, if the users who install the operator may not: the CRDs, the
# rights of users to their kinds, and the admission policies. Then install the chart with crds.enabled=false,
# rbac.aggregateClusterRoles=false and admissionPolicies.enabled=false. The policies own-secrets and own-objects name
# the operator's ServiceAccount, graph-credential-operator, in any namespace: replace the name if yours has another. An
# operator without a ClusterRole also needs a binding of the ClusterRole state-writers (docs/tasks/install.md).
#
#   kubectl apply --server-side -f prerequisites.yaml
#
# Never delete the CRDs while an object is needed: this deletes all objects of their kinds, including sealed
# credentials.
";

const README_HEAD: &str = "\
<!-- Generated from values.yaml and profiles by `make generate`; do not edit. -->

# Chart of graph-credential-operator

Keeps Microsoft Graph app-only credentials registered at Woodpecker, as declared in Kubernetes resources. Requires
Kubernetes 1.30 or newer; tested with helm 4. No public registry has the image: build it with `make image` and push it to
your own first.

```sh
helm install graph-credential-operator deploy/chart --namespace graph-credentials --create-namespace \\
  --set image.registry=registry.example.com
```

`docs/tasks/install.md` in the repository describes what the chart installs, with which rights, and how to uninstall it.

## Profiles

A profile is a values file for a common installation, in the folder `profiles`. Add it with `--values` to `helm install`
or `helm upgrade`, before your own values. Profiles can be combined; the last one wins.

";

/// Each generated file with its content.
fn files() -> Vec<(&'static str, String)> {
    let of_administrators = [
        "templates/clusterroles-users.yaml",
        "templates/rbac-state-writers.yaml",
        "templates/admission.yaml",
        "templates/admission-state.yaml",
        "templates/admission-size.yaml",
        "templates/admission-identities.yaml",
        "templates/admission-keyring.yaml",
        "templates/admission-own-objects.yaml",
    ];
    let prerequisites = [show_only(&CRDS), show_only(&of_administrators)].concat();
    let lasting = [
        "templates/rbac-state-writers.yaml",
        "templates/admission.yaml",
        "templates/admission-state.yaml",
        "templates/admission-size.yaml",
    ];
    let lasting = [show_only(&CRDS), show_only(&lasting)].concat();
    vec![
        ("chart/README.md", format!("{README_HEAD}{}\n## Values\n\n{}", profiles::table(), table())),
        ("chart/values.schema.json", schema()),
        ("chart/templates/_defaults.tpl", defaults()),
        ("crds.yaml", format!("{CRDS_HEAD}{}", manifest(&json!({}), &lasting))),
        ("install.yaml", format!("{INSTALL_HEAD}{}", without_persistent_objects())),
        ("prerequisites.yaml", format!("{PREREQUISITES_HEAD}{}", manifest(&json!({}), &prerequisites))),
    ]
}

const CRDS: [&str; 5] = [
    "templates/crds/entraidentities.yaml",
    "templates/crds/woodpeckermailboxes.yaml",
    "templates/crds/microsoftgraphcredentials.yaml",
    "templates/crds/sealedgraphcredentials.yaml",
    "templates/crds/woodpeckeraccounts.yaml",
];

/// The helm arguments that render only these templates.
fn show_only(templates: &[&'static str]) -> Vec<&'static str> {
    templates.iter().flat_map(|template| ["--show-only", template]).collect()
}

/// The rendered manifest without what only helm reads.
fn manifest(values: &Value, more: &[&str]) -> String {
    let text = helm().template(&chart(), NAMESPACE, values, more).expect("the chart renders");
    let of_helm = ["helm.sh/", "app.kubernetes.io/managed-by: Helm", "# Source: ", "# Generated from src/"];
    let lines = text.lines().filter(|line| !of_helm.iter().any(|word| line.trim_start().starts_with(word)));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What a release installs and an uninstall deletes.
fn without_persistent_objects() -> String {
    let text = manifest(&json!({"crds": {"enabled": false}}), &["--no-hooks"]);
    let lasts = |document: &&str| document.contains("kustomize.toolkit.fluxcd.io/prune: disabled");
    text.split_inclusive("---\n").filter(|document| !lasts(document)).collect()
}

#[test]
fn files_generated_from_the_chart_are_up_to_date() {
    let write = std::env::var_os("GENERATE").is_some();
    if write {
        // First, because helm reads them.
        fs::write(chart().join("values.schema.json"), schema()).unwrap();
        fs::write(chart().join("templates/_defaults.tpl"), defaults()).unwrap();
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
fn the_plain_manifests_equal_a_helm_install_without_helm_labels() {
    let read = |file: &str| {
        let text = fs::read_to_string(kit::workspace().join("deploy").join(file)).unwrap();
        assert!(!text.to_lowercase().contains("helm"), "{file} speaks of helm");
        kit::helm::parse(&text).unwrap()
    };
    let kinds = |objects: &[Value], kind: &str| objects.iter().filter(|it| it["kind"] == kind).count();
    let crds = read("crds.yaml");
    assert_eq!(crds[0]["kind"], "Namespace");
    assert_eq!(kinds(&crds, "CustomResourceDefinition"), 5);
    assert_eq!(kinds(&crds, "ValidatingAdmissionPolicy"), 4);
    assert_eq!(kinds(&crds, "ValidatingAdmissionPolicyBinding"), 4);
    assert_eq!(crds.len(), 15);
    for object in &crds {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["argocd.argoproj.io/sync-options"], "Prune=false,Delete=false", "{object}");
        assert_eq!(annotations["kustomize.toolkit.fluxcd.io/prune"], "disabled", "{object}");
    }
    // Deleting everything in it deletes no credential and no key.
    let install = read("install.yaml");
    for kind in ["Namespace", "CustomResourceDefinition", "Secret"] {
        assert_eq!(kinds(&install, kind), 0, "{kind}");
    }
    assert_eq!(kinds(&install, "Deployment"), 1);
    assert_eq!(kinds(&install, "ValidatingAdmissionPolicy"), 3, "those of the operator itself");
    assert_eq!(kinds(&install, "Job"), 0, "nothing would run it at the right time");
    // A release replaces it by its own image.
    let image = format!("\"graph-credential-operator:{}\"", env!("CARGO_PKG_VERSION"));
    let text = fs::read_to_string(kit::workspace().join("deploy/install.yaml")).unwrap();
    assert_eq!(text.matches(&image).count(), 1);
    let prerequisites = read("prerequisites.yaml");
    assert_eq!(kinds(&prerequisites, "CustomResourceDefinition"), 5);
    assert_eq!(kinds(&prerequisites, "ClusterRole"), 3);
    assert_eq!(kinds(&prerequisites, "ClusterRoleBinding"), 0);
    assert_eq!(kinds(&prerequisites, "ValidatingAdmissionPolicyBinding"), 7);
    assert_eq!(kinds(&prerequisites, "Deployment"), 0);
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    let text = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let about = kit::helm::parse(&text).unwrap().remove(0);
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
}
