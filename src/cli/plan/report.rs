//! The report of `plan`, as text and as JSON.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::dry_run::Change;
use crate::api::NamespacedName;
use crate::api::conditions::Reason;
use crate::cli::output::{Report, Text, sanitized};

/// The plans of all objects.
#[derive(Default)]
pub(super) struct Planned(Vec<PlannedObject>);

/// The plan of an object.
pub(super) struct PlannedObject {
    pub(super) kind: &'static str,
    pub(super) name: NamespacedName,
    pub(super) change: Change,
    pub(super) result: PlannedResult,
}

/// What the operator would do, and the end of it.
#[derive(Debug)]
pub(super) struct PlannedResult {
    pub(super) steps: Vec<String>,
    /// What the plan assumes, because it cannot be read.
    pub(super) assumptions: Vec<String>,
    pub(super) end: End,
}

/// How the reconcile would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    outcome: Outcome,
    /// The reason of the condition `Ready`, if it would not be Ready and that is known.
    reason: String,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ready,
    /// It depends on something that the plan cannot see.
    Open,
    NotReady,
    /// The API server rejects the object.
    Rejected,
}

// === impl Outcome ===

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Open => "Open",
            Self::NotReady => "NotReady",
            Self::Rejected => "Rejected",
        }
    }
}

// === impl End ===

impl End {
    pub(super) fn ready(message: String) -> Self {
        Self { outcome: Outcome::Ready, reason: String::new(), message }
    }

    pub(super) fn open(message: &str) -> Self {
        Self { outcome: Outcome::Open, reason: String::new(), message: message.to_owned() }
    }

    pub(super) fn not_ready(reason: &str, message: String) -> Self {
        Self { outcome: Outcome::NotReady, reason: reason.to_owned(), message }
    }

    /// In a sentence.
    fn sentence(&self) -> String {
        match self.outcome {
            Outcome::Ready | Outcome::Open => self.message.clone(),
            Outcome::NotReady if self.reason.is_empty() => format!("not Ready: {}", self.message),
            Outcome::NotReady => format!("not Ready: {} ({})", self.message, self.reason),
            Outcome::Rejected => format!("the API server rejects it: {}", self.message),
        }
    }
}

// === impl PlannedResult ===

impl PlannedResult {
    /// For an object that the operator cannot read.
    pub(super) fn unreadable(error: &impl std::fmt::Display) -> Self {
        let problem = format!("the operator cannot read it: fix the field that the error names ({error})");
        Self::without_steps(End::not_ready(Reason::InvalidObject.as_str(), problem))
    }

    /// For an object in a namespace that the operator does not serve.
    pub(super) fn not_served() -> Self {
        let problem =
            "the operator does not serve this namespace: add it to --watch-namespace of the operator";
        Self::without_steps(End::not_ready("", problem.to_owned()))
    }

    fn without_steps(end: End) -> Self {
        Self { steps: Vec::new(), assumptions: Vec::new(), end }
    }

    pub(super) fn rejected(message: String) -> Self {
        Self::without_steps(End { outcome: Outcome::Rejected, reason: String::new(), message })
    }
}

// === impl Planned ===

impl Planned {
    pub(super) fn add(&mut self, object: PlannedObject) {
        self.0.push(object);
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        let fails = |object: &PlannedObject| {
            matches!(object.result.end.outcome, Outcome::NotReady | Outcome::Rejected)
        };
        if self.0.iter().any(fails) { ExitCode::from(3) } else { ExitCode::SUCCESS }
    }
}

impl Report for Planned {
    fn text(&self, _is_wide: bool) -> Text {
        let mut text = Text::default();
        for (number, PlannedObject { kind, name, change, result }) in self.0.iter().enumerate() {
            let change = match change {
                Change::Created => "would be created".to_owned(),
                Change::Changed(fields) => format!("would change: {}", fields.join(", ")),
                Change::Unchanged => "unchanged".to_owned(),
            };
            let gap = if number == 0 { "" } else { "\n" };
            text.push(&format!("{gap}{kind} {name}: {}\n", sanitized(&change)));
            for assumption in &result.assumptions {
                text.push(&format!("  assumed: {}\n", sanitized(assumption)));
            }
            for (number, step) in result.steps.iter().enumerate() {
                text.push(&format!("  {}. {}\n", number + 1, sanitized(step)));
            }
            let lead = if result.steps.is_empty() { "no steps" } else { "then" };
            text.push(&format!("  {lead}: {}\n", sanitized(&result.end.sentence())));
        }
        text
    }

    fn json(&self) -> Value {
        let of = |PlannedObject { kind, name, change, result }: &PlannedObject| {
            let (change, fields) = match change {
                Change::Created => ("Created", &[] as &[String]),
                Change::Changed(fields) => ("Changed", fields.as_slice()),
                Change::Unchanged => ("Unchanged", &[] as &[String]),
            };
            json!({
                "kind": kind, "namespace": name.namespace, "name": name.name, "change": change, "changedFields": fields,
                "assumptions": result.assumptions, "steps": result.steps, "outcome": result.end.outcome.as_str(),
                "reason": result.end.reason, "message": result.end.message,
            })
        };
        json!({"objects": self.0.iter().map(of).collect::<Vec<_>>()})
    }
}
