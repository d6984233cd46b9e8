//! A response body as a list of steps: bytes, pauses, and a cut in the middle, which a type for whole bodies
//! cannot express.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::time::Sleep;

/// One step of a body.
pub(crate) enum Step {
    Bytes(Bytes),
    Pause(Duration),
    /// The connection breaks here, whatever length the head has announced.
    Cut,
}

/// A body that executes its steps. It drops what it holds (the count of open requests, the account's request
/// slot) before it returns the last step, so the client cannot see the end of its response while the request
/// still counts as open.
pub(crate) struct Steps {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    held: Vec<Box<dyn Any + Send>>,
}

/// The error of a cut; hyper closes the connection on it.
#[derive(Debug)]
pub(crate) struct CutOff;

impl Steps {
    pub(crate) fn new(steps: Vec<Step>, held: Vec<Box<dyn Any + Send>>) -> Self {
        let mut body = Self { steps: steps.into(), pause: None, flushed: false, held };
        body.release_before_the_end();
        body
    }

    fn release_before_the_end(&mut self) {
        if self.steps.is_empty() {
            self.held.clear();
        }
    }
}

impl Body for Steps {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Pause(delay)) => {
                    self.pause = Some(Box::pin(tokio::time::sleep(delay)));
                }
                Some(Step::Bytes(bytes)) => {
                    self.release_before_the_end();
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Step::Cut) if !self.flushed => {
                    // hyper flushes its buffer only when the body has nothing more at the moment.
                    self.flushed = true;
                    self.steps.push_front(Step::Cut);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Cut) => {
                    self.held.clear();
                    return Poll::Ready(Some(Err(CutOff)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the double cuts the response here")
    }
}

impl std::error::Error for CutOff {}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt;

    use super::*;

    fn bytes(text: &'static str) -> Step {
        Step::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn held_values_are_dropped_with_the_last_bytes() {
        let held = Arc::new(());
        let mut body = Steps::new(vec![bytes("a"), bytes("b")], vec![Box::new(Arc::clone(&held))]);

        body.frame().await.expect("first").expect("bytes");
        assert_eq!(Arc::strong_count(&held), 2, "still open");
        body.frame().await.expect("second").expect("bytes");
        assert_eq!(Arc::strong_count(&held), 1, "closed");
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn an_empty_body_holds_nothing() {
        let held = Arc::new(());
        let _body = Steps::new(Vec::new(), vec![Box::new(Arc::clone(&held))]);
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_cut_is_an_error_after_the_bytes_before_it() {
        let mut body = Steps::new(vec![bytes("half"), Step::Cut], Vec::new());
        assert!(matches!(body.frame().await, Some(Ok(_))));
        assert!(matches!(body.frame().await, Some(Err(CutOff))));
    }
}
