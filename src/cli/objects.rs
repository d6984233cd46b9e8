//! The state of an object as a person needs it: whether somebody must act, who, why and since when. It is derived from
//! what the operator last wrote and from the clock. Objects are read untyped, so that invalid ones are not missed.

mod rotation;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::DynamicObject;
use serde::Deserialize;
use serde_json::Value;

use crate::api::conditions::{Condition, ConditionStatus, ConditionType, find};
use crate::api::duration::KubeDuration;
use crate::api::reasons::{Actor, ENTRIES, Entry, Kind};
use crate::api::{AccountName, EXPIRY_WARNING, MicrosoftGraphCredentialStatus, NamespacedName, timestamp};
use crate::cli::output::Style;
use crate::core::expiry;

/// How long an object may wait for its first reconcile before somebody should look at the operator.
const UNOBSERVED: SignedDuration = SignedDuration::from_mins(5);

/// How long the operator may retry automatically before somebody should look at it.
const LASTING: SignedDuration = SignedDuration::from_hours(1);

/// An object and its state.
#[derive(Debug)]
pub(super) struct ObjectState {
    pub(super) kind: Kind,
    pub(super) name: NamespacedName,
    pub(super) object: DynamicObject,
    pub(super) conditions: Vec<Condition>,
    /// Empty for an account, or if the status cannot be read.
    pub(super) status: MicrosoftGraphCredentialStatus,
    /// Whether it is Ready and its secret has not expired, also if something else needs attention.
    pub(super) is_ready: bool,
    pub(super) assessment: Assessment,
}

/// What the state means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Assessment {
    pub(super) urgency: Urgency,
    /// The reason of a condition, or `NotReconciled` or `StatusUnreadable`.
    pub(super) reason: String,
    pub(super) message: String,
    /// Since when it holds, if that is known.
    pub(super) since: Option<Timestamp>,
    pub(super) actor: Actor,
    pub(super) action: &'static str,
}

/// How urgent an object is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Somebody must act: it is not ready, or nothing happens any longer.
    NeedsAction,
    /// Its secret expires soon.
    ExpiresSoon,
    /// The operator works on it, or retries automatically.
    InProgress,
    /// The operator does nothing, as the object says.
    Suspended,
    Ready,
}

// === impl ObjectState ===

impl ObjectState {
    pub(super) fn of(kind: Kind, object: DynamicObject, now: Timestamp) -> Self {
        let status = object.data.get("status").filter(|status| !status.is_null());
        let parsed = match (kind, status) {
            (Kind::Credential, Some(status)) => MicrosoftGraphCredentialStatus::deserialize(status),
            (Kind::Credential | Kind::Account | Kind::Identity | Kind::Mailboxes, _) => {
                Ok(MicrosoftGraphCredentialStatus::default())
            }
        };
        let is_unreadable = parsed.is_err();
        let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
        let mut state = Self {
            kind,
            name: NamespacedName::of(&object),
            conditions: conditions
                .into_iter()
                .flatten()
                .filter_map(|it| Condition::deserialize(it).ok())
                .collect(),
            status: parsed.unwrap_or_default(),
            object,
            is_ready: false,
            assessment: Assessment::in_progress(
                "NotReconciled",
                "the operator has not reconciled it yet",
                None,
            ),
        };
        let assessment = state.assess(is_unreadable, now);
        state.is_ready = matches!(assessment.urgency, Urgency::Ready | Urgency::ExpiresSoon);
        let of_rotation = if state.is_ready { rotation::assess(&state) } else { None };
        state.assessment = of_rotation.unwrap_or(assessment);
        state
    }

    pub(super) fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        find(&self.conditions, type_)
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.object.data.pointer(path).and_then(Value::as_str)
    }

    pub(super) fn is_suspended(&self) -> bool {
        self.object.data.pointer("/spec/suspend") == Some(&Value::Bool(true))
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.object.metadata.deletion_timestamp.is_some()
    }

    /// The generation that the status reflects.
    pub(super) fn observed_generation(&self) -> Option<i64> {
        self.object.data.pointer("/status/observedGeneration").and_then(Value::as_i64).filter(|it| *it >= 0)
    }

    /// Whether the conditions describe the current spec.
    pub(super) fn is_current(&self) -> bool {
        self.observed_generation().is_some() && self.observed_generation() == self.object.metadata.generation
    }

    /// The account that the spec references.
    pub(super) fn account(&self) -> Option<AccountName> {
        let reference = "/spec/destination/woodpecker/accountRef";
        let name = self.text(&format!("{reference}/name"))?.to_owned();
        let namespace = self.text(&format!("{reference}/namespace")).unwrap_or(&self.name.namespace);
        Some(AccountName { namespace: namespace.to_owned(), name })
    }

    /// Whether the destination is the store.
    pub(super) fn is_in_store(&self) -> bool {
        self.object.data.pointer("/spec/destination/store").is_some()
    }

    /// The expiry of the registered secret, even if the rest of the status cannot be read.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.text("/status/expiresAt").and_then(timestamp::parse_or_date)
    }

    /// The days until the secret expires, rounded down; negative once a day has passed since.
    pub(super) fn days_left(&self, now: Timestamp) -> Option<i64> {
        let seconds = self.expires_at()?.as_second() - now.as_second();
        Some(seconds / (24 * 60 * 60))
    }

    /// When the operator begins to warn of the expiry.
    pub(super) fn warned_at(&self) -> Option<Timestamp> {
        let warning = self.text("/spec/expiryWarning").and_then(|it| it.parse::<KubeDuration>().ok());
        let warning = warning.map_or(EXPIRY_WARNING, |it| it.get());
        Some(expiry::warning_at(self.expires_at()?, warning))
    }

    /// Whether the secret has expired or the operator would warn of its expiry with a warning of that length.
    pub(super) fn expires_within(&self, within: Duration, now: Timestamp) -> bool {
        self.expires_at().is_some_and(|at| expiry::warning_at(at, within) <= now)
    }

    /// The name as `kubectl -o name` prints it.
    pub(super) fn resource_name(&self) -> String {
        resource_name(self.kind, &self.name.name)
    }

    fn assess(&self, is_unreadable: bool, now: Timestamp) -> Assessment {
        let ready = self.condition(ConditionType::Ready);
        if let Some(at) = self.expires_at().filter(|at| *at <= now) {
            return Assessment::of_expiry(
                "Expired",
                format!("the secret expired at {}", timestamp::rfc3339(at)),
                at,
            );
        }
        if is_unreadable {
            return Assessment {
                action: "Upgrade this program to the version of the operator, or restore the status.",
                ..Assessment::needs_operator(
                    "StatusUnreadable",
                    "the status cannot be read by this version",
                    None,
                )
            };
        }
        let Some(ready) = ready.filter(|_| self.observed_generation().is_some()) else {
            let created = self.object.metadata.creation_timestamp.as_ref().map(|at| at.0);
            return match created {
                Some(created) if now.duration_since(created) > UNOBSERVED => Assessment::needs_operator(
                    "NotReconciled",
                    "no operator has reconciled it",
                    Some(created),
                ),
                _ => Assessment::in_progress(
                    "NotReconciled",
                    "the operator has not reconciled it yet",
                    created,
                ),
            };
        };
        if self.warned_at().is_some_and(|at| at <= now) && ready.status == ConditionStatus::True {
            let at = self.expires_at().map(timestamp::rfc3339).unwrap_or_default();
            let since = self.warned_at().unwrap_or(now);
            return Assessment::of_expiry("ExpiresSoon", format!("the secret expires at {at}"), since);
        }
        if self.is_suspended() {
            return Assessment {
                urgency: Urgency::Suspended,
                ..Assessment::in_progress(&format!("Suspended ({})", ready.reason), &ready.message, None)
            };
        }
        self.of_ready(ready, now)
    }

    /// What the condition `Ready` of an object that is not suspended means.
    fn of_ready(&self, ready: &Condition, now: Timestamp) -> Assessment {
        let since = Some(ready.last_transition_time.0);
        if self.is_deleted() {
            let (reason, message) =
                (format!("Deleting ({})", ready.reason), format!("it is being deleted: {}", ready.message));
            let deleting = Assessment::in_progress(&reason, &message, since);
            // The operator writes why a deletion does not continue.
            return match self.entry(ready) {
                Some(entry) if ready.status == ConditionStatus::False && entry.actor != Actor::Nobody => {
                    deleting.needs(entry)
                }
                _ => deleting,
            };
        }
        if !self.is_current() {
            let reason = format!("{} (of an earlier spec)", ready.reason);
            let message = format!("the spec has changed since; before: {}", ready.message);
            return Assessment::in_progress(&reason, &message, since);
        }
        if ready.status == ConditionStatus::True {
            let ready = Assessment::in_progress(&ready.reason, &ready.message, since);
            return Assessment { urgency: Urgency::Ready, ..ready };
        }
        let waiting = Assessment::in_progress(&ready.reason, &ready.message, since);
        match self.entry(ready) {
            Some(entry) if entry.actor != Actor::Nobody => waiting.needs(entry),
            None => Assessment {
                urgency: Urgency::NeedsAction,
                actor: Actor::User,
                action: "Follow the message: this version does not know the reason.",
                ..waiting
            },
            Some(_) if now.duration_since(ready.last_transition_time.0) > LASTING => Assessment {
                urgency: Urgency::NeedsAction,
                actor: Actor::OperatorAdmin,
                action: "It has lasted for more than an hour: check the operator's network (graph-credential-operator check) and its log.",
                ..waiting
            },
            Some(_) => waiting,
        }
    }

    /// What the reason table says about the condition `Ready`, which repeats the reason of another condition.
    fn entry(&self, ready: &Condition) -> Option<&'static Entry> {
        let of_kind = ENTRIES.iter().filter(|entry| entry.kind == self.kind);
        let named = of_kind.filter(|entry| entry.reason.as_str() == ready.reason);
        let with_status = named.clone().find(|entry| entry.status == ready.status);
        with_status.or_else(|| named.clone().next())
    }
}

// === impl Assessment ===

impl Assessment {
    fn in_progress(reason: &str, message: &str, since: Option<Timestamp>) -> Self {
        Self {
            urgency: Urgency::InProgress,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since,
            actor: Actor::Nobody,
            action: "Nothing to do.",
        }
    }

    /// The same state, in which somebody must act as the reason table says.
    fn needs(self, entry: &Entry) -> Self {
        Self { urgency: Urgency::NeedsAction, actor: entry.actor, action: entry.action, ..self }
    }

    fn needs_operator(reason: &str, message: &str, since: Option<Timestamp>) -> Self {
        Self {
            urgency: Urgency::NeedsAction,
            actor: Actor::OperatorAdmin,
            action: "Check that an operator runs and serves the namespace.",
            ..Self::in_progress(reason, message, since)
        }
    }

    /// The reasons of the condition `Expiring`, by the clock.
    fn of_expiry(reason: &'static str, message: String, since: Timestamp) -> Self {
        let entry = ENTRIES.iter().find(|entry| entry.reason.as_str() == reason);
        let urgency = if reason == "Expired" { Urgency::NeedsAction } else { Urgency::ExpiresSoon };
        Self {
            urgency,
            reason: reason.to_owned(),
            message,
            since: Some(since),
            actor: entry.map_or(Actor::User, |entry| entry.actor),
            action: entry.map_or("Create a new client secret in Entra.", |entry| entry.action),
        }
    }
}

// === impl Urgency ===

impl Urgency {
    pub(super) fn style(self) -> Style {
        match self {
            Self::NeedsAction => Style::Bad,
            Self::ExpiresSoon | Self::InProgress => Style::Warning,
            Self::Suspended => Style::Plain,
            Self::Ready => Style::Good,
        }
    }

    /// Whether a person should look at it.
    pub(super) fn needs_attention(self) -> bool {
        matches!(self, Self::NeedsAction | Self::ExpiresSoon)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NeedsAction => "NeedsAction",
            Self::ExpiresSoon => "ExpiresSoon",
            Self::InProgress => "InProgress",
            Self::Suspended => "Suspended",
            Self::Ready => "Ready",
        }
    }
}

/// The status of a condition as the API spells it.
pub(super) fn condition_status(status: ConditionStatus) -> &'static str {
    match status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    }
}

/// The name of an object as `kubectl -o name` prints it.
pub(super) fn resource_name(kind: Kind, name: &str) -> String {
    let resource = match kind {
        Kind::Credential => "microsoftgraphcredential",
        Kind::Account => "woodpeckeraccount",
        Kind::Identity => "entraidentity",
        Kind::Mailboxes => "woodpeckermailboxes",
    };
    format!("{resource}.graph-credentials.io/{name}")
}

/// A duration as kubectl shows ages, such as `5d3h`.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, 1..=9) => format!("{minutes}m{}s", seconds % 60),
        (0, 0, _) => format!("{minutes}m"),
        (0, 1..=7, _) => format!("{hours}h{}m", minutes % 60),
        (0 | 1, ..) => format!("{hours}h"),
        (2..=7, ..) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests;
