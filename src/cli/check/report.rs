//! The findings of `check`.

use serde_json::{Value, json};

use crate::cli::output::{Report, Style, Table, Text};

/// All findings, in the order of the checks.
#[derive(Debug, Default)]
pub(super) struct Checks(Vec<Finding>);

/// The result of one check.
#[derive(Debug)]
pub(super) struct Finding {
    check: &'static str,
    outcome: Outcome,
    detail: String,
    /// What to do, unless all is well.
    action: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    /// It works, but somebody should look at it.
    Warning,
    Failed,
    /// It could not be checked.
    Unknown,
}

// === impl Finding ===

impl Finding {
    pub(super) fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, detail: detail.into(), action: None }
    }

    pub(super) fn warning(check: &'static str, detail: impl Into<String>, action: &'static str) -> Self {
        Self { check, outcome: Outcome::Warning, detail: detail.into(), action: Some(action) }
    }

    pub(super) fn failed(check: &'static str, detail: impl Into<String>, action: &'static str) -> Self {
        Self { check, outcome: Outcome::Failed, detail: detail.into(), action: Some(action) }
    }

    pub(super) fn unknown(check: &'static str, detail: impl Into<String>, action: &'static str) -> Self {
        Self { check, outcome: Outcome::Unknown, detail: detail.into(), action: Some(action) }
    }

    /// A request of the check failed.
    pub(super) fn of_error(check: &'static str, error: &kube::Error, action: &'static str) -> Self {
        match error {
            kube::Error::Api(status) if status.is_forbidden() => Self::unknown(
                check,
                "you may not read it",
                "ask for the right, or run the command as an administrator",
            ),
            _ => Self::failed(check, crate::core::error_chain::chain(error), action),
        }
    }
}

// === impl Checks ===

impl Checks {
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.iter().any(|finding| finding.outcome == Outcome::Failed)
    }
}

impl Report for Checks {
    fn text(&self, _is_wide: bool) -> Text {
        let mut table = Table::new(&["CHECK", "RESULT", "DETAIL"]);
        for Finding { check, outcome, detail, action } in &self.0 {
            let detail = match action {
                Some(action) => format!("{detail}: {action}"),
                None => detail.clone(),
            };
            let plain = |text: String| (text, Style::Plain);
            table.add([
                plain((*check).to_owned()),
                (outcome.as_str().to_owned(), outcome.style()),
                plain(detail),
            ]);
        }
        let mut text = Text::default();
        text.push_table("", &table);
        text
    }

    fn json(&self) -> Value {
        let finding = |Finding { check, outcome, detail, action }: &Finding| json!({"check": check, "result": outcome.as_str(), "detail": detail, "whatToDo": action});
        json!({"checks": self.0.iter().map(finding).collect::<Vec<_>>()})
    }
}

// === impl Outcome ===

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => Style::Good,
            Self::Warning => Style::Warning,
            Self::Failed => Style::Bad,
            Self::Unknown => Style::Plain,
        }
    }
}
