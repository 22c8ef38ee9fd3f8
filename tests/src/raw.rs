//! A client that writes messages that no NATS library would write.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::unique_context;

/// Headers that cannot be parsed, or look like a server's own message: invalid UTF-8, a line without a colon, a
/// carriage return in a value (at which the client panics), a space in a name, a non-ASCII letter in a name, no
/// version, and two statuses.
pub const UNREADABLE: [&[u8]; 8] = [
    b"NATS/1.0\r\na: \xFF\xFE\r\n\r\n",
    b"NATS/1.0\r\nabc\r\n\r\n",
    b"NATS/1.0\r\na: 1\r2\r\n\r\n",
    b"NATS/1.0\r\na b: 1\r\n\r\n",
    b"NATS/1.0\r\n\xC3\xA9: 1\r\n\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"NATS/1.0 x\r\na b: 1\r\n\r\n",
    b"NATS/1.0 503\r\na b: 1\r\n\r\n",
];

/// Publishes a message with its headers unchanged to a stream of the server at `url`, which has stored it when this
/// returns.
///
/// # Panics
///
/// When the server does not store it.
///
/// # Cancel safety
///
/// A dropped call may have published it.
pub async fn publish(url: &str, subject: &str, headers: &[u8], payload: &[u8]) {
    let address = url.trim_start_matches("nats://");
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("a connection"));
    let (headed, all) = (headers.len(), headers.len() + payload.len());
    // A PONG would only say that the server has read the message: it stores it later.
    let answers = unique_context("answers");
    let begin = format!(
        "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {answers} 1\r\nHPUB {subject} {answers} {headed} {all}\r\n"
    );
    let message = [begin.as_bytes(), headers, payload, b"\r\n"].concat();
    stream.write_all(&message).await.expect("it is sent");
    let mut line = String::new();
    while !line.starts_with("{\"stream\"") {
        line.clear();
        let read = stream.read_line(&mut line).await.expect("a line");
        let is_refused = line.starts_with("-ERR") || line.starts_with("{\"error\"");
        assert!(read > 0 && !is_refused, "the server refuses: {line}");
    }
}
