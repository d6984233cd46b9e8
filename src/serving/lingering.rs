//! The end of a connection. What a client is still sending when its answer is complete is read and dropped for a moment: to
//! close upon it would reset the connection, and the client might never see the answer.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long that goes on.
const MOMENT: Duration = Duration::from_secs(1);

/// How many bytes are read at most.
const MOST: usize = 1 << 20;

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// A stream that ends in that way.
pub struct Lingering<S> {
    stream: S,
    end: Option<End>,
}

/// Our side has ended.
struct End {
    over: Pin<Box<Sleep>>,
    left: usize,
    scrap: Vec<u8>,
}

// === impl Lingering ===

impl<S> Lingering<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, end: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
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
                none.insert(End { over: Box::pin(sleep(MOMENT)), left: MOST, scrap: vec![0; PIECE] })
            }
        };
        while end.left > 0 && end.over.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut end.scrap);
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
