//! The name of an object on the command line: `NAME`, or `TYPE/NAME` as kubectl takes and prints it.

use std::str::FromStr;

use crate::api::reasons::Kind;
use crate::config::ObjectName;

/// A credential, or another kind if its type says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ObjectArg {
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
}

// === impl ObjectArg ===

impl FromStr for ObjectArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, name) = match text.split_once('/') {
            None => (Kind::Credential, text),
            Some((resource, name)) => (kind(resource)?, name),
        };
        Ok(Self { kind, name: name.parse().map_err(|error| format!("{error}"))? })
    }
}

/// Reads a credential.
pub(super) fn credential(text: &str) -> Result<ObjectName, String> {
    match text.parse()? {
        ObjectArg { kind: Kind::Credential, name } => Ok(name),
        ObjectArg { kind: Kind::Account | Kind::Identity | Kind::Mailboxes, .. } => {
            Err("it must be a MicrosoftGraphCredential".to_owned())
        }
    }
}

/// The kind of a resource type, which may be in the plural or with the group.
fn kind(resource: &str) -> Result<Kind, String> {
    let plain = resource.to_ascii_lowercase();
    match plain.strip_suffix(".graph-credentials.io").unwrap_or(&plain) {
        "mgc" | "microsoftgraphcredential" | "microsoftgraphcredentials" => Ok(Kind::Credential),
        "ei" | "entraidentity" | "entraidentities" => Ok(Kind::Identity),
        "wpm" | "woodpeckermailboxes" => Ok(Kind::Mailboxes),
        "wpa" | "woodpeckeraccount" | "woodpeckeraccounts" => Ok(Kind::Account),
        _ => Err(format!(
            "{resource:?} is none of mgc (MicrosoftGraphCredential), wpa (WoodpeckerAccount), ei (EntraIdentity) and wpm (WoodpeckerMailboxes)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_may_be_given_as_kubectl_prints_it() {
        for (text, kind) in [
            ("sales-eu", Kind::Credential),
            ("mgc/sales-eu", Kind::Credential),
            ("microsoftgraphcredential.graph-credentials.io/sales-eu", Kind::Credential),
            ("wpa/sales-eu", Kind::Account),
            ("WoodpeckerAccounts/sales-eu", Kind::Account),
            ("ei/sales-eu", Kind::Identity),
            ("wpm/sales-eu", Kind::Mailboxes),
        ] {
            let found: ObjectArg = text.parse().unwrap();
            assert_eq!((found.kind, found.name.as_str()), (kind, "sales-eu"), "{text}");
        }
        for text in ["", "mgc/", "pod/x", "mgc/a/b", "Sales"] {
            assert!(text.parse::<ObjectArg>().is_err(), "{text}");
        }
        assert!(credential("wpa/agency").is_err());
    }
}
