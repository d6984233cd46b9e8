//! The timeouts, intervals and other waits of the program, except those of a single algorithm and the API's defaults.

use std::time::Duration;

use thiserror::Error;

macro_rules! timing {
    ($($(#[$doc:meta])+ $wait:ident = $standard:expr;)+) => {
        /// All waits. `--time-scale N` divides each by N.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Timing { $($(#[$doc])+ pub $wait: Duration,)+ }

        impl Timing {
            /// The waits in production.
            pub const STANDARD: Self = Self { $($wait: $standard,)+ };

            /// All waits divided by `scale`, which counts as at least 1.
            #[must_use]
            pub fn divided_by(self, scale: u32) -> Self {
                let scale = scale.max(1);
                Self { $($wait: self.$wait / scale,)+ }
            }
        }
    };
}

timing! {
    /// Timeout of a request to Microsoft's token endpoint, from connect to the last byte.
    token_call = Duration::from_secs(15);
    /// Timeout of a request to Microsoft Graph, from connect to the last byte.
    graph_call = Duration::from_secs(15);
    /// Interval of readings of an app at Microsoft Entra.
    app_reading = Duration::from_hours(24);
    /// First delay before an app that could not be read is read again; doubled with each further failure.
    app_reading_retry = Duration::from_secs(15);
    /// How long an earlier expiry, or the absence of an entry, must be read before it counts.
    app_reading_confirmation = Duration::from_mins(5);
    /// Maximum age of a reading that several objects of one app share, if it is new for each of them.
    app_reading_max_age = Duration::from_mins(1);
    /// Minimum time between two writes to one app at Microsoft Entra, which rejects writes close together.
    app_write_spacing = Duration::from_secs(10);
    /// How long a client secret whose creation got no response is looked for before another one is created. Microsoft
    /// documents up to 15 minutes until a change is visible.
    secret_lookup = Duration::from_mins(15);
    /// Interval of readings while it is looked for.
    secret_lookup_poll = Duration::from_mins(1);
    /// How long daily readings look for it after that.
    secret_search = Duration::from_hours(48);
    /// The longest time between two creations of client secrets whose outcome is not known.
    secret_attempt_gap = Duration::from_hours(6);
    /// How long a new client secret spreads through Entra before it replaces one that is in use. Woodpecker may reach other
    /// servers than the operator.
    secret_spread = Duration::from_mins(1);
    /// How recent a token for the client secret in use must be before an earlier one is removed.
    token_max_age = Duration::from_hours(1);
    /// Timeout of a request to Woodpecker: its queue may take 15 s, and on create and update it calls Microsoft itself.
    woodpecker_call = Duration::from_secs(45);
    /// Interval of questions to Woodpecker who an API key belongs to.
    key_identity = Duration::from_hours(24);
    /// The same after a question without an answer.
    key_identity_retry = Duration::from_hours(1);
    /// Timeout of connecting to either.
    connect = Duration::from_secs(5);
    /// Timeout of a Kubernetes request: until the headers for a watch, until the whole response otherwise. kube has
    /// none.
    kube_headers = Duration::from_secs(30);
    /// Timeout of publishing an event; the reconcile waits that long and continues without it.
    event = Duration::from_secs(5);
    /// How long publishing of events may take at shutdown.
    event_drain = Duration::from_secs(10);
    /// Until the same event of an object is emitted again.
    event_repeat = Duration::from_mins(10);
    /// Cache lifetime of metrics authorization decisions.
    metrics_auth_cache = Duration::from_mins(1);
    /// Interval of checks of the log filter file.
    log_filter = Duration::from_secs(5);
    /// What must remain of the lease beyond the longest call before a call may start.
    call_margin = Duration::from_secs(5);
    /// Timeout of one reconcile.
    reconcile_timeout = Duration::from_mins(10);
    /// How long a value may be missing in a Secret after it changed, or after its object was created, before that needs
    /// a person: another program may be filling the Secret.
    secret_arrival = Duration::from_mins(3);
    /// Interval of polls of the metadata of a referenced Secret, and of checks whether Secrets may be watched.
    secret_poll = Duration::from_mins(1);
    /// Minimum time between two such polls: at most twenty a second.
    secret_poll_pace = Duration::from_millis(50);
    /// How long a watch of Secrets continues after an event: until it ends, its buffers keep the data.
    secret_watch = Duration::from_secs(5);
    /// How long a connection is used after the first response about Secrets.
    secret_connection = Duration::from_secs(8);
    /// How long requests to Microsoft and Woodpecker start on the same connections.
    connection_reuse = Duration::from_secs(4);
    /// Maximum age of a listing for a decision to create.
    listing_max_age = Duration::from_mins(1);
    /// Interval of listings of a settled account.
    listing_interval = Duration::from_mins(15);
    /// How long a listing of mailboxes continues while a more urgent request waits.
    mailbox_listing_grace = Duration::from_secs(5);
    /// How long a mailbox must be failing before a condition says so: Woodpecker restores most connections automatically.
    mailbox_failing = Duration::from_hours(1);
    /// First delay before a refused mailbox, or a refused request about mailboxes, is submitted again.
    connection_retry = Duration::from_mins(10);
    /// Each later such delay: a permission that was granted works after up to two hours.
    connection_retry_longest = Duration::from_hours(2);
    /// Interval of listings for a plan of mailboxes to connect.
    mailbox_plan = Duration::from_hours(1);
    /// Interval of checks whether what mailboxes wait for is there.
    blocked_poll = Duration::from_secs(30);
    /// How long changes of an account's counts are collected before they are written.
    count_pace = Duration::from_secs(10);
    /// Settle period: after it, a create or an update without a response can no longer take effect.
    settle_period = Duration::from_mins(2);
    /// How long rejections of a new secret count as its propagation through Entra.
    propagation_window = Duration::from_mins(20);
    /// The period in which at most [`Timing::TOKEN_TRIES`] tokens are requested for an app.
    token_tries_span = Duration::from_mins(5);
    /// First delay before Microsoft is asked again about a secret for which it issued a token before; doubled with each
    /// further rejection.
    confirmation_first = Duration::from_secs(30);
    /// First delay after a failure; doubled with each further one.
    backoff_first = Duration::from_secs(5);
    /// Longest delay after failures.
    backoff_longest = Duration::from_mins(15);
    /// How long before its expiry a token for Microsoft Graph is renewed.
    graph_token_margin = Duration::from_mins(5);
    /// After a failed sign-in to Microsoft Graph in a tenant, the next attempt there is not earlier.
    graph_token_pause = Duration::from_secs(30);
    /// After Graph rejected a token, another one is not discarded earlier: a new token shows a new permission.
    graph_token_discard = Duration::from_mins(5);
    /// Interval of the checks that Entra issues tokens in all tenants of an identity.
    identity_check = Duration::from_hours(24);
    /// Interval of attempts in a tenant in which a person has to act.
    identity_retry = Duration::from_mins(15);
    /// Interval of reads of the version of an identity's Secret.
    identity_secret_poll = Duration::from_mins(1);
    /// How long one reconcile of an identity starts sign-ins before it lets other identities go ahead.
    identity_turn = Duration::from_secs(30);
    /// Interval of attempts at what only a person can fix.
    stalled_probe = Duration::from_hours(24);
    /// Interval of attempts to delete a credential that is in use.
    in_use_retry = Duration::from_mins(10);
    /// Pause of an account's requests after a 429 without `Retry-After`: Woodpecker's queue drains in 15 s.
    throttle_pause = Duration::from_secs(15);
    /// Longest pause of an account's requests after consecutive failures or 429 responses.
    queue_longest_pause = Duration::from_mins(5);
    /// How long a request waits before it rises by one priority.
    queue_aging = Duration::from_mins(10);
    /// How long an object waits for a permit before its status shows that it waits.
    queue_notice = Duration::from_secs(10);
    /// How long a permit is reserved for the requester that was requeued for it.
    permit_reservation = Duration::from_secs(20);
    /// After how long a requester that is running may take a permit that is reserved for another one.
    permit_overdue = Duration::from_secs(1);
    /// Longest time between two reconciles of a settled object, in case an event was missed.
    resync = Duration::from_hours(1);
    /// How long a terminating namespace waits for a deletion at Woodpecker.
    namespace_grace = Duration::from_mins(10);
    /// How long a watch may be silent before it is reopened; below the 240 s of Azure's load balancers.
    watch_idle = Duration::from_secs(200);
    /// A watch that ends sooner counts as closed at once by the API server. Also the first wait after a failed watch,
    /// doubled with each further failure.
    watch_brief = Duration::from_secs(1);
    /// Longest such wait. A watch that lasts twice as long counts as working.
    watch_reopen = Duration::from_secs(30);
    /// Interval of checks for missing CRDs or a missing keyring.
    startup_retry = Duration::from_secs(5);
    /// How long a retired key must stay in the keyring before it may be deleted.
    key_retirement = Duration::from_hours(7 * 24);
    /// Interval of reads of the keyring. With the longest read it is shorter than the next value, so that no write
    /// waits.
    keyring_poll = Duration::from_secs(20);
    /// Maximum age of the keyring that encrypts a secret, from the beginning of its read.
    keyring_view = Duration::from_mins(1);
    /// Interval of checks of the records during re-encryption.
    reencrypt_poll = Duration::from_secs(1);
    /// How long re-encryption may make no progress before it counts as stalled.
    reencrypt_stall = Duration::from_mins(3);
    /// Interval of checks of all records, in case one is still under an earlier key.
    record_sweep = Duration::from_hours(1);
    /// Interval of reads of the API keys of the REST API: a removed key still works that long.
    rest_keys_poll = Duration::from_secs(30);
    /// How long the last known API keys are accepted while their Secret cannot be read.
    rest_keys_trust = Duration::from_mins(5);
    /// Interval of checks of the certificate files of the REST API.
    rest_files_poll = Duration::from_secs(30);
    /// Timeout of the headers of a REST request, and so the maximum idle time of a connection.
    rest_head = Duration::from_secs(15);
    /// How long a REST connection without an API key cannot be closed for another one.
    unauthenticated_grace = Duration::from_secs(1);
    /// Maximum wait of a REST request while the vendor's rate limits are emulated.
    rest_queue = Duration::from_secs(15);
    /// Timeout of the body of a REST request.
    rest_body = Duration::from_secs(15);
    /// Timeout of a REST request, with the call to Microsoft and all writes.
    rest_request = Duration::from_mins(1);
    /// Timeout of writing a REST response.
    rest_response = Duration::from_secs(30);
    /// Maximum age of a REST connection; after that it accepts no further request.
    rest_connection = Duration::from_mins(5);
    /// How long open REST requests may take at shutdown.
    rest_drain = Duration::from_secs(10);
    /// Retry interval of the record controller.
    record_retry = Duration::from_mins(2);
    /// Duration of the leader's lease.
    lease = Duration::from_secs(90);
    /// After which a leader that could not renew stops leading.
    renew_deadline = Duration::from_mins(1);
    /// Interval of attempts to renew or acquire the lease.
    lease_retry = Duration::from_secs(5);
    /// Timeout of a request for the lease; several fit into the renew deadline.
    lease_call = Duration::from_secs(15);
    /// How long in-flight work may take after SIGTERM.
    shutdown = Duration::from_secs(50);
    /// How long a reconcile may take to persist a registration that exists at Woodpecker.
    status_persist_timeout = Duration::from_mins(1);
}

/// Waits of which one could end after another that it must precede.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TimingError {
    /// A call could outlive the lease under which it started.
    #[error(
        "the longest call ({:?}) and the margin ({:?}) must be shorter than the renew deadline ({:?}), which must be \
         shorter than the lease ({:?})",
        .0.longest_call(), .0.call_margin, .0.renew_deadline, .0.lease
    )]
    Lease(Box<Timing>),
    /// A create or an update could still take effect after its settle period.
    #[error(
        "the longest call ({:?}) and the margin ({:?}) must be shorter than the settle period of a create or an \
         update ({:?})",
        .0.longest_call(), .0.call_margin, .0.settle_period
    )]
    Settle(Box<Timing>),
}

// === impl Timing ===

impl Timing {
    /// Maximum token requests of the controller for one app in [`Timing::token_tries_span`], and of the whole process
    /// for one secret. Microsoft treats fifteen equal ones as a loop (AADSTS50196).
    pub const TOKEN_TRIES: usize = 10;

    /// Maximum token requests of a REST account for one app in that period, and of all accounts together for one
    /// secret.
    pub const TOKEN_TRIES_SERVED: usize = 8;

    /// How many of the controller's requests for an app are for namespaces that never got a token for it, if another
    /// one did.
    pub const TOKEN_TRIES_OTHER_NAMESPACES: usize = 4;

    /// Maximum secrets of a REST account, for all apps, that may be rejected in that period.
    pub const TOKEN_REJECTIONS: usize = 100;

    /// After which every replica encrypts under a new primary key: none has an older view of the keyring, and what they
    /// encrypted before is written.
    pub fn key_rollout(&self) -> Duration {
        self.keyring_view + self.kube_headers
    }

    /// The longest request to a remote API.
    pub fn longest_call(&self) -> Duration {
        self.woodpecker_call.max(self.token_call).max(self.graph_call)
    }

    /// The waits themselves, or an error if two leaders or two creates could overlap.
    pub fn checked(self) -> Result<Self, TimingError> {
        let bound = self.longest_call() + self.call_margin;
        if bound >= self.renew_deadline || self.renew_deadline >= self.lease {
            return Err(TimingError::Lease(self.into()));
        }
        if bound >= self.settle_period {
            return Err(TimingError::Settle(self.into()));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_waits_are_valid_at_every_scale() {
        for scale in [1, 7, 60, 600, 100_000] {
            assert!(Timing::STANDARD.divided_by(scale).checked().is_ok(), "scale {scale}");
        }
    }

    #[test]
    fn a_call_that_can_outlive_the_lease_is_rejected() {
        let slow = Timing { woodpecker_call: Duration::from_secs(55), ..Timing::STANDARD };
        assert!(matches!(slow.checked(), Err(TimingError::Lease(_))));
        let late = Timing { renew_deadline: Duration::from_secs(90), ..Timing::STANDARD };
        assert!(matches!(late.checked(), Err(TimingError::Lease(_))));
    }

    #[test]
    fn a_settle_period_that_is_too_short_is_rejected() {
        let early = Timing { settle_period: Duration::from_secs(50), ..Timing::STANDARD };
        assert!(matches!(early.checked(), Err(TimingError::Settle(_))));
    }
}
