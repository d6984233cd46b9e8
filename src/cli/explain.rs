//! `explain`: what an AADSTS code or a reason means, who must act, and what to do.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::api::reasons::{self, ENTRIES, Entry, Kind, Reason};
use crate::cli::output::{self, Report, ReportFormat, Text};
use crate::core::aadsts::{self, CODES, Code, Remedy};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// AADSTS code such as 7000215 or AADSTS7000215, condition reason such as `InvalidClientSecret`, or a whole message
    /// that contains them. Case-insensitive
    #[arg(value_name = "CODE|REASON|MESSAGE")]
    words: Vec<String>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,
}

/// A code or a reason.
enum Subject {
    /// With the digits that were asked for, which may be of a family.
    Code(String, &'static Code),
    Reason(&'static Entry),
}

/// What is explained.
struct Explanation {
    /// Whether one word was given, whose only meaning is printed without a list.
    is_single: bool,
    subjects: Vec<Subject>,
}

/// Prints the explanation.
pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let text = args.words.join(" ");
    let subjects = if args.words.is_empty() { all().collect() } else { find_in(&text)? };
    args.output.print(&Explanation { is_single: !args.words.is_empty(), subjects })?;
    Ok(ExitCode::SUCCESS)
}

// === impl Explanation ===

impl Report for Explanation {
    fn text(&self, _is_wide: bool) -> Text {
        Text::of(&self.subjects.iter().map(Subject::text).collect::<Vec<_>>().join("\n"))
    }

    fn json(&self) -> Value {
        match self.subjects.as_slice() {
            [subject] if self.is_single => subject.json(),
            subjects => subjects.iter().map(Subject::json).collect(),
        }
    }
}

fn all() -> impl Iterator<Item = Subject> {
    ENTRIES.iter().map(Subject::Reason).chain(CODES.iter().map(|code| Subject::Code(code.digits(), code)))
}

/// What a word is, or else every code and reason in a message.
fn find_in(text: &str) -> anyhow::Result<Vec<Subject>> {
    if !text.trim().contains(char::is_whitespace) {
        return find(text);
    }
    let words = || text.split(|letter: char| !letter.is_ascii_alphanumeric());
    // A message that names a kind is about the reasons of that kind.
    let kinds: Vec<Kind> = [Kind::Credential, Kind::Account, Kind::Identity, Kind::Mailboxes]
        .into_iter()
        .filter(|kind| words().any(|word| word == kind.as_str()))
        .collect();
    let subjects_of = |is_candidate: &dyn Fn(&str) -> bool| -> Vec<Subject> {
        let mut named = BTreeSet::new();
        let found = words().filter(|word| is_candidate(word)).filter_map(|word| find(word).ok()).flatten();
        let is_asked =
            |subject: &Subject| kinds.is_empty() || subject.kind().is_none_or(|it| kinds.contains(&it));
        found
            .filter(is_asked)
            .filter(|subject| named.insert((subject.name(), subject.entry().condition.as_str())))
            .collect()
    };
    let has_prefix = |word: &str| word.get(..6).is_some_and(|head| head.eq_ignore_ascii_case("AADSTS"));
    // Shorter numbers, and reasons that are plain words, have other meanings in a message.
    let mut found = subjects_of(&|word| {
        let is_camel_case = word.chars().filter(char::is_ascii_uppercase).count() > 1;
        has_prefix(word) || is_camel_case || number(word).is_some_and(|number| number >= 10_000)
    });
    if found.is_empty() {
        found = subjects_of(&|word| word.starts_with(|letter: char| letter.is_ascii_uppercase()));
    }
    for word in words().filter(|word| has_prefix(word) && find(word).is_err()) {
        output::note(&format!(
            "{word} is unknown to this version: look it up at https://login.microsoftonline.com/error"
        ));
    }
    if found.is_empty() {
        bail!(
            "the message contains neither an AADSTS code nor a reason that this version knows: run explain without an argument to list all"
        );
    }
    Ok(found)
}

/// The code, or the reason in each condition that uses it.
fn find(word: &str) -> anyhow::Result<Vec<Subject>> {
    let plain = word.trim().to_ascii_lowercase();
    let number = number(&plain);
    if let Some((number, code)) = number.and_then(|number| Some((number, aadsts::find(number)?))) {
        return Ok(vec![Subject::Code(number.to_string(), code)]);
    }
    let reason = Reason::ALL.iter().find(|reason| reason.as_str().eq_ignore_ascii_case(&plain));
    reason.map(|reason| reasons::entries(*reason).map(Subject::Reason).collect()).with_context(|| {
        let elsewhere = match number {
            Some(_) => ", or look the code up at https://login.microsoftonline.com/error",
            None => "",
        };
        format!(
            "{word:?} is neither an AADSTS code (such as 7000215 or AADSTS7000215) nor a reason (such as InvalidClientSecret) that this version knows{}: run explain without an argument to list all{elsewhere}",
            suggestion(&similar(&plain))
        )
    })
}

/// The number, if the text looks like a code.
fn number(plain: &str) -> Option<u32> {
    let digits = plain.strip_prefix("aadsts").unwrap_or(plain);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Up to three similar names. Codes are compared by their digits, because they share the prefix.
fn similar(plain: &str) -> Vec<String> {
    let digits = plain.strip_prefix("aadsts").unwrap_or(plain);
    let mut similar: Vec<(f64, String)> = all()
        .map(|subject| {
            let similarity = match &subject {
                Subject::Code(own, _) => strsim::jaro_winkler(digits, own),
                Subject::Reason(entry) => {
                    strsim::jaro_winkler(plain, &entry.reason.as_str().to_ascii_lowercase())
                }
            };
            (similarity, subject.name())
        })
        .filter(|(similarity, _)| *similarity > 0.85)
        .collect();
    similar.sort_by(|one, other| other.0.total_cmp(&one.0));
    similar.dedup_by(|one, other| one.1 == other.1);
    similar.into_iter().take(3).map(|(_, name)| name).collect()
}

fn suggestion(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(", ")) }
}

// === impl Subject ===

impl Subject {
    fn name(&self) -> String {
        match self {
            Self::Code(digits, _) => format!("AADSTS{digits}"),
            Self::Reason(entry) => entry.reason.as_str().to_owned(),
        }
    }

    /// The entry of its reason.
    fn entry(&self) -> &'static Entry {
        match self {
            Self::Reason(entry) => entry,
            Self::Code(_, code) => reasons::entry(code.reason()),
        }
    }

    /// The kind whose condition it is; a code has none.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Reason(entry) => Some(entry.kind),
            Self::Code(..) => None,
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Self::Code(_, code) => code.remedy(),
            Self::Reason(entry) => Remedy { actor: entry.actor, action: entry.action },
        }
    }

    fn text(&self) -> String {
        let (name, remedy) = (self.name(), self.remedy());
        let Entry { reason, kind, condition, status, description, .. } = self.entry();
        let head = match self {
            Self::Code(_, code) => format!("{name}: {}\n  reason:     {reason}\n", code.text),
            Self::Reason(_) => format!("{name}: {description}\n"),
        };
        format!(
            "{head}  condition:  {} {status:?} of a {}\n  who acts:   {}\n  what to do: {}\n",
            condition.as_str(),
            kind.as_str(),
            remedy.actor.as_str(),
            remedy.action
        )
    }

    fn json(&self) -> Value {
        let remedy = self.remedy();
        let Entry { reason, kind, condition, status, description, .. } = self.entry();
        let mut value = json!({
            "name": self.name(), "reason": reason.as_str(), "kind": kind.as_str(), "condition": condition.as_str(),
            "status": status, "description": description, "whoActs": remedy.actor.as_str(), "whatToDo": remedy.action
        });
        if let Self::Code(_, code) = self {
            value["microsoft"] = code.text.into();
            value["class"] = code.class.as_str().into();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(word: &str) -> String {
        find(word).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn every_code_is_found_in_each_form() {
        for code in CODES {
            for word in ["", "AADSTS", "aadsts", " AadSts"].map(|head| format!("{head}{}", code.first())) {
                let found = find(&word).unwrap();
                let [found] = found.as_slice() else { panic!("{word} is one code") };
                let is = (found.name(), found.entry().reason);
                assert_eq!(is, (format!("AADSTS{}", code.first()), code.reason()));
                assert!(found.text().contains(code.remedy().action), "{}", found.text());
            }
        }
    }

    #[test]
    fn every_reason_is_found_in_any_case() {
        for reason in Reason::ALL {
            let name = reason.as_str();
            for word in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let found = find(&word).unwrap();
                assert_eq!(found.len(), reasons::entries(*reason).count(), "{name}");
                for (found, entry) in found.iter().zip(reasons::entries(*reason)) {
                    assert_eq!(found.name(), name);
                    assert!(found.text().contains(entry.action), "{}", found.text());
                }
            }
        }
    }

    #[test]
    fn a_message_is_explained_by_its_codes_and_reasons() {
        let names =
            |text: &str| -> Vec<String> { find_in(text).unwrap().iter().map(Subject::name).collect() };
        let microsoft = "AADSTS7000215: Invalid client secret provided. Trace ID: 7f3a0000-1111-4222-8333-444455556666 \
            Correlation ID: 0 Timestamp: 2026-11-28 10:00:00Z";
        assert_eq!(names(microsoft), ["AADSTS7000215"]);
        assert_eq!(
            names("MicrosoftGraphCredential mail/x is not Ready: InvalidClientSecret"),
            ["InvalidClientSecret"]
        );
        assert_eq!(
            names("EntraIdentity ops/agency is not Ready: InvalidClientSecret, ConsentMissing"),
            ["InvalidClientSecret", "ConsentMissing"]
        );
        assert_eq!(names("Ready False: Expired"), ["Ready", "Expired"]);
        assert_eq!(names("error_codes: [7000222], see aadsts7000222"), ["AADSTS7000222"]);
        let unknown = find_in("something is wrong here").err().unwrap().to_string();
        assert!(unknown.contains("neither an AADSTS code nor a reason"), "{unknown}");
    }

    #[test]
    fn similar_names_are_suggested_for_an_unknown_word() {
        for (word, near) in [
            ("InvalidClientSecrt", "InvalidClientSecret"),
            ("700021", "AADSTS7000215"),
            ("AADSTS70002155", "AADSTS7000215"),
        ] {
            let text = unknown(word);
            assert!(text.contains("did you mean") && text.contains(near), "{text}");
        }
        assert!(!unknown("qqq").contains("did you mean"), "{}", unknown("qqq"));
    }

    #[test]
    fn only_for_an_unknown_code_a_place_to_look_it_up_is_named() {
        for word in ["AADSTS50076", "50076"] {
            assert!(unknown(word).contains("login.microsoftonline.com/error"), "{}", unknown(word));
        }
        for word in ["", "AADSTS", "+7000215", "7000215x", "99999999999"] {
            assert!(unknown(word).contains("neither an AADSTS code"), "{word:?}");
            assert!(!unknown(word).contains("login.microsoftonline.com"), "{word:?}");
        }
    }
}
