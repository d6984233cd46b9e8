//! Which GitOps tool applies an object, and how to suspend the object there.

use kube::ResourceExt;
use kube::api::DynamicObject;

/// What to do in the tool that applies the object; `None` if none does as far as its labels and annotations show.
pub(super) fn managed_by(object: &DynamicObject) -> Option<String> {
    let (labels, annotations) = (object.labels(), object.annotations());
    let flux = |tool: &str| {
        let name = labels.get(&format!("{tool}.toolkit.fluxcd.io/name"))?;
        let namespace = labels.get(&format!("{tool}.toolkit.fluxcd.io/namespace"))?;
        Some((name, namespace))
    };
    if let Some((name, namespace)) = flux("kustomize") {
        return Some(format!(
            "Flux applies it and will put the spec back: change it in Git, or run `flux suspend kustomization {name} -n {namespace}` first"
        ));
    }
    if let Some((name, namespace)) = flux("helm") {
        return Some(format!(
            "Flux applies it with a HelmRelease and may put the spec back: change its values in Git, or run `flux suspend helmrelease {name} -n {namespace}` first"
        ));
    }
    let tracked = annotations.get("argocd.argoproj.io/tracking-id").and_then(|id| id.split(':').next());
    let application = tracked.or(labels.get("argocd.argoproj.io/instance").map(String::as_str))?;
    Some(format!(
        "Argo CD applies it and puts the spec back if it heals itself: change it in Git, or turn automatic sync of Application {application} off first (argocd app set {application} --sync-policy none)"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn advice(labels: &Value, annotations: &Value) -> Option<String> {
        let object = json!({"metadata": {"name": "x", "labels": labels, "annotations": annotations}});
        managed_by(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn each_tool_is_recognized_by_its_marks() {
        let flux = json!({"kustomize.toolkit.fluxcd.io/name": "mail", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"});
        let helm = json!({"helm.toolkit.fluxcd.io/name": "mail", "helm.toolkit.fluxcd.io/namespace": "apps"});
        let argo = json!({"argocd.argoproj.io/tracking-id": "mail-eu:graph-credentials.io/MicrosoftGraphCredential:mail/x"});
        for (labels, annotations, words) in [
            (flux, json!({}), "flux suspend kustomization mail -n flux-system"),
            (helm, json!({}), "flux suspend helmrelease mail -n apps"),
            (json!({}), argo, "argocd app set mail-eu"),
            (json!({"argocd.argoproj.io/instance": "mail-eu"}), json!({}), "argocd app set mail-eu"),
        ] {
            let advice = advice(&labels, &annotations).unwrap();
            assert!(advice.contains(words), "{advice}");
        }
    }

    #[test]
    fn a_plain_object_gets_no_advice() {
        assert_eq!(advice(&json!({"app.kubernetes.io/instance": "x"}), &json!({})), None);
        assert_eq!(advice(&json!({"kustomize.toolkit.fluxcd.io/name": "x"}), &json!({})), None);
    }
}
