//! The objects of a file, by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::api::NamespacedName;
use crate::cli::input;
use crate::k8s::secrets::SecretData;

/// Longest file, in bytes.
const MAX_LENGTH: u64 = 16 * 1024 * 1024;

/// An object of another kind.
pub(super) struct Other {
    kind: String,
    namespace: Option<String>,
    name: String,
}

/// The objects of a file.
#[derive(Default)]
pub(super) struct Manifests {
    pub(super) credentials: Vec<DynamicObject>,
    pub(super) accounts: Vec<DynamicObject>,
    /// With what is wrong with those that cannot be read, for example because they are encrypted.
    secrets: BTreeMap<NamespacedName, Result<SecretData, String>>,
    namespaces: Vec<String>,
    /// What is not planned.
    pub(super) others: Vec<Other>,
}

// === impl Manifests ===

impl Manifests {
    /// Reads the file, or standard input if its name is `-`. An object without a namespace gets `namespace`.
    pub(super) fn read(file: &Path, namespace: &str) -> anyhow::Result<Self> {
        let path = Some(file).filter(|file| file.as_os_str() != "-");
        let shown = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let bytes = input::read(path, MAX_LENGTH)
            .with_context(|| format!("failed to read {shown}: specify a file that you may read"))?
            .with_context(|| format!("{shown} has more than 16 MiB: split it"))?;
        let text = std::str::from_utf8(&bytes)
            .with_context(|| format!("{shown} is not text in UTF-8: specify a YAML or JSON file"))?;
        let manifests = Self::parse(text, namespace).with_context(|| format!("{shown} cannot be used"))?;
        if manifests.credentials.is_empty() && manifests.accounts.is_empty() {
            bail!(
                "{shown} has no MicrosoftGraphCredential and no WoodpeckerAccount: specify a file with one"
            );
        }
        Ok(manifests)
    }

    fn parse(text: &str, namespace: &str) -> anyhow::Result<Self> {
        // The message of an error would show a part of the file, which may be a secret.
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
            let place = error.location().map(|at| format!(" in line {}, column {}", at.line(), at.column()));
            anyhow::anyhow!("it is neither YAML nor JSON: fix the syntax{}", place.unwrap_or_default())
        })?;
        let mut manifests = Self::default();
        for (number, document) in documents.into_iter().enumerate() {
            manifests
                .add(document, namespace)
                .with_context(|| format!("its document {} is not a Kubernetes object", number + 1))?;
        }
        Ok(manifests)
    }

    fn add(&mut self, document: Value, namespace: &str) -> anyhow::Result<()> {
        if document.is_null() {
            return Ok(());
        }
        let text = |path: &str| document.pointer(path).and_then(Value::as_str).map(ToOwned::to_owned);
        let kind = text("/kind").context("add kind, such as MicrosoftGraphCredential")?;
        let api_version =
            text("/apiVersion").context("add apiVersion, such as graph-credentials.io/v1alpha1")?;
        if let (true, Some(items)) = (kind.ends_with("List"), document.get("items").and_then(Value::as_array))
        {
            return items.iter().try_for_each(|item| self.add(item.clone(), namespace));
        }
        let name = text("/metadata/name").context("add metadata.name")?;
        let own_namespace = text("/metadata/namespace");
        let namespace = own_namespace.clone().unwrap_or_else(|| namespace.to_owned());
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        match (group, kind.as_str()) {
            ("graph-credentials.io", "MicrosoftGraphCredential") => {
                self.credentials.push(object(document, namespace)?);
            }
            ("graph-credentials.io", "WoodpeckerAccount") => self.accounts.push(object(document, namespace)?),
            ("", "Secret") => {
                self.secrets.insert(NamespacedName { namespace, name }, secret(&document));
            }
            ("", "Namespace") => self.namespaces.push(name),
            _ => self.others.push(Other { kind, namespace: own_namespace, name }),
        }
        Ok(())
    }

    /// Whether the file has the namespace.
    pub(super) fn creates_namespace(&self, name: &str) -> bool {
        self.namespaces.iter().any(|it| it == name)
    }

    /// An object that may create Secrets in the namespace, such as an `ExternalSecret`.
    pub(super) fn source_of_secrets(&self, namespace: &str) -> Option<&Other> {
        let is_source = |it: &&Other| it.kind.contains("Secret");
        self.others
            .iter()
            .filter(is_source)
            .find(|it| it.namespace.as_deref().is_none_or(|own| own == namespace))
    }

    /// The Secret of that name, or what is wrong with it.
    pub(super) fn secret(&self, namespace: &str, name: &str) -> Option<&Result<SecretData, String>> {
        self.secrets.get(&NamespacedName { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

// === impl Other ===

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

fn object(document: Value, namespace: String) -> anyhow::Result<DynamicObject> {
    let mut object = DynamicObject::deserialize(document)
        .map_err(|_| anyhow::anyhow!("its metadata is invalid: see kubectl explain"))?;
    object.metadata.namespace = Some(namespace);
    debug_assert!(!object.name_any().is_empty());
    Ok(object)
}

/// The values as the API server would keep them: `stringData` takes precedence.
fn secret(document: &Value) -> Result<SecretData, String> {
    let mut data = document.get("data").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    let texts = document.get("stringData").and_then(Value::as_object);
    for (key, text) in texts.into_iter().flatten() {
        let text = text.as_str().ok_or("each value of stringData must be a text: put it in quotes")?;
        data[key] = Value::String(STANDARD.encode(text));
    }
    // The message of an error could show a value.
    SecretData::deserialize(json!({ "data": data }))
        .map_err(|_| "each value of data must be base64: decrypt the file, or use stringData".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Manifests> {
        Manifests::parse(text, "mail")
    }

    fn problem(text: &str) -> String {
        parse(text).err().map(|error| format!("{error:#}")).unwrap_or_default()
    }

    #[test]
    fn objects_are_sorted_by_kind_and_get_a_namespace() {
        let text = "apiVersion: graph-credentials.io/v1alpha1\nkind: MicrosoftGraphCredential\nmetadata: {name: a}\n---\n\
                    ---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {x: later}, data: {x: enk=}}\n\
                    - {apiVersion: graph-credentials.io/v1alpha1, kind: WoodpeckerAccount, metadata: {name: w, namespace: other}}\n---\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n";
        let manifests = parse(text).unwrap();
        assert_eq!(NamespacedName::of(&manifests.credentials[0]).to_string(), "mail/a");
        assert_eq!(NamespacedName::of(&manifests.accounts[0]).to_string(), "other/w");
        assert_eq!(manifests.others[0].to_string(), "ConfigMap c");
        let secret = manifests.secret("mail", "s").unwrap().as_ref().unwrap();
        assert_eq!(secret.get("x").unwrap().expose(), b"later");
        assert!(manifests.secret("other", "s").is_none());
    }

    #[test]
    fn what_is_wrong_is_named_without_the_content() {
        for (text, words) in [
            ("kind: [\n", "neither YAML nor JSON"),
            ("just text\n", "add kind"),
            ("kind: Secret\n", "add apiVersion"),
            ("apiVersion: v1\nkind: Secret\n", "add metadata.name"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_does_not_stop_the_plan_and_is_not_shown() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        for (values, words) in [
            ("data: {k: q8Q~not-base64}", "must be base64"),
            ("data: {k: \"ENC[AES256_GCM,data:q8Q~]\"}", "must be base64"),
            ("stringData: {k: 12}", "put it in quotes"),
        ] {
            let manifests = parse(&format!("{secret}{values}")).unwrap();
            let problem = manifests.secret("mail", "s").unwrap().as_ref().unwrap_err();
            assert!(problem.contains(words) && !problem.contains("q8Q~"), "{values}: {problem}");
        }
    }

    #[test]
    fn what_may_create_a_secret_or_a_namespace_is_known() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: mail}\n---\n\
                    apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: x, namespace: mail}\n";
        let manifests = parse(text).unwrap();
        assert!(manifests.creates_namespace("mail") && !manifests.creates_namespace("other"));
        assert_eq!(manifests.source_of_secrets("mail").unwrap().to_string(), "ExternalSecret mail/x");
        assert!(manifests.source_of_secrets("other").is_none());
    }
}
