//! A small TCP proxy on the loopback interface that breaks connections on command.
//!
//! Bytes that a stalled direction holds back are sent when the stall ends, unless the connections are reset before:
//! networks do both, and the late arrival is the worse of the two.

use std::{fmt, io, net::Ipv4Addr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

const BUFFER: usize = 16 * 1024;

/// A proxy before one server port. Dropping it resets its connections and closes its port.
pub struct Proxy {
    port: u16,
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct State {
    requests_stall: bool,
    answers_stall: bool,
    refuses: bool,
    /// How often all connections were reset.
    resets: u64,
}

impl Proxy {
    /// Listens on a free port and forwards to `server` on the loopback interface.
    ///
    /// # Errors
    ///
    /// The operating system's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the port.
    pub async fn start(server: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(watch::Sender::new(State::default()));
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&state)));
        Ok(Self { port, state, accepting })
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Lets everything through again, also the bytes that were held back.
    pub fn pass(&self) {
        self.state.send_modify(|state| *state = State { resets: state.resets, ..State::default() });
    }

    /// Holds back what the client sends.
    pub fn stall_requests(&self) {
        self.state.send_modify(|state| state.requests_stall = true);
    }

    /// Holds back what the server sends.
    pub fn stall_answers(&self) {
        self.state.send_modify(|state| state.answers_stall = true);
    }

    /// Keeps the connections, and holds back everything on them.
    pub fn half_open(&self) {
        self.stall_requests();
        self.stall_answers();
    }

    /// Resets all connections; bytes that were held back are lost.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.resets += 1);
    }

    /// Resets all connections, and each new one at once. The port stays taken: otherwise another process could have it
    /// when it is needed again.
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.refuses = true;
            state.resets += 1;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        // The connections are served by tasks of their own.
        self.reset();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("port", &self.port)
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, server: u16, state: Arc<watch::Sender<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(forward(client, server, state.subscribe()));
    }
}

/// Forwards one connection until an end closes it or it is reset.
async fn forward(mut client: TcpStream, server: u16, mut state: watch::Receiver<State>) {
    let State { resets, refuses, .. } = *state.borrow_and_update();
    let stalls = state.clone();
    if !refuses {
        tokio::select! {
            () = relay(&mut client, server, stalls) => {}
            _ = state.wait_for(|state| state.resets != resets) => {}
        }
    }
    // In every case the client sees a reset, as from a process that was killed. An error means that the client has gone
    // already.
    let _ = client.set_zero_linger();
}

/// Copies in both directions until an end closes the connection.
async fn relay(client: &mut TcpStream, server: u16, state: watch::Receiver<State>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    // Also if the future is dropped: bytes that were held back must not follow.
    let _ = server.set_zero_linger();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        _ = pump(&mut from_client, &mut to_server, state.clone(), |state| state.requests_stall) => {}
        _ = pump(&mut from_server, &mut to_client, state, |state| state.answers_stall) => {}
    }
}

/// Copies from one end to the other, and pauses while `stalled` returns true.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut state: watch::Receiver<State>,
    stalled: fn(&State) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        flowing(&mut state, stalled).await?;
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        // The stall may have begun while the pump waited for bytes.
        flowing(&mut state, stalled).await?;
        to.write_all(&buffer[..length]).await?;
    }
}

async fn flowing(state: &mut watch::Receiver<State>, stalled: fn(&State) -> bool) -> io::Result<()> {
    state.wait_for(|state| !stalled(state)).await.map(drop).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// A server that sends back what it gets, behind a proxy.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        Proxy::start(port).await.unwrap()
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port)).await.unwrap()
    }

    async fn answer(client: &mut TcpStream) -> io::Result<u8> {
        client.read_u8().await
    }

    /// It cannot be proved that nothing arrives; this is long enough for a proxy that passes bytes on.
    async fn silence(client: &mut TcpStream) {
        assert!(timeout(Duration::from_millis(100), answer(client)).await.is_err(), "something came through");
    }

    #[tokio::test]
    async fn what_is_stalled_arrives_later() {
        let proxy = echo().await;
        let mut client = connect(&proxy).await;
        client.write_u8(1).await.unwrap();
        assert_eq!(answer(&mut client).await.unwrap(), 1);
        let stalls: [fn(&Proxy); 3] = [Proxy::stall_requests, Proxy::stall_answers, Proxy::half_open];
        for (stall, byte) in stalls.into_iter().zip(2..) {
            stall(&proxy);
            client.write_u8(byte).await.unwrap();
            silence(&mut client).await;
            proxy.pass();
            assert_eq!(answer(&mut client).await.unwrap(), byte);
        }
    }

    #[tokio::test]
    async fn a_reset_ends_the_connections_and_loses_what_was_held_back() {
        let proxy = echo().await;
        let mut client = connect(&proxy).await;
        client.write_u8(0).await.unwrap();
        assert_eq!(answer(&mut client).await.unwrap(), 0);
        proxy.half_open();
        client.write_u8(1).await.unwrap();
        proxy.reset();
        assert_eq!(answer(&mut client).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        proxy.pass();
        let mut next = connect(&proxy).await;
        next.write_u8(2).await.unwrap();
        assert_eq!(answer(&mut next).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_refusing_proxy_takes_no_connection_until_it_passes() {
        let proxy = echo().await;
        proxy.refuse();
        assert!(answer(&mut connect(&proxy).await).await.is_err());
        proxy.pass();
        let mut client = connect(&proxy).await;
        client.write_u8(3).await.unwrap();
        assert_eq!(answer(&mut client).await.unwrap(), 3);
        drop(proxy);
        assert!(answer(&mut client).await.is_err());
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_closed_connection() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let proxy = Proxy::start(port).await.unwrap();
        assert!(answer(&mut connect(&proxy).await).await.is_err());
    }
}
