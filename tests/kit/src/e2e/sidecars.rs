//! Sidecars that admission adds to pods, like a service mesh: one that Kubernetes ends with the pod's other containers, and
//! one that never ends, for pods that do not turn it off.

use serde_json::{Value, json};

use super::fixture::OPERATOR;

/// The names of the policies.
const NATIVE: &str = "e2e-native-sidecar";
const PLAIN: &str = "e2e-plain-sidecar";

/// How a pod turns the sidecar off that never ends.
const IS_WANTED: &str = "!has(object.metadata.annotations) || !('sidecar.istio.io/inject' in object.metadata.annotations) \
                         || object.metadata.annotations['sidecar.istio.io/inject'] != 'false'";

/// The policies and their bindings, for all pods of the operator's namespace.
pub(super) fn policies(image: &str) -> Vec<Value> {
    // The pods of the product have no other init container.
    let native = policy(NATIVE, "initContainers", "", image, ", restartPolicy: 'Always'", "true");
    let plain = policy(PLAIN, "containers", "/-", image, "", IS_WANTED);
    [native, plain].concat()
}

fn policy(name: &str, list: &str, end: &str, image: &str, more: &str, condition: &str) -> Vec<Value> {
    let context = format!(
        "Object.spec.{list}.securityContext{{allowPrivilegeEscalation: false, \
         capabilities: Object.spec.{list}.securityContext.capabilities{{drop: ['ALL']}}}}"
    );
    let container = format!(
        "Object.spec.{list}{{name: '{name}', image: '{image}', imagePullPolicy: 'IfNotPresent', args: ['wait'], \
         securityContext: {context}{more}}}"
    );
    let value = if end.is_empty() { format!("[{container}]") } else { container };
    let expression = format!("[JSONPatch{{op: 'add', path: '/spec/{list}{end}', value: {value}}}]");
    let (api_version, here) =
        ("admissionregistration.k8s.io/v1", json!({"kubernetes.io/metadata.name": OPERATOR}));
    let policy = json!({
        "apiVersion": api_version, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]
            }]},
            "matchConditions": [{"name": "wanted", "expression": condition}],
            "failurePolicy": "Fail", "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]
        }
    });
    let binding = json!({
        "apiVersion": api_version, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "matchResources": {"namespaceSelector": {"matchLabels": here}}}
    });
    vec![policy, binding]
}
