//! A client that writes messages that no NATS library would write.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

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

/// Publishes a message with its headers unchanged to the server at `url`, which has it when this returns.
///
/// # Panics
///
/// When the server does not take it.
///
/// # Cancel safety
///
/// A dropped call may have published it.
pub async fn publish(url: &str, subject: &str, headers: &[u8], payload: &[u8]) {
    let address = url.trim_start_matches("nats://");
    let mut stream = BufReader::new(TcpStream::connect(address).await.expect("a connection"));
    let (headed, all) = (headers.len(), headers.len() + payload.len());
    let begin =
        format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB {subject} {headed} {all}\r\n");
    let message = [begin.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat();
    stream.write_all(&message).await.expect("it is sent");
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        let read = stream.read_line(&mut line).await.expect("a line");
        assert!(read > 0 && !line.starts_with("-ERR"), "the server refuses: {line}");
    }
}
