//! A double of Woodpecker's Microsoft Graph credentials API: the documented rules and bodies, a state per
//! account, faults before and after a request takes effect, and a record of every request. If the vendor's
//! documentation is silent, the double has one behavior and a switch for the others.
//!
//! A client company of an agency is an account of its own, named `<agency>/<company id>`, for every method
//! that takes an account.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::broadcast;

pub use crate::double::RetryAfter;
pub use crate::double::progress::Point;
pub use crate::double::woodpecker::companies::Company;
pub use crate::double::woodpecker::fault::Fault;
pub use crate::double::woodpecker::progress::Progress;
pub use crate::double::woodpecker::record::Request;
pub use crate::double::woodpecker::response::ExpiryEcho;
pub use crate::double::woodpecker::route::Op;
pub use crate::double::woodpecker::state::Credential;
pub use crate::double::woodpecker::validity::InvalidPeriod;

use crate::double::woodpecker::handler::Handler;
use crate::double::woodpecker::validity;
use crate::double::{Double, lock};
use crate::entra::Entra;

/// A running double of Woodpecker; stops when dropped.
pub type Woodpecker = Double<Handler>;

impl Woodpecker {
    /// The base URL for clients: [`Woodpecker::url`] with `/rest`.
    pub fn base_url(&self) -> String {
        self.url() + "/rest"
    }

    // --- accounts

    /// Adds an account with this API key, or another key if the account exists already.
    pub fn add_account(&self, account: &str, api_key: &str) {
        lock(&self.handler.state).add_account(account, api_key);
    }

    /// 401 for this key from now on. The account and its credentials stay.
    pub fn revoke_key(&self, api_key: &str) {
        lock(&self.handler.state).revoke_key(api_key);
    }

    /// Adds a client company of an agency, reached by the agency's keys with `x-company-id`. An unknown id
    /// gets 404.
    pub fn add_company(&self, agency: &str, company: &str) {
        lock(&self.handler.state).add_company(agency, company);
    }

    /// Whether requests with `x-company-id` act on the agency itself; `false` by default.
    pub fn ignore_company_header(&self, ignore: bool) {
        lock(&self.handler.behavior).ignore_company_header = ignore;
    }

    /// Lists the company to the agency's keys, in place of the one with its id. Unlike
    /// [`Woodpecker::add_company`], no requests can be made for it.
    pub fn list_company(&self, agency: &str, company: Company) {
        lock(&self.handler.agencies).put(agency, company);
    }

    /// The body of `/me` for the account's keys; 404 without one.
    pub fn set_identity(&self, account: &str, identity: Value) {
        lock(&self.handler.agencies).set_identity(account, identity);
    }

    // --- state

    /// The account's credentials, ordered by id; none if the account does not exist.
    pub fn credentials(&self, account: &str) -> Vec<Credential> {
        lock(&self.handler.state).credentials(account)
    }

    /// Skips this number of ids. Ports are reused, so two doubles one after the other may have the same
    /// address.
    pub fn skip_ids(&self, many: i64) {
        lock(&self.handler.state).skip_ids(many);
    }

    /// Whether the stored secret is exactly `secret`; `false` if the credential does not exist.
    pub fn secret_matches(&self, account: &str, id: i64, secret: &str) -> bool {
        let mut state = lock(&self.handler.state);
        state.credential(account, id).is_some_and(|it| it.secret.is(secret))
    }

    /// Stores a credential like a third party, and replaces the one with its id if it exists; returns its id.
    pub fn put(&self, account: &str, credential: Credential) -> i64 {
        lock(&self.handler.state).put(account, credential)
    }

    /// Removes a credential like a third party; returns whether it existed.
    pub fn remove(&self, account: &str, id: i64) -> bool {
        lock(&self.handler.state).remove(account, id)
    }

    /// Rejects its deletion from now on.
    pub fn mark_in_use(&self, id: i64) {
        lock(&self.handler.state).mark_in_use(id);
    }

    /// Undoes [`Woodpecker::mark_in_use`].
    pub fn clear_in_use(&self, id: i64) {
        lock(&self.handler.state).clear_in_use(id);
    }

    // --- mailboxes

    /// Replaces the mailboxes of an account: the objects of the listing, of any form.
    pub fn set_mailboxes(&self, account: &str, objects: Vec<Value>) {
        lock(&self.handler.state).mailboxes.set(account, objects);
    }

    /// The objects of the account's listing of mailboxes.
    pub fn mailboxes(&self, account: &str) -> Vec<Value> {
        lock(&self.handler.state).mailboxes.of(account)
    }

    /// Refuses to connect an address from now on, with `success: false` and this error; `None` accepts it again.
    pub fn refuse_mailbox(&self, address: &str, error: Option<&str>) {
        lock(&self.handler.state).mailboxes.refuse(address, error);
    }

    /// The addresses that were submitted for connection although the listing showed them.
    pub fn resubmitted_mailboxes(&self) -> Vec<String> {
        lock(&self.handler.state).mailboxes.resubmitted()
    }

    // --- settings

    /// Verifies creates against the state of this double of Entra, without a request: nothing is recorded
    /// there, no propagation attempt is used up, and its faults do not apply. Without it every secret is
    /// accepted.
    pub fn verify_with(&self, entra: &Entra) {
        lock(&self.handler.behavior).microsoft = Some(Arc::clone(&entra.handler));
    }

    /// Whether updates are verified too; `false` by default, because the vendor does not document it.
    pub fn verify_updates(&self, verify: bool) {
        lock(&self.handler.behavior).rules.verify_updates = verify;
    }

    /// From now on, checks all the time that every registered secret works at this double of Entra, like
    /// [`Woodpecker::verify_with`] without a request: every 10 ms, and before and after each write.
    pub fn check_validity_with(&self, entra: &Entra) {
        let entra = Arc::clone(&entra.handler);
        lock(&self.handler.behavior).checks_validity_at = Some(Arc::clone(&entra));
        validity::watch(&self.handler, entra);
    }

    /// The times during which a registered secret did not work, since [`Woodpecker::check_validity_with`].
    pub fn invalid_periods(&self) -> Vec<InvalidPeriod> {
        lock(&self.handler.validity).periods()
    }

    /// The status of a rejected deletion of a credential in use; 409 by default, because the vendor does not
    /// document it.
    pub fn in_use_status(&self, status: u16) {
        lock(&self.handler.behavior).rules.in_use_status = status;
    }

    /// How `secret_expires_at` is returned; [`ExpiryEcho::Verbatim`] by default.
    pub fn expiry_echo(&self, echo: ExpiryEcho) {
        lock(&self.handler.behavior).rules.expiry_echo = echo;
    }

    /// Runs an action with the account's name whenever a request to delete an existing credential arrives;
    /// the request waits for it.
    pub fn before_each_delete<F>(&self, act: impl Fn(String, Credential) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        lock(&self.handler.behavior).before_delete =
            Some(Arc::new(move |account, credential| Box::pin(act(account, credential))));
    }

    /// The delay of every request before it does anything; zero by default.
    pub fn service_time(&self, time: Duration) {
        lock(&self.handler.behavior).service_time = time;
    }

    /// Whether the vendor's limit is enforced: one request of an account is processed, six wait for up to 15
    /// s each, and the rest get 429. `false` by default; it is measured in any case.
    pub fn enforce_concurrency(&self, enforce: bool) {
        lock(&self.handler.behavior).enforce_concurrency = enforce;
    }

    // --- faults: those of an account precede those of all, counted ones precede lasting ones, in the order
    // given

    /// The next `n` requests of this operation, of any account.
    pub fn fail_next(&self, op: Op, n: usize, fault: Fault) {
        lock(&self.handler.script).fail_next((None, op), n, fault);
    }

    /// Every request of this operation until [`Woodpecker::clear_faults`].
    pub fn fail_always(&self, op: Op, fault: Fault) {
        lock(&self.handler.script).fail_always((None, op), fault);
    }

    /// The next `n` requests of this operation and account.
    pub fn fail_account_next(&self, account: &str, op: Op, n: usize, fault: Fault) {
        lock(&self.handler.script).fail_next((Some(account.to_owned()), op), n, fault);
    }

    /// Every request of this operation and account until [`Woodpecker::clear_faults`].
    pub fn fail_account_always(&self, account: &str, op: Op, fault: Fault) {
        lock(&self.handler.script).fail_always((Some(account.to_owned()), op), fault);
    }

    // --- requests

    /// The account's requests in order of arrival, including those with a revoked key.
    pub fn requests(&self, account: &str) -> Vec<Request> {
        let records = lock(&self.handler.records);
        let of_account = records.iter().filter(|it| it.account.as_deref() == Some(account));
        of_account.cloned().collect()
    }

    /// Requests with an unknown key.
    pub fn unauthenticated_requests(&self) -> Vec<Request> {
        let records = lock(&self.handler.records);
        records.iter().filter(|it| it.account.is_none()).cloned().collect()
    }

    /// The number of creates, renames, updates and deletes of the account that have arrived, with any
    /// outcome.
    pub fn writes(&self, account: &str) -> usize {
        self.count(account, Op::is_write)
    }

    /// The number of list requests of the account.
    pub fn lists(&self, account: &str) -> usize {
        self.count(account, |op| op == Op::List)
    }

    /// The maximum number of the account's requests that were open at once, as its clients could know it.
    pub fn max_in_flight(&self, account: &str) -> usize {
        self.handler.queue(account).in_flight.max()
    }

    /// How long at least one request of the account was open.
    pub fn busy(&self, account: &str) -> Duration {
        self.handler.queue(account).in_flight.busy()
    }

    /// Broadcasts the progress of each request from now on, for all accounts.
    pub fn follow(&self) -> broadcast::Receiver<Progress> {
        self.handler.progress.subscribe()
    }

    /// The number of open requests of the account.
    pub fn in_flight(&self, account: &str) -> usize {
        self.handler.queue(account).in_flight.now()
    }

    /// One human-readable line per request that arrived at or after `since`, for all accounts, such as `POST
    /// credentials app=e1c6… name="mail/sales-eu [..]" → 201 id=22334455`.
    pub fn summary(&self, since: Timestamp) -> Vec<String> {
        let with_account = lock(&self.handler.state).has_several_accounts();
        let records = lock(&self.handler.records);
        let recent = records.iter().filter(|it| it.at >= since);
        recent.map(|it| it.line(with_account)).collect()
    }

    fn count(&self, account: &str, is_counted: impl Fn(Op) -> bool) -> usize {
        let records = lock(&self.handler.records);
        let of_account = records.iter().filter(|it| it.account.as_deref() == Some(account));
        of_account.filter(|it| is_counted(it.op)).count()
    }
}
