//! How often one app may be tried: Microsoft takes fifteen equal requests in five minutes for a loop and
//! refuses further ones (AADSTS50196), so we stop at ten, over all objects that name the app.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::resources::{ClientId, TenantId};
use crate::settings::Timing;

/// The recent tries of each app.
#[derive(Debug)]
pub(super) struct Pace {
    span: Duration,
    tries: Mutex<HashMap<(TenantId, ClientId), VecDeque<Instant>>>,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(timing: &Timing) -> Self {
        Self { span: timing.token_tries_span, tries: Mutex::default() }
    }

    /// Counts a try, or says how long to wait before the next one is due.
    pub(super) fn admit(&self, tenant: &TenantId, client: &ClientId) -> Result<(), Duration> {
        let now = Instant::now();
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        tries.retain(|_, recent| {
            while recent.front().is_some_and(|first| now.duration_since(*first) >= self.span) {
                recent.pop_front();
            }
            !recent.is_empty()
        });
        let recent = tries.entry((tenant.clone(), client.clone())).or_default();
        match recent.front() {
            Some(first) if recent.len() >= Timing::TOKEN_TRIES => {
                Err(self.span.saturating_sub(now.duration_since(*first)))
            }
            _ => {
                recent.push_back(now);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_app_is_tried_ten_times_in_five_minutes_and_others_are_not_held_up() {
        let pace = Pace::new(&Timing::STANDARD);
        let tenant: TenantId = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32".parse().unwrap();
        let (app, other): (ClientId, ClientId) = (
            "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap(),
            "e1c6ac69-480e-4a17-9b85-3467967bd170".parse().unwrap(),
        );
        for _ in 0..10 {
            assert_eq!(pace.admit(&tenant, &app), Ok(()));
        }
        assert_eq!(pace.admit(&tenant, &app), Err(Duration::from_mins(5)));
        assert_eq!(pace.admit(&tenant, &other), Ok(()));
        tokio::time::advance(Duration::from_mins(5)).await;
        assert_eq!(pace.admit(&tenant, &app), Ok(()));
    }
}
