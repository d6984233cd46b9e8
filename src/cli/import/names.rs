//! Names of objects and their Secrets, derived from names of credentials.

use std::collections::HashSet;

use crate::cli::slug::slug;
use crate::config::ObjectName;

/// The placeholder for the object's name.
const PLACEHOLDER: &str = "{name}";

/// Longest part of an object's name that comes from a credential's name.
const MAX_LENGTH: usize = 50;

/// The template for names of Secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretNames(String);

/// Allocates names that are not in use in a namespace.
#[derive(Debug, Default)]
pub(super) struct NameAllocator {
    pub(super) objects: HashSet<String>,
    pub(super) secrets: HashSet<String>,
}

/// Names of an object and its Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) object: String,
    pub(super) secret: String,
}

// === impl SecretNames ===

impl SecretNames {
    fn of(&self, object: &str) -> String {
        self.0.replace(PLACEHOLDER, object)
    }
}

/// Parses a template.
pub(super) fn secret_names(text: &str) -> Result<SecretNames, String> {
    let is_one = text.matches(PLACEHOLDER).count() == 1 && text.len() <= 150;
    let names = SecretNames(text.to_owned());
    if is_one && names.of("a").parse::<ObjectName>().is_ok() {
        return Ok(names);
    }
    Err(format!(
        "it must contain {PLACEHOLDER} once, which is replaced by the object's name, and otherwise lowercase letters, digits, '-' and '.', such as {PLACEHOLDER}-graph; at most 150 characters"
    ))
}

// === impl NameAllocator ===

impl NameAllocator {
    /// Unused names from the credential's name and, if that is empty or in use, its id.
    pub(super) fn allocate(&mut self, name: &str, id: i64, secrets: &SecretNames) -> Names {
        let plain = slug(name, MAX_LENGTH);
        let with_id = if plain.is_empty() { format!("credential-{id}") } else { format!("{plain}-{id}") };
        let numbered = (2..).map(|number| format!("{with_id}-{number}"));
        let preferred = Some(plain).filter(|plain| !plain.is_empty()).into_iter().chain([with_id.clone()]);
        let mut names = preferred.chain(numbered).map(|object| Names { secret: secrets.of(&object), object });
        let is_unused =
            |names: &Names| !self.objects.contains(&names.object) && !self.secrets.contains(&names.secret);
        // There is always an unused number.
        let names =
            names.find(is_unused).unwrap_or_else(|| Names { secret: secrets.of(&with_id), object: with_id });
        self.objects.insert(names.object.clone());
        self.secrets.insert(names.secret.clone());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let template = secret_names("{name}-graph").unwrap();
        let mut allocator = NameAllocator::default();
        allocator.secrets.insert("b-graph".into());
        let mut allocate = |name: &str, id: i64| allocator.allocate(name, id, &template).object;
        let made = [
            allocate("A", 1),
            allocate("a!", 2),
            allocate("a", 2),
            allocate("b", 3),
            allocate("\u{1f600}", 4),
            allocate("", 4),
        ];
        assert_eq!(made, ["a", "a-2", "a-2-2", "b-3", "credential-4", "credential-4-2"]);
    }

    #[test]
    fn a_template_must_produce_valid_names_of_secrets() {
        for text in ["{name}", "{name}-graph", "graph.{name}"] {
            assert!(secret_names(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "graph",
            "{name}_x",
            "{name}-",
            "{Name}",
            "{name}{name}",
            &format!("{{name}}{}", "x".repeat(150)),
        ] {
            assert!(secret_names(text).is_err(), "{text}");
        }
    }
}
