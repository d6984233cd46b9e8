//! Every wait of the program, with its reason.

use std::time::Duration;

use thiserror::Error;

/// Every wait of the program. `--time-scale N` divides all of them by N.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// One call to Microsoft's token endpoint, from connect to the last byte.
    pub token_call: Duration,
    /// One call to Woodpecker: its queue may take 15 s, and create and update call Microsoft in turn.
    pub woodpecker_call: Duration,
    /// Until a connection to either stands.
    pub connect: Duration,
    /// Until the Kubernetes API server has sent the headers of an answer, and all of it where that is no watch; kube
    /// itself would wait for ever.
    pub kube_headers: Duration,
    /// Until an event is published; the pass that tells it waits so long, and goes on without it.
    pub event: Duration,
    /// How long events may take to be published at the end of the program.
    pub event_drain: Duration,
    /// Until the same is told of an object once more.
    pub event_repeat: Duration,
    /// For how long an answer holds to the question who scrapes.
    pub scraper_answer: Duration,
    /// Between two looks at the file that says what is logged.
    pub log_filter: Duration,
    /// What must be left of a lease beyond the longest call before a call may start.
    pub margin: Duration,
    /// One pass over one object, all calls together.
    pub pass: Duration,
    /// Between two looks at the metadata of a referenced Secret, and between two questions whether Secrets may be watched.
    pub secret_poll: Duration,
    /// Least time between two such looks: at most twenty a second.
    pub secret_poll_pace: Duration,
    /// How long a watch of Secrets goes on after something came through it: until then its buffers keep that.
    pub secret_watch: Duration,
    /// How long a connection goes on after the first answer about Secrets that it carried.
    pub secret_connection: Duration,
    /// How old a listing may be for a decision to create.
    pub listing_max_age: Duration,
    /// Between two listings of a settled account.
    pub listing_interval: Duration,
    /// How long what changes an account's counts is gathered before they are written.
    pub count_pace: Duration,
    /// After which the outcome of a create, or of a change, can no longer change.
    pub create_settle: Duration,
    /// How long refusals of a new secret count as its spreading through Entra.
    pub propagation_window: Duration,
    /// The span in which one app is tried at Microsoft at most [`Timing::TOKEN_TRIES`] times.
    pub token_tries_span: Duration,
    /// First delay after a failure; doubled with each further one.
    pub backoff_first: Duration,
    /// Longest delay after failures.
    pub backoff_longest: Duration,
    /// Between two probes of what only a person can mend.
    pub stalled_probe: Duration,
    /// Between two attempts to delete what is in use.
    pub in_use_retry: Duration,
    /// How long an account's lane stays shut after a 429 without `Retry-After`: its queue drains in 15 s.
    pub throttle_pause: Duration,
    /// Longest pause of a lane after answers that ask to slow down, or failures, in a row.
    pub lane_longest_pause: Duration,
    /// After which a waiting request rises by one class.
    pub lane_ageing: Duration,
    /// How long an object waits for a permit of its account's queue before its status says so.
    pub queue_notice: Duration,
    /// How long a grant waits for the one that was called for it.
    pub lane_claim: Duration,
    /// Longest time between two looks at a settled object, in case an event was missed.
    pub resync: Duration,
    /// How long a terminating namespace waits for a deletion at Woodpecker.
    pub namespace_grace: Duration,
    /// How long a watch may be silent before it is opened anew; below the 240 s of Azure's load balancers.
    pub watch_idle: Duration,
    /// A watch that ends sooner was ended at once by the API server. Also the first wait after a watch failed, doubled with
    /// each further failure.
    pub watch_brief: Duration,
    /// Longest such wait. A watch that lives for twice this works.
    pub watch_reopen: Duration,
    /// Between two looks for missing CRDs or a missing keyring.
    pub startup_retry: Duration,
    /// How long a retired key of the keyring still opens, until it may be deleted.
    pub key_retirement: Duration,
    /// Between two reads of the keyring. With the longest read it is shorter than the next, so that no write waits.
    pub keyring_poll: Duration,
    /// How old the keyring may be that a secret is sealed with, from the beginning of the read on.
    pub keyring_view: Duration,
    /// Between two looks at the records of the store while they are sealed anew.
    pub reseal_look: Duration,
    /// How long none may be sealed anew until that counts as standing still.
    pub reseal_stall: Duration,
    /// Between two looks at all records of the store, in case one was left under an earlier key.
    pub record_sweep: Duration,
    /// Between two looks at the API keys of the REST API: so long a removed key still works.
    pub rest_keys_poll: Duration,
    /// How long API keys of the REST API are taken at their word while their Secret cannot be read.
    pub rest_keys_trust: Duration,
    /// Between two looks at the certificate of the REST API.
    pub rest_files_poll: Duration,
    /// Until a client of the REST API has sent the head of a request, and so how long its connection may be idle.
    pub rest_head: Duration,
    /// How long a connection to the REST API is kept in any case whose client has shown no API key yet.
    pub rest_stranger: Duration,
    /// How long a request to the REST API waits for its turn, where the vendor's limits are emulated.
    pub rest_queue: Duration,
    /// Until it has sent the body.
    pub rest_body: Duration,
    /// One request to the REST API, the call to Microsoft and all writes included.
    pub rest_request: Duration,
    /// Until a client of the REST API has taken its answer.
    pub rest_answer: Duration,
    /// How long a connection to the REST API lives; then it takes no further request.
    pub rest_connection: Duration,
    /// How long open requests to the REST API may take at the end of the program.
    pub rest_drain: Duration,
    /// Until something about a record of the REST API is tried again.
    pub record_retry: Duration,
    /// Validity of the leader's lease.
    pub lease: Duration,
    /// After which a leader that could not renew gives up.
    pub renew_deadline: Duration,
    /// Between two attempts to renew or take the lease.
    pub lease_retry: Duration,
    /// One request for the lease; several fit into the renew deadline.
    pub lease_call: Duration,
    /// How long work may take to end after SIGTERM.
    pub shutdown: Duration,
    /// What a pass may at most take to write down a registration that exists at Woodpecker.
    pub record: Duration,
}

/// A set of waits in which one could end after what it must precede.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TimingError {
    /// A call could outlive the lease under which it started.
    #[error(
        "the longest call ({call:?}) and the margin ({margin:?}) must be shorter than the renew deadline \
         ({renew_deadline:?}), and that shorter than the lease ({lease:?})"
    )]
    Lease {
        /// The longest call.
        call: Duration,
        /// The margin.
        margin: Duration,
        /// The renew deadline.
        renew_deadline: Duration,
        /// The lease.
        lease: Duration,
    },
    /// A create or a change could still be under way when it is taken for settled.
    #[error(
        "the longest call ({call:?}) and the margin ({margin:?}) must be shorter than the time after which a \
         create or a change counts as settled ({create_settle:?})"
    )]
    Settle {
        /// The longest call.
        call: Duration,
        /// The margin.
        margin: Duration,
        /// The time after which a create or a change counts as settled.
        create_settle: Duration,
    },
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

    /// The waits of a program in production.
    pub const STANDARD: Self = Self {
        token_call: Duration::from_secs(15),
        woodpecker_call: Duration::from_secs(45),
        connect: Duration::from_secs(5),
        kube_headers: Duration::from_secs(30),
        log_filter: Duration::from_secs(5),
        scraper_answer: Duration::from_mins(1),
        event: Duration::from_secs(5),
        event_drain: Duration::from_secs(10),
        event_repeat: Duration::from_mins(10),
        margin: Duration::from_secs(5),
        pass: Duration::from_mins(10),
        secret_poll: Duration::from_mins(1),
        secret_poll_pace: Duration::from_millis(50),
        secret_watch: Duration::from_secs(5),
        secret_connection: Duration::from_secs(8),
        listing_max_age: Duration::from_mins(1),
        listing_interval: Duration::from_mins(15),
        count_pace: Duration::from_secs(10),
        create_settle: Duration::from_mins(2),
        propagation_window: Duration::from_mins(20),
        token_tries_span: Duration::from_mins(5),
        backoff_first: Duration::from_secs(5),
        backoff_longest: Duration::from_mins(15),
        stalled_probe: Duration::from_hours(24),
        in_use_retry: Duration::from_mins(10),
        throttle_pause: Duration::from_secs(15),
        lane_longest_pause: Duration::from_mins(5),
        lane_ageing: Duration::from_mins(10),
        queue_notice: Duration::from_secs(10),
        lane_claim: Duration::from_secs(20),
        resync: Duration::from_hours(1),
        namespace_grace: Duration::from_mins(10),
        watch_idle: Duration::from_secs(200),
        watch_brief: Duration::from_secs(1),
        watch_reopen: Duration::from_secs(30),
        startup_retry: Duration::from_secs(5),
        key_retirement: Duration::from_hours(7 * 24),
        keyring_poll: Duration::from_secs(20),
        keyring_view: Duration::from_mins(1),
        reseal_look: Duration::from_secs(1),
        reseal_stall: Duration::from_mins(3),
        record_sweep: Duration::from_hours(1),
        rest_keys_poll: Duration::from_secs(30),
        rest_keys_trust: Duration::from_mins(5),
        rest_files_poll: Duration::from_secs(30),
        rest_head: Duration::from_secs(15),
        rest_stranger: Duration::from_secs(1),
        rest_queue: Duration::from_secs(15),
        rest_body: Duration::from_secs(15),
        rest_request: Duration::from_mins(1),
        rest_answer: Duration::from_secs(30),
        rest_connection: Duration::from_mins(5),
        rest_drain: Duration::from_secs(10),
        record_retry: Duration::from_mins(2),
        lease: Duration::from_secs(90),
        renew_deadline: Duration::from_mins(1),
        lease_retry: Duration::from_secs(5),
        lease_call: Duration::from_secs(15),
        shutdown: Duration::from_secs(50),
        record: Duration::from_mins(1),
    };

    /// All waits divided by `scale`, which is at least 1.
    #[must_use]
    pub fn divided_by(self, scale: u32) -> Self {
        let by = |wait: Duration| wait / scale.max(1);
        Self {
            token_call: by(self.token_call),
            woodpecker_call: by(self.woodpecker_call),
            connect: by(self.connect),
            kube_headers: by(self.kube_headers),
            log_filter: by(self.log_filter),
            scraper_answer: by(self.scraper_answer),
            event: by(self.event),
            event_drain: by(self.event_drain),
            event_repeat: by(self.event_repeat),
            margin: by(self.margin),
            pass: by(self.pass),
            secret_poll: by(self.secret_poll),
            secret_poll_pace: by(self.secret_poll_pace),
            secret_watch: by(self.secret_watch),
            secret_connection: by(self.secret_connection),
            listing_max_age: by(self.listing_max_age),
            listing_interval: by(self.listing_interval),
            count_pace: by(self.count_pace),
            create_settle: by(self.create_settle),
            propagation_window: by(self.propagation_window),
            token_tries_span: by(self.token_tries_span),
            backoff_first: by(self.backoff_first),
            backoff_longest: by(self.backoff_longest),
            stalled_probe: by(self.stalled_probe),
            in_use_retry: by(self.in_use_retry),
            throttle_pause: by(self.throttle_pause),
            lane_longest_pause: by(self.lane_longest_pause),
            lane_ageing: by(self.lane_ageing),
            queue_notice: by(self.queue_notice),
            lane_claim: by(self.lane_claim),
            resync: by(self.resync),
            namespace_grace: by(self.namespace_grace),
            watch_idle: by(self.watch_idle),
            watch_brief: by(self.watch_brief),
            watch_reopen: by(self.watch_reopen),
            startup_retry: by(self.startup_retry),
            key_retirement: by(self.key_retirement),
            keyring_poll: by(self.keyring_poll),
            keyring_view: by(self.keyring_view),
            reseal_look: by(self.reseal_look),
            reseal_stall: by(self.reseal_stall),
            record_sweep: by(self.record_sweep),
            rest_keys_poll: by(self.rest_keys_poll),
            rest_keys_trust: by(self.rest_keys_trust),
            rest_files_poll: by(self.rest_files_poll),
            rest_head: by(self.rest_head),
            rest_stranger: by(self.rest_stranger),
            rest_queue: by(self.rest_queue),
            rest_body: by(self.rest_body),
            rest_request: by(self.rest_request),
            rest_answer: by(self.rest_answer),
            rest_connection: by(self.rest_connection),
            rest_drain: by(self.rest_drain),
            record_retry: by(self.record_retry),
            lease: by(self.lease),
            renew_deadline: by(self.renew_deadline),
            lease_retry: by(self.lease_retry),
            lease_call: by(self.lease_call),
            shutdown: by(self.shutdown),
            record: by(self.record),
        }
    }

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
        let (call, margin) = (self.longest_call(), self.margin);
        let bound = call + margin;
        if bound >= self.renew_deadline || self.renew_deadline >= self.lease {
            let Self { renew_deadline, lease, .. } = self;
            return Err(TimingError::Lease { call, margin, renew_deadline, lease });
        }
        if bound >= self.create_settle {
            return Err(TimingError::Settle { call, margin, create_settle: self.create_settle });
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
        assert!(matches!(slow.checked(), Err(TimingError::Lease { .. })));
        let late = Timing { renew_deadline: Duration::from_secs(90), ..Timing::STANDARD };
        assert!(matches!(late.checked(), Err(TimingError::Lease { .. })));
    }

    #[test]
    fn a_create_that_settles_too_early_is_refused() {
        let early = Timing { create_settle: Duration::from_secs(50), ..Timing::STANDARD };
        assert!(matches!(early.checked(), Err(TimingError::Settle { .. })));
    }
}
