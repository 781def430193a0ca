//! A close that lets the last answer arrive.
//!
//! A request may be answered before its body was read: too large, not granted, over its rate. Closing a
//! socket while bytes still come in makes the kernel reset it, and a reset throws away what the client has
//! not read yet, the answer that says why. So our side is closed first, and what still comes is read and
//! thrown away for a while (RFC 9112 §9.6).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limits::Limits;

/// Bytes thrown away at a time.
const CHUNK_BYTES: usize = 8 << 10;

/// A stream whose shutdown waits, within `linger_timeout` and `linger_bytes_max`, for the client's.
pub(super) struct Lingering<S> {
    stream: S,
    bytes_left: usize,
    patience: Duration,
    /// Set once our side is closed.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub(super) fn new(stream: S, limits: &Limits) -> Self {
        let (bytes_left, patience) = (limits.linger_bytes_max, limits.linger_timeout);
        Self { stream, bytes_left, patience, until: None }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Reads and forgets until the client has closed, or enough was read. What goes wrong here harms nobody.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut chunk = [0; CHUNK_BYTES];
        while self.bytes_left > 0 {
            let mut buffer = ReadBuf::new(&mut chunk);
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
            let bytes = buffer.filled().len();
            if read.is_err() || bytes == 0 {
                break;
            }
            self.bytes_left = self.bytes_left.saturating_sub(bytes);
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.until = Some(Box::pin(sleep(self.patience)));
        }
        let out_of_time = self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_ready());
        if out_of_time { Poll::Ready(Ok(())) } else { self.poll_discard(cx).map(Ok) }
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const ANSWER: &[u8] = b"no";

    /// A client writes `sent` bytes, then reads; the server answers at once, reads nothing and closes.
    async fn exchange(sent: usize, limits: Limits) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut stream = Lingering::new(socket, &limits);
            stream.write_all(ANSWER).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut client = TcpStream::connect(address).await?;
        client.write_all(&vec![0; sent]).await?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await?;
        drop(client);
        server.await.unwrap();
        Ok(answer)
    }

    #[tokio::test]
    async fn a_client_that_is_still_sending_reads_the_answer() {
        assert_eq!(exchange(6 << 20, Limits::default()).await.unwrap(), ANSWER);
    }

    #[tokio::test]
    async fn nobody_may_send_for_ever() {
        let limits = Limits { linger_bytes_max: 64 << 10, ..Limits::default() };
        assert!(exchange(32 << 20, limits).await.is_err(), "the socket was reset");
    }

    #[tokio::test]
    async fn nobody_may_stay_for_ever() {
        let limits = Limits { linger_timeout: Duration::from_millis(50), ..Limits::default() };
        let (client, server) = tokio::io::duplex(64);
        let mut stream = Lingering::new(server, &limits);
        tokio::time::timeout(Duration::from_secs(10), stream.shutdown()).await.unwrap().unwrap();
        drop(client);
    }
}
