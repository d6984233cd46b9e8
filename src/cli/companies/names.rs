//! Names of accounts and namespaces, derived from names of companies. The same companies always get the same names.

use std::collections::HashSet;

use crate::cli::slug::slug;
use crate::config::ObjectName;

/// The placeholder for the account's name.
const PLACEHOLDER: &str = "{name}";

/// Longest part of a name that comes from the company's name: with an id and a number of two digits, and with a
/// template of thirteen characters, it is a valid name of a namespace.
const MAX_LENGTH: usize = 30;

/// Most characters of a template besides its placeholder.
const MAX_TEMPLATE: usize = 13;

/// The template for names of clients' namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespaceNames(String);

/// Names of a company's account and its client's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) object: String,
    pub(super) namespace: String,
}

/// Allocates names that are not in use.
#[derive(Debug, Default)]
pub(super) struct NameAllocator {
    pub(super) objects: HashSet<String>,
    pub(super) namespaces: HashSet<String>,
}

// === impl NamespaceNames ===

impl NamespaceNames {
    pub(super) fn of(&self, object: &str) -> String {
        self.0.replace(PLACEHOLDER, object)
    }
}

/// Parses a template.
pub(super) fn namespace_names(text: &str) -> Result<NamespaceNames, String> {
    let is_one = text.matches(PLACEHOLDER).count() == 1
        && text.len() <= PLACEHOLDER.len() + MAX_TEMPLATE
        && !text.contains('.');
    let names = NamespaceNames(text.to_owned());
    if is_one && names.of("a").parse::<ObjectName>().is_ok() {
        return Ok(names);
    }
    Err(format!(
        "it must contain {PLACEHOLDER} once, which is replaced by the name of the account, and at most {MAX_TEMPLATE} other characters: lowercase letters, digits and '-', such as client-{PLACEHOLDER}"
    ))
}

// === impl NameAllocator ===

impl NameAllocator {
    /// Unused names from the company's name and, if that has no usable letter or is in use, its id.
    pub(super) fn allocate(&mut self, name: &str, id: i64, template: &NamespaceNames) -> Names {
        let mut plain = slug(name, MAX_LENGTH);
        if !plain.bytes().any(|byte| byte.is_ascii_lowercase()) {
            // A number alone names nothing.
            plain.clear();
        }
        let with_id = if plain.is_empty() { format!("company-{id}") } else { format!("{plain}-{id}") };
        let numbered = (2..).map(|number| format!("{with_id}-{number}"));
        let preferred = Some(plain).filter(|plain| !plain.is_empty()).into_iter().chain([with_id.clone()]);
        let names = |object: String| Names { namespace: template.of(&object), object };
        let is_unused = |names: &Names| {
            !self.objects.contains(&names.object) && !self.namespaces.contains(&names.namespace)
        };
        // There is always an unused number.
        let found = preferred.chain(numbered).map(names).find(is_unused);
        let found = found.unwrap_or_else(|| names(with_id));
        self.objects.insert(found.object.clone());
        self.namespaces.insert(found.namespace.clone());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_unique() {
        let template = namespace_names("client-{name}").unwrap();
        let mut allocator = NameAllocator::default();
        allocator.namespaces.insert("client-b".into());
        allocator.objects.insert("c".into());
        let mut allocate = |name: &str, id: i64| {
            let Names { object, namespace } = allocator.allocate(name, id, &template);
            assert!(namespace.len() <= 63 && namespace.parse::<ObjectName>().is_ok(), "{namespace}");
            assert_eq!(namespace, format!("client-{object}"));
            object
        };
        let made = [
            allocate("A", 1),
            allocate("a!", 2),
            allocate("a-2", 3),
            allocate("b", 4),
            allocate("C", 5),
            allocate("\u{682a}\u{5f0f} 24", 6),
            allocate("", 7),
            allocate("company 7", 8),
            allocate("a", 2),
        ];
        let expected = ["a", "a-2", "a-2-3", "b-4", "c-5", "company-6", "company-7", "company-7-8", "a-2-2"];
        assert_eq!(made, expected);
        assert_eq!(allocate(&"x".repeat(100), i64::MAX).len(), 30);
        assert_eq!(allocate(&"x".repeat(100), i64::MAX).len(), 50);
    }

    #[test]
    fn a_template_must_produce_valid_names_of_namespaces() {
        for text in ["{name}", "client-{name}", "{name}-woodpecker", "thirteenlong-{name}"] {
            assert!(namespace_names(text).is_ok(), "{text}");
        }
        for text in ["", "client", "{name}.x", "{name}_x", "{name}-", "{name}{name}", "fourteenlength{name}"]
        {
            assert!(namespace_names(text).is_err(), "{text}");
        }
    }
}
