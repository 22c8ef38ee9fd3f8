//! A process for the tests to kill: it takes a server, prints where it is, and waits for its end.
//!
//! With the argument `own` the server is from `own_server` and its process id is printed as well,
//! with `shared` it is from `server`. It ends in order when standard input closes.

use std::{env, io, process::exit};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    match env::args().nth(1).as_deref() {
        Some("own") => {
            let server = cqrs_tests::own_server().await;
            println!("{} {}", server.url(), server.pid());
            wait_for_end()
        }
        Some("shared") => {
            println!("{}", cqrs_tests::server().await.url());
            wait_for_end()
        }
        _ => {
            eprintln!("usage: parent own|shared");
            exit(2)
        }
    }
}

fn wait_for_end() -> io::Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}
