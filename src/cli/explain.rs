//! `explain`: what an AADSTS code or a reason means, who must act, and how.

use clap::Args;
use serde_json::{Value, json};
use thiserror::Error;

use super::output::{self, Format, OutputError};
use crate::microsoft::codes::{self, CODES, Class, Code};
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

/// Why nothing is explained.
#[derive(Debug, Error)]
pub(super) enum ExplainError {
    #[error(
        "{word:?} is neither an AADSTS code nor a reason that this version knows{}: run explain without a word for all of them",
        suggestion(near)
    )]
    Unknown { word: String, near: Vec<String> },
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Something that can be explained.
#[derive(Clone, Copy)]
enum Subject {
    Code(&'static Code),
    Reason(Reason),
}

/// Prints the explanation.
pub(super) fn run(args: &ExplainArgs) -> Result<(), ExplainError> {
    let subjects = match &args.word {
        Some(word) => vec![find(word)?],
        None => all().collect(),
    };
    let text = match args.output {
        Format::Text => subjects.iter().map(Subject::text).collect::<Vec<_>>().join("\n"),
        Format::Json => {
            let values: Vec<Value> = subjects.iter().map(Subject::json).collect();
            let value = if args.word.is_some() {
                values.into_iter().next().unwrap_or_default()
            } else {
                values.into()
            };
            format!("{value:#}\n")
        }
    };
    Ok(output::print(&text)?)
}

fn all() -> impl Iterator<Item = Subject> {
    Reason::ALL.iter().copied().map(Subject::Reason).chain(CODES.iter().map(Subject::Code))
}

fn find(word: &str) -> Result<Subject, ExplainError> {
    let plain = word.trim().to_ascii_lowercase();
    let digits = plain.strip_prefix("aadsts").unwrap_or(&plain);
    if let Some(code) = digits.parse().ok().and_then(codes::find) {
        return Ok(Subject::Code(code));
    }
    let reason = Reason::ALL.iter().find(|reason| reason.as_str().eq_ignore_ascii_case(&plain));
    reason.map(|reason| Subject::Reason(*reason)).ok_or_else(|| {
        let mut near: Vec<(f64, String)> = all()
            .map(|subject| subject.name())
            .map(|name| (strsim::jaro_winkler(&plain, &name.to_ascii_lowercase()), name))
            .filter(|(likeness, _)| *likeness > 0.85)
            .collect();
        near.sort_by(|one, other| other.0.total_cmp(&one.0));
        let near = near.into_iter().take(3).map(|(_, name)| name).collect();
        ExplainError::Unknown { word: word.to_owned(), near }
    })
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
            Self::Code(code) => match code.class {
                Class::Refused(reason) => reason,
                Class::Throttled => Reason::Throttled,
                Class::Unavailable => Reason::MicrosoftUnavailable,
            },
        }
    }

    fn text(&self) -> String {
        let (name, reason) = (self.name(), self.reason());
        let Entry { condition, status, meaning, actor, cure, .. } = catalogue::entry(reason);
        let head = match self {
            Self::Code(code) => format!("{name}: {}\n  reason:     {reason}\n", code.text),
            Self::Reason(_) => format!("{name}: {meaning}\n"),
        };
        format!(
            "{head}  condition:  {} {status:?} of a {}\n  who acts:   {}\n  what to do: {cure}\n",
            condition.as_str(),
            kind(reason),
            actor.as_str()
        )
    }

    fn json(&self) -> Value {
        let reason = self.reason();
        let Entry { condition, status, meaning, actor, cure, .. } = catalogue::entry(reason);
        let mut value = json!({
            "name": self.name(), "reason": reason.as_str(), "kind": kind(reason), "condition": condition.as_str(),
            "status": status, "meaning": meaning, "whoActs": actor.as_str(), "cure": cure
        });
        if let Self::Code(code) = self {
            value["microsoft"] = code.text.into();
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
