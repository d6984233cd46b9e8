//! PURE: names of objects and their Secrets, made from names of people's.

use std::collections::HashSet;

use crate::settings::ObjectName;

/// What stands for the object's name in a template.
const PLACE: &str = "{name}";

/// Longest part of an object's name that comes from a name of people's.
const LONGEST: usize = 50;

/// How the Secrets are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretNames(String);

/// The names that are taken in a namespace.
#[derive(Debug, Default)]
pub(super) struct Taken {
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
        self.0.replace(PLACE, object)
    }
}

/// Reads a template of names of Secrets.
pub(super) fn secret_names(text: &str) -> Result<SecretNames, String> {
    let is_one = text.matches(PLACE).count() == 1 && text.len() <= 150;
    let names = SecretNames(text.to_owned());
    if is_one && names.of("a").parse::<ObjectName>().is_ok() {
        return Ok(names);
    }
    Err(format!(
        "it must hold {PLACE}, for which the object's name is put in, and otherwise lower case letters, digits, '-' and '.', such as {PLACE}-graph; at most 150 characters"
    ))
}

// === impl Taken ===

impl Taken {
    /// Names that nobody has in the namespace, made from the credential's name and, where that says nothing or is
    /// taken, its id.
    pub(super) fn take(&mut self, name: &str, id: i64, secrets: &SecretNames) -> Names {
        let plain = slug(name);
        let with_id = if plain.is_empty() { format!("credential-{id}") } else { format!("{plain}-{id}") };
        let numbered = (2..).map(|number| format!("{with_id}-{number}"));
        let wanted = Some(plain).filter(|plain| !plain.is_empty()).into_iter().chain([with_id.clone()]);
        let mut names = wanted.chain(numbered).map(|object| Names { secret: secrets.of(&object), object });
        let is_free =
            |names: &Names| !self.objects.contains(&names.object) && !self.secrets.contains(&names.secret);
        // There is always a free number.
        let names =
            names.find(is_free).unwrap_or_else(|| Names { secret: secrets.of(&with_id), object: with_id });
        self.objects.insert(names.object.clone());
        self.secrets.insert(names.secret.clone());
        names
    }
}

/// Lower case letters, digits and single dashes between them; empty where nothing of that is left.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(LONGEST);
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_people_become_names_of_objects() {
        for (name, made) in [
            ("MS Graph app", "ms-graph-app"),
            ("mail/sales-eu", "mail-sales-eu"),
            ("  --Vertrieb (S\u{fc}d)!", "vertrieb-s-d"),
            ("\u{1f600}", ""),
            ("", ""),
        ] {
            assert_eq!(slug(name), made, "{name:?}");
        }
        let long = slug(&"ab ".repeat(100));
        assert!(long.len() <= LONGEST && !long.ends_with('-'), "{long}");
    }

    #[test]
    fn no_two_have_one_name() {
        let template = secret_names("{name}-graph").unwrap();
        let mut taken = Taken::default();
        taken.secrets.insert("b-graph".into());
        let mut take = |name: &str, id: i64| taken.take(name, id, &template).object;
        let made = [take("A", 1), take("a!", 2), take("a", 2), take("b", 3), take("\u{e4}", 4), take("", 4)];
        assert_eq!(made, ["a", "a-2", "a-2-2", "b-3", "credential-4", "credential-4-2"]);
    }

    #[test]
    fn a_template_must_make_names_of_secrets() {
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
