//! A write timeout: a client that reads its response slowly, or not at all, must not occupy a connection and the memory of
//! a response for long.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The responses of one connection.
#[derive(Debug, Default)]
pub struct WriteTimeout {
    /// When the response to the last request was ready; `None` while there is none.
    since: Mutex<Option<Instant>>,
}

// === impl WriteTimeout ===

impl WriteTimeout {
    /// Records that a request arrived, so that the response before was read.
    pub fn requested(&self) {
        *self.since.lock() = None;
    }

    /// Records that its response is ready.
    pub fn responded(&self) {
        *self.since.lock() = Some(Instant::now());
    }

    /// Waits until a response was not read completely for that long. A response that was is followed by the next request,
    /// or by the end of the connection. Requests do not wake it: it looks again when the last one may have stalled.
    pub async fn stalled(&self, timeout: Duration) {
        loop {
            let since = *self.since.lock();
            tokio::time::sleep_until(since.unwrap_or_else(Instant::now) + timeout).await;
            if since.is_some() && *self.since.lock() == since {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const ALMOST: Duration = Duration::from_secs(29);

    #[tokio::test(start_paused = true)]
    async fn a_response_stalls_as_long_after_it_was_ready() {
        let write_timeout = WriteTimeout::default();
        let began = Instant::now();
        let requests = async {
            // A request that takes long stalls nothing.
            tokio::time::sleep(TIMEOUT * 3 + ALMOST).await;
            for _ in 0..3 {
                write_timeout.responded();
                tokio::time::sleep(ALMOST).await;
                write_timeout.requested();
            }
            write_timeout.responded();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = requests => {}
            () = write_timeout.stalled(TIMEOUT) => {}
        }
        assert_eq!(began.elapsed(), TIMEOUT * 4 + ALMOST * 4);
    }
}
