//! `explain`: what an AADSTS code or a reason means, who must act, and how.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::output::Format;
use crate::microsoft::codes::{self, CODES, Code, Remedy};
use crate::resources::catalogue::{self, Entry, Kind};
use crate::resources::conditions::Reason;

/// What `explain` can be told.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// A code such as 7000215 or AADSTS7000215, or a reason such as `InvalidClientSecret`, in any case
    #[arg(value_name = "CODE|REASON")]
    word: Option<String>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,
}

/// Something that can be explained.
#[derive(Clone, Copy)]
enum Subject {
    Code(&'static Code),
    Reason(Reason),
}

/// Prints the explanation.
pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let subjects = match &args.word {
        Some(word) => vec![find(word)?],
        None => all().collect(),
    };
    args.output.print(
        || subjects.iter().map(Subject::text).collect::<Vec<_>>().join("\n"),
        || match (&args.word, subjects.as_slice()) {
            (Some(_), [subject]) => subject.json(),
            _ => subjects.iter().map(Subject::json).collect(),
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn all() -> impl Iterator<Item = Subject> {
    Reason::ALL.iter().copied().map(Subject::Reason).chain(CODES.iter().map(Subject::Code))
}

fn find(word: &str) -> anyhow::Result<Subject> {
    let plain = word.trim().to_ascii_lowercase();
    let number = number(&plain);
    if let Some(code) = number.and_then(codes::find) {
        return Ok(Subject::Code(code));
    }
    let reason = Reason::ALL.iter().find(|reason| reason.as_str().eq_ignore_ascii_case(&plain));
    reason.map(|reason| Subject::Reason(*reason)).with_context(|| {
        let elsewhere = match number {
            Some(_) => ", or look the code up at https://login.microsoftonline.com/error",
            None => "",
        };
        format!(
            "{word:?} is neither an AADSTS code (such as 7000215 or AADSTS7000215) nor a reason (such as InvalidClientSecret) that this version knows{}: run explain without a word for all of them{elsewhere}",
            suggestion(&near(&plain))
        )
    })
}

/// The number of what is written like a code.
fn number(plain: &str) -> Option<u32> {
    let digits = plain.strip_prefix("aadsts").unwrap_or(plain);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Up to three names that look like the word: codes by their digits, for all share what stands before them.
fn near(plain: &str) -> Vec<String> {
    let digits = plain.strip_prefix("aadsts").unwrap_or(plain);
    let mut near: Vec<(f64, String)> = all()
        .map(|subject| {
            let likeness = match subject {
                Subject::Code(code) => strsim::jaro_winkler(digits, &code.number.to_string()),
                Subject::Reason(reason) => strsim::jaro_winkler(plain, &reason.as_str().to_ascii_lowercase()),
            };
            (likeness, subject.name())
        })
        .filter(|(likeness, _)| *likeness > 0.85)
        .collect();
    near.sort_by(|one, other| other.0.total_cmp(&one.0));
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

fn suggestion(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(", ")) }
}

// === impl Subject ===

impl Subject {
    fn name(&self) -> String {
        match self {
            Self::Code(code) => format!("AADSTS{}", code.number),
            Self::Reason(reason) => reason.as_str().to_owned(),
        }
    }

    /// The reason that it leads to.
    fn reason(&self) -> Reason {
        match self {
            Self::Reason(reason) => *reason,
            Self::Code(code) => code.reason(),
        }
    }

    /// Who must act, and how.
    fn remedy(&self) -> Remedy {
        match self {
            Self::Code(code) => code.remedy(),
            Self::Reason(reason) => {
                let Entry { actor, cure, .. } = catalogue::entry(*reason);
                Remedy { actor, cure }
            }
        }
    }

    fn text(&self) -> String {
        let (name, reason, remedy) = (self.name(), self.reason(), self.remedy());
        let Entry { condition, status, meaning, .. } = catalogue::entry(reason);
        let head = match self {
            Self::Code(code) => format!("{name}: {}\n  reason:     {reason}\n", code.text),
            Self::Reason(_) => format!("{name}: {meaning}\n"),
        };
        format!(
            "{head}  condition:  {} {status:?} of a {}\n  who acts:   {}\n  what to do: {}\n",
            condition.as_str(),
            kind(reason),
            remedy.actor.as_str(),
            remedy.cure
        )
    }

    fn json(&self) -> Value {
        let (reason, remedy) = (self.reason(), self.remedy());
        let Entry { condition, status, meaning, .. } = catalogue::entry(reason);
        let mut value = json!({
            "name": self.name(), "reason": reason.as_str(), "kind": kind(reason), "condition": condition.as_str(),
            "status": status, "meaning": meaning, "whoActs": remedy.actor.as_str(), "cure": remedy.cure
        });
        if let Self::Code(code) = self {
            value["microsoft"] = code.text.into();
            value["class"] = code.class.as_str().into();
        }
        value
    }
}

fn kind(reason: Reason) -> &'static str {
    match catalogue::entry(reason).kind {
        Kind::Credential => "MicrosoftGraphCredential",
        Kind::Account => "WoodpeckerAccount",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(word: &str) -> String {
        find(word).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn every_code_is_found_in_each_of_its_forms() {
        for code in CODES {
            for word in ["", "AADSTS", "aadsts", " AadSts"].map(|head| format!("{head}{}", code.number)) {
                let found = find(&word).unwrap();
                assert_eq!((found.name(), found.reason()), (format!("AADSTS{}", code.number), code.reason()));
                assert!(found.text().contains(code.remedy().cure), "{}", found.text());
            }
        }
    }

    #[test]
    fn every_reason_is_found_in_any_case() {
        for reason in Reason::ALL {
            let name = reason.as_str();
            for word in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let found = find(&word).unwrap();
                assert_eq!(found.name(), name);
                assert!(found.text().contains(catalogue::entry(*reason).cure), "{}", found.text());
            }
        }
    }

    #[test]
    fn an_unknown_word_is_told_what_it_is_near_to() {
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
    fn an_unknown_code_is_told_where_to_look_and_another_word_is_not() {
        for word in ["AADSTS50076", "50076"] {
            assert!(unknown(word).contains("login.microsoftonline.com/error"), "{}", unknown(word));
        }
        for word in ["", "AADSTS", "+7000215", "7000215x", "99999999999"] {
            assert!(unknown(word).contains("neither an AADSTS code"), "{word:?}");
            assert!(!unknown(word).contains("login.microsoftonline.com"), "{word:?}");
        }
    }
}
