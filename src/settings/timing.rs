//! Every wait of the program, with its reason.

use std::time::Duration;

use thiserror::Error;

macro_rules! timing {
    ($($(#[$doc:meta])+ $wait:ident = $standard:expr;)+) => {
        /// Every wait of the program. `--time-scale N` divides all of them by N.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Timing { $($(#[$doc])+ pub $wait: Duration,)+ }

        impl Timing {
            /// The waits of a program in production.
            pub const STANDARD: Self = Self { $($wait: $standard,)+ };

            /// All waits divided by `scale`, which is at least 1.
            #[must_use]
            pub fn divided_by(self, scale: u32) -> Self {
                let scale = scale.max(1);
                Self { $($wait: self.$wait / scale,)+ }
            }
        }
    };
}

// Each wait with its standard value.
timing! {
    /// One call to Microsoft's token endpoint, from connect to the last byte.
    token_call = Duration::from_secs(15);
    /// One call to Woodpecker: its queue may take 15 s, and create and update call Microsoft in turn.
    woodpecker_call = Duration::from_secs(45);
    /// Until a connection to either stands.
    connect = Duration::from_secs(5);
    /// Until the Kubernetes API server has sent the headers of an answer, and all of it where that is no watch; kube
    /// itself would wait for ever.
    kube_headers = Duration::from_secs(30);
    /// Until an event is published; the pass that tells it waits so long, and goes on without it.
    event = Duration::from_secs(5);
    /// How long events may take to be published at the end of the program.
    event_drain = Duration::from_secs(10);
    /// Until the same is told of an object once more.
    event_repeat = Duration::from_mins(10);
    /// For how long an answer holds to the question who scrapes.
    scraper_answer = Duration::from_mins(1);
    /// Between two looks at the file that says what is logged.
    log_filter = Duration::from_secs(5);
    /// What must be left of a lease beyond the longest call before a call may start.
    margin = Duration::from_secs(5);
    /// One pass over one object, all calls together.
    pass = Duration::from_mins(10);
    /// Between two looks at the metadata of a referenced Secret, and between two questions whether Secrets may be watched.
    secret_poll = Duration::from_mins(1);
    /// Least time between two such looks: at most twenty a second.
    secret_poll_pace = Duration::from_millis(50);
    /// How long a watch of Secrets goes on after something came through it: until then its buffers keep that.
    secret_watch = Duration::from_secs(5);
    /// How long a connection goes on after the first answer about Secrets that it carried.
    secret_connection = Duration::from_secs(8);
    /// For how long requests to Microsoft and Woodpecker begin on the same connections.
    connection_reuse = Duration::from_secs(4);
    /// How old a listing may be for a decision to create.
    listing_max_age = Duration::from_mins(1);
    /// Between two listings of a settled account.
    listing_interval = Duration::from_mins(15);
    /// How long what changes an account's counts is gathered before they are written.
    count_pace = Duration::from_secs(10);
    /// After which the outcome of a create, or of a change, can no longer change.
    create_settle = Duration::from_mins(2);
    /// How long refusals of a new secret count as its spreading through Entra.
    propagation_window = Duration::from_mins(20);
    /// The span in which one app is tried at Microsoft at most [`Timing::TOKEN_TRIES`] times.
    token_tries_span = Duration::from_mins(5);
    /// First delay after a failure; doubled with each further one.
    backoff_first = Duration::from_secs(5);
    /// Longest delay after failures.
    backoff_longest = Duration::from_mins(15);
    /// Between two probes of what only a person can mend.
    stalled_probe = Duration::from_hours(24);
    /// Between two attempts to delete what is in use.
    in_use_retry = Duration::from_mins(10);
    /// How long an account's lane stays shut after a 429 without `Retry-After`: its queue drains in 15 s.
    throttle_pause = Duration::from_secs(15);
    /// Longest pause of a lane after answers that ask to slow down, or failures, in a row.
    lane_longest_pause = Duration::from_mins(5);
    /// After which a waiting request rises by one class.
    lane_ageing = Duration::from_mins(10);
    /// How long an object waits for a permit of its account's queue before its status says so.
    queue_notice = Duration::from_secs(10);
    /// How long a grant waits for the one that was called for it.
    lane_claim = Duration::from_secs(20);
    /// Longest time between two looks at a settled object, in case an event was missed.
    resync = Duration::from_hours(1);
    /// How long a terminating namespace waits for a deletion at Woodpecker.
    namespace_grace = Duration::from_mins(10);
    /// How long a watch may be silent before it is opened anew; below the 240 s of Azure's load balancers.
    watch_idle = Duration::from_secs(200);
    /// A watch that ends sooner was ended at once by the API server. Also the first wait after a watch failed, doubled with
    /// each further failure.
    watch_brief = Duration::from_secs(1);
    /// Longest such wait. A watch that lives for twice this works.
    watch_reopen = Duration::from_secs(30);
    /// Between two looks for missing CRDs or a missing keyring.
    startup_retry = Duration::from_secs(5);
    /// How long a retired key of the keyring still opens, until it may be deleted.
    key_retirement = Duration::from_hours(7 * 24);
    /// Between two reads of the keyring. With the longest read it is shorter than the next, so that no write waits.
    keyring_poll = Duration::from_secs(20);
    /// How old the keyring may be that a secret is sealed with, from the beginning of the read on.
    keyring_view = Duration::from_mins(1);
    /// Between two looks at the records of the store while they are sealed anew.
    reseal_look = Duration::from_secs(1);
    /// How long none may be sealed anew until that counts as standing still.
    reseal_stall = Duration::from_mins(3);
    /// Between two looks at all records of the store, in case one was left under an earlier key.
    record_sweep = Duration::from_hours(1);
    /// Between two looks at the API keys of the REST API: so long a removed key still works.
    rest_keys_poll = Duration::from_secs(30);
    /// How long API keys of the REST API are taken at their word while their Secret cannot be read.
    rest_keys_trust = Duration::from_mins(5);
    /// Between two looks at the certificate of the REST API.
    rest_files_poll = Duration::from_secs(30);
    /// Until a client of the REST API has sent the head of a request, and so how long its connection may be idle.
    rest_head = Duration::from_secs(15);
    /// How long a connection to the REST API is kept in any case whose client has shown no API key yet.
    rest_stranger = Duration::from_secs(1);
    /// How long a request to the REST API waits for its turn, where the vendor's limits are emulated.
    rest_queue = Duration::from_secs(15);
    /// Until it has sent the body.
    rest_body = Duration::from_secs(15);
    /// One request to the REST API, the call to Microsoft and all writes included.
    rest_request = Duration::from_mins(1);
    /// Until a client of the REST API has taken its answer.
    rest_answer = Duration::from_secs(30);
    /// How long a connection to the REST API lives; then it takes no further request.
    rest_connection = Duration::from_mins(5);
    /// How long open requests to the REST API may take at the end of the program.
    rest_drain = Duration::from_secs(10);
    /// Until something about a record of the REST API is tried again.
    record_retry = Duration::from_mins(2);
    /// Validity of the leader's lease.
    lease = Duration::from_secs(90);
    /// After which a leader that could not renew gives up.
    renew_deadline = Duration::from_mins(1);
    /// Between two attempts to renew or take the lease.
    lease_retry = Duration::from_secs(5);
    /// One request for the lease; several fit into the renew deadline.
    lease_call = Duration::from_secs(15);
    /// How long work may take to end after SIGTERM.
    shutdown = Duration::from_secs(50);
    /// What a pass may at most take to write down a registration that exists at Woodpecker.
    record = Duration::from_mins(1);
}

/// A set of waits in which one could end after what it must precede.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TimingError {
    /// A call could outlive the lease under which it started.
    #[error(
        "the longest call ({:?}) and the margin ({:?}) must be shorter than the renew deadline ({:?}), and that \
         shorter than the lease ({:?})",
        .0.longest_call(), .0.margin, .0.renew_deadline, .0.lease
    )]
    Lease(Box<Timing>),
    /// A create or a change could still be under way when it is taken for settled.
    #[error(
        "the longest call ({:?}) and the margin ({:?}) must be shorter than the time after which a create or a \
         change counts as settled ({:?})",
        .0.longest_call(), .0.margin, .0.create_settle
    )]
    Settle(Box<Timing>),
}

// === impl Timing ===

impl Timing {
    /// The controller's tries of one app at Microsoft in [`Timing::token_tries_span`], and everybody's of one secret.
    /// Microsoft takes fifteen equal ones for a loop (AADSTS50196).
    pub const TOKEN_TRIES: usize = 10;

    /// How often an account of the REST API may try one app in that span, and all accounts together one secret of it.
    pub const TOKEN_TRIES_SERVED: usize = 8;

    /// How many of the controller's tries of an app are for namespaces that had no token for it, where another one had.
    pub const TOKEN_TRIES_STRANGERS: usize = 4;

    /// How many secrets of an account of the REST API, of whatever apps, may be refused in that span.
    pub const TOKEN_TRIES_IN_VAIN: usize = 100;

    /// After which every replica seals under a new primary key: it has no older view of the keyring, and what it sealed
    /// before is written.
    pub fn key_rollout(&self) -> Duration {
        self.keyring_view + self.kube_headers
    }

    /// The longest call to a remote side.
    pub fn longest_call(&self) -> Duration {
        self.woodpecker_call.max(self.token_call)
    }

    /// The set itself, or why it could let two leaders or two creates overlap.
    pub fn checked(self) -> Result<Self, TimingError> {
        let bound = self.longest_call() + self.margin;
        if bound >= self.renew_deadline || self.renew_deadline >= self.lease {
            return Err(TimingError::Lease(self.into()));
        }
        if bound >= self.create_settle {
            return Err(TimingError::Settle(self.into()));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_holds_at_every_scale() {
        for scale in [1, 7, 60, 600, 100_000] {
            assert!(Timing::STANDARD.divided_by(scale).checked().is_ok(), "scale {scale}");
        }
    }

    #[test]
    fn a_call_that_outlives_its_lease_is_refused() {
        let slow = Timing { woodpecker_call: Duration::from_secs(55), ..Timing::STANDARD };
        assert!(matches!(slow.checked(), Err(TimingError::Lease(_))));
        let late = Timing { renew_deadline: Duration::from_secs(90), ..Timing::STANDARD };
        assert!(matches!(late.checked(), Err(TimingError::Lease(_))));
    }

    #[test]
    fn a_create_that_settles_too_early_is_refused() {
        let early = Timing { create_settle: Duration::from_secs(50), ..Timing::STANDARD };
        assert!(matches!(early.checked(), Err(TimingError::Settle(_))));
    }
}
