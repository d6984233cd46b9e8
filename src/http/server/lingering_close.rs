//! A lingering close, like nginx's `lingering_close`: after the response, the server reads and drops for a moment what the
//! client is still sending. Closing at once would reset the connection, and the client might never see the response.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

const LINGER_TIME: Duration = Duration::from_secs(1);

/// Most bytes that are read.
const LINGER_BYTES: usize = 1 << 20;

const BUFFER_BYTES: usize = 16 << 10;

pub struct LingeringClose<S> {
    stream: S,
    end: Option<End>,
}

/// State after the server's side was shut down.
struct End {
    over: Pin<Box<Sleep>>,
    left: usize,
    buffer: Vec<u8>,
}

// === impl LingeringClose ===

impl<S> LingeringClose<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LingeringClose<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for LingeringClose<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, end } = &mut *self;
        let mut stream = Pin::new(stream);
        let end = match end {
            Some(end) => end,
            none => {
                ready!(stream.as_mut().poll_shutdown(context))?;
                none.insert(End {
                    over: Box::pin(sleep(LINGER_TIME)),
                    left: LINGER_BYTES,
                    buffer: vec![0; BUFFER_BYTES],
                })
            }
        };
        while end.left > 0 && end.over.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut end.buffer);
            let read = ready!(stream.as_mut().poll_read(context, &mut buffer));
            match buffer.filled().len() {
                0 => break,
                _ if read.is_err() => break,
                length => end.left = end.left.saturating_sub(length),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
