use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const LIFETIME: Duration = Duration::from_secs(8);

/// What a server does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Answers each request.
    Answers,
    /// Answers the first connection's first request, and each later one there with a part of an answer.
    StallsAtFirst,
    /// Begins each answer and ends none.
    Stalls,
}

/// A connection that was closed: its number, and when.
type Closed = (usize, Instant);

async fn serve(mut io: impl AsyncRead + AsyncWrite + Unpin, number: usize, manner: Manner) {
    let (mut head, mut answered) = (Vec::new(), 0);
    while let Ok(byte) = io.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        head.clear();
        let stalls = match manner {
            Manner::Answers => false,
            Manner::StallsAtFirst => number == 0 && answered > 0,
            Manner::Stalls => true,
        };
        let body = if stalls { "can" } else { "canary" };
        answered += 1;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n{body}");
        if io.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One end of a connection within this process, by which time can stand still.
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

/// Connects to a server of that manner within this process, and counts.
#[derive(Clone)]
struct Pipes {
    manner: Manner,
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
        let mut made = self.made.lock();
        let (number, manner, closed) = (*made, self.manner, self.closed.clone());
        *made += 1;
        tokio::spawn(async move {
            serve(theirs, number, manner).await;
            let _ = closed.send((number, Instant::now()));
        });
        std::future::ready(Ok(Pipe(TokioIo::new(ours))))
    }
}

fn connections(manner: Manner) -> (SecretConnections<Pipes>, Pipes, mpsc::UnboundedReceiver<Closed>) {
    let (closed, closings) = mpsc::unbounded_channel();
    let pipes = Pipes { manner, made: Arc::default(), closed };
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
    let answer = connections.send(request(Method::GET, server)).await?;
    Ok(answer.into_body().collect().await?.to_bytes())
}

#[tokio::test(start_paused = true)]
async fn reads_of_a_few_seconds_share_a_connection_that_ends_in_time() {
    let (connections, pipes, mut closed) = connections(Manner::Answers);
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
    let (connections, _, mut closed) = connections(Manner::Answers);
    let start = Instant::now();
    get(&connections, "api").await.unwrap();
    let (_, at) = closed.recv().await.unwrap();
    assert!(at - start <= LIFETIME + Duration::from_millis(100), "{:?}", at - start);
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_connection_expires_is_repeated_on_a_new_one() {
    let (connections, pipes, mut closed) = connections(Manner::StallsAtFirst);
    let start = Instant::now();
    get(&connections, "api").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(get(&connections, "api").await.unwrap(), "canary");
    assert!(start.elapsed() <= LIFETIME + Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(*pipes.made.lock(), 2);
    assert_eq!(closed.recv().await.unwrap().0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_answers_stall_fails_in_the_end() {
    let (connections, pipes, _closed) = connections(Manner::Stalls);
    let start = Instant::now();
    let error = get(&connections, "api").await.unwrap_err();
    let told = crate::telemetry::logs::chain(&*error);
    assert!(told.contains("a connection that carried a Secret was closed"), "{told}");
    assert_eq!((start.elapsed().as_secs(), *pipes.made.lock()), (16, 2));
}

#[tokio::test(start_paused = true)]
async fn a_write_has_a_connection_to_itself_and_is_not_repeated() {
    let (connections, pipes, mut closed) = connections(Manner::Answers);
    get(&connections, "api").await.unwrap();
    for number in 1..=2 {
        connections.send(request(Method::PUT, "api")).await.unwrap();
        assert_eq!(closed.recv().await.unwrap().0, number, "closed after the answer");
    }
    let (connections, pipes_that_stall, _closed) = self::connections(Manner::Stalls);
    connections.send(request(Method::PUT, "api")).await.unwrap_err();
    assert_eq!((*pipes.made.lock(), *pipes_that_stall.made.lock()), (3, 1));
}

/// The kernel's sockets do not know a time that stands still, so this one is short.
#[tokio::test]
async fn a_tcp_connection_is_closed_in_the_middle_of_an_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let (closed, mut closings) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((io, _)) = listener.accept().await else { return };
            let closed = closed.clone();
            tokio::spawn(async move {
                serve(io, number, Manner::Stalls).await;
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
