use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::k8s::secret_connections::*;

const LIFETIME: Duration = Duration::from_secs(8);

/// How the fake server responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Answers each request.
    Answers,
    /// Answers the first request of the first connection, and later ones there with a part of a response.
    StallsAtFirst,
    /// Starts each response and completes none.
    Stalls,
}

/// The number of a closed connection, and when it was closed.
type Closed = (usize, Instant);

async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, number: usize, mode: Mode) {
    let (mut head, mut answered) = (Vec::new(), 0);
    while let Ok(byte) = io.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let stalls = match mode {
            Mode::Answers => false,
            Mode::StallsAtFirst => number == 0 && answered > 0,
            Mode::Stalls => true,
        };
        let body = if stalls { "can" } else { "canary" };
        answered += 1;
        let response = format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n{body}");
        if io.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One end of an in-memory connection, which works with paused time.
struct Pipe(TokioIo<DuplexStream>);

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Connects to an in-memory server, and counts connections.
#[derive(Clone)]
struct Pipes {
    mode: Mode,
    made: Arc<Mutex<usize>>,
    closed: mpsc::UnboundedSender<Closed>,
}

impl Service<Uri> for Pipes {
    type Response = Pipe;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Pipe>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (ours, theirs) = duplex(4096);
        let mut count = self.made.lock();
        let (number, mode, closed) = (*count, self.mode, self.closed.clone());
        *count += 1;
        tokio::spawn(async move {
            serve(theirs, number, mode).await;
            let _ = closed.send((number, Instant::now()));
        });
        std::future::ready(Ok(Pipe(TokioIo::new(ours))))
    }
}

fn connections(mode: Mode) -> (SecretConnections<Pipes>, Pipes, mpsc::UnboundedReceiver<Closed>) {
    let (closed, closings) = mpsc::unbounded_channel();
    let pipes = Pipes { mode, made: Arc::default(), closed };
    (SecretConnections::new(pipes.clone(), LIFETIME), pipes, closings)
}

fn request(method: Method, server: &str) -> Request<Body> {
    let uri = format!("http://{server}/api/v1/namespaces/mail/secrets/sales");
    Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()
}

async fn get<C>(connections: &SecretConnections<C>, server: &str) -> Result<Bytes, BoxError>
where
    C: Clone + Send + Sync + 'static,
    ExpiringConnector<C>: Connect,
{
    let response = connections.send(request(Method::GET, server)).await?;
    Ok(response.into_body().collect().await?.to_bytes())
}

#[tokio::test(start_paused = true)]
async fn reads_within_a_few_seconds_share_a_connection_that_is_closed_in_time() {
    let (connections, pipes, mut closed) = connections(Mode::Answers);
    let start = Instant::now();
    // Ten a second, for a minute: without a pause none of the connections would be idle long enough to be closed.
    for _ in 0..600 {
        assert_eq!(get(&connections, "api").await.unwrap(), "canary");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(*pipes.made.lock(), 15, "one for each four seconds");
    for _ in 0..15 {
        let (number, at) = closed.recv().await.unwrap();
        let begun = start + Duration::from_secs(4) * u32::try_from(number).unwrap();
        let age = at - begun;
        assert!(age <= LIFETIME + Duration::from_millis(100), "{number}: {age:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_a_further_request() {
    let (connections, _, mut closed) = connections(Mode::Answers);
    let start = Instant::now();
    get(&connections, "api").await.unwrap();
    let (_, at) = closed.recv().await.unwrap();
    assert!(at - start <= LIFETIME + Duration::from_millis(100), "{:?}", at - start);
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_connection_expires_is_retried_on_a_new_one() {
    let (connections, pipes, mut closed) = connections(Mode::StallsAtFirst);
    let start = Instant::now();
    get(&connections, "api").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(get(&connections, "api").await.unwrap(), "canary");
    assert!(start.elapsed() <= LIFETIME + Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(*pipes.made.lock(), 2);
    assert_eq!(closed.recv().await.unwrap().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_responses_stall_fails_after_one_retry() {
    let (connections, pipes, _closed) = connections(Mode::Stalls);
    let start = Instant::now();
    let error = get(&connections, "api").await.unwrap_err();
    let text = crate::core::error_chain::chain(&*error);
    assert!(text.contains("a connection that carried a Secret was closed"), "{text}");
    assert_eq!((start.elapsed().as_secs(), *pipes.made.lock()), (16, 2));
}

#[tokio::test(start_paused = true)]
async fn a_write_gets_its_own_connection_and_is_not_retried() {
    let (connections, pipes, mut closed) = connections(Mode::Answers);
    get(&connections, "api").await.unwrap();
    for number in 1..=2 {
        connections.send(request(Method::PUT, "api")).await.unwrap();
        assert_eq!(closed.recv().await.unwrap().0, number, "closed after the response");
    }
    let (connections, pipes_that_stall, _closed) = self::connections(Mode::Stalls);
    connections.send(request(Method::PUT, "api")).await.unwrap_err();
    assert_eq!((*pipes.made.lock(), *pipes_that_stall.made.lock()), (3, 1));
}

/// Sockets do not work with paused time, so the lifetime is short.
#[tokio::test]
async fn a_tcp_connection_is_closed_in_the_middle_of_a_response() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let (closed, mut closings) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((io, _)) = listener.accept().await else { return };
            let closed = closed.clone();
            tokio::spawn(async move {
                serve(io, number, Mode::Stalls).await;
                let _ = closed.send((number, Instant::now()));
            });
        }
    });
    let lifetime = Duration::from_millis(200);
    let connections = SecretConnections::new(HttpConnector::new(), lifetime);
    let start = Instant::now();
    get(&connections, &server).await.unwrap_err();
    for number in 0..2 {
        assert_eq!(closings.recv().await.unwrap().0, number);
    }
    assert!(start.elapsed() >= 2 * lifetime, "{:?}", start.elapsed());
}
