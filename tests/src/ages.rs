//! Common parts of programs of different ages, each of which is a binary of its own: they take their tasks as
//! arguments, run them one after the other on a real server, and print a line about each.

use std::{env, time::Duration};

use cqrs_core::{
    Aggregate, AggregateKey, Command, CommandError, Cqrs, Handle, Receipt, Retry, View,
    lists::ViewList,
    operate::ProjectorState,
    port::{EventStore as _, SnapshotPart, ViewStore as _},
};
use cqrs_nats::Nats;
use serde::{Deserialize, Serialize};

use crate::{eventually, watched::Watched};

/// What a view knows of an account. It has the same shape in programs of all ages.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The balance.
    pub balance: u64,
    /// The versions of the events that it has applied.
    pub versions: Vec<u64>,
}

/// One program.
pub trait Program {
    /// Its accounts.
    type Account: Aggregate + Handle<Self::Open> + Handle<Self::Deposit> + Handle<Self::Look>;
    /// Opens an account.
    type Open: Command<Aggregate = Self::Account>;
    /// Pays in.
    type Deposit: Command<Aggregate = Self::Account>;
    /// Is rejected, with the balance.
    type Look: Command<Aggregate = Self::Account>;
    /// A view that sets aside what it cannot read.
    type Statement: View;
    /// A view that halts at what it cannot read.
    type Careful: View;
    /// A view that ignores `account.noted`.
    type Openings: View;

    /// The command.
    fn open(account: String) -> Self::Open;
    /// The command.
    fn deposit(account: String, amount: u64) -> Self::Deposit;
    /// The command.
    fn look(account: String) -> Self::Look;
}

/// The rejection of `Look`, which only returns the balance.
#[derive(Debug, thiserror::Error)]
#[error("the balance is {0}")]
pub struct Balance(pub u64);

/// The commands and views of a program. `$see` applies its events to [`Seen`].
#[macro_export]
macro_rules! program_of_age {
    ($account:ty, $event:ty, $see:ident) => {
        /// A program, by its age.
        struct Age;

        impl $crate::ages::Program for Age {
            type Account = $account;
            type Open = Open;
            type Deposit = Deposit;
            type Look = Look;
            type Statement = Statement;
            type Careful = Careful;
            type Openings = Openings;

            fn open(account: String) -> Open {
                Open { account }
            }

            fn deposit(account: String, amount: u64) -> Deposit {
                Deposit { account, amount }
            }

            fn look(account: String) -> Look {
                Look { account }
            }
        }

        #[derive(Serialize, Deserialize, cqrs_core::Command)]
        #[command(aggregate = $account, create)]
        struct Open {
            #[command(id)]
            account: String,
        }

        #[derive(Serialize, Deserialize, cqrs_core::Command)]
        #[command(aggregate = $account)]
        struct Deposit {
            #[command(id)]
            account: String,
            amount: u64,
        }

        #[derive(Serialize, Deserialize, cqrs_core::Command)]
        #[command(aggregate = $account)]
        struct Look {
            #[command(id)]
            account: String,
        }

        impl cqrs_core::Handle<Look> for $account {
            fn handle(&self, _: &Look, _: &cqrs_core::Context) -> cqrs_core::Handled<Self> {
                Err($crate::ages::Balance(self.balance))
            }
        }

        /// Sets aside what it cannot read.
        #[derive(Debug, Default, Serialize, Deserialize)]
        struct Statement($crate::ages::Seen);

        impl cqrs_core::View for Statement {
            const NAME: &'static str = "statement";
            const RETRY: cqrs_core::Retry = $crate::ages::RETRY;
            type Of = $account;
        }

        /// Halts at what it cannot read.
        #[derive(Debug, Default, Serialize, Deserialize)]
        struct Careful($crate::ages::Seen);

        impl cqrs_core::View for Careful {
            const NAME: &'static str = "careful";
            const RETRY: cqrs_core::Retry = $crate::ages::RETRY;
            const ON_FAILURE: cqrs_core::OnFailure = cqrs_core::OnFailure::Halt;
            type Of = $account;
        }

        /// Ignores notes.
        #[derive(Debug, Default, Serialize, Deserialize)]
        struct Openings($crate::ages::Seen);

        impl cqrs_core::View for Openings {
            const NAME: &'static str = "openings";
            const RETRY: cqrs_core::Retry = $crate::ages::RETRY;
            const IGNORED: &'static [&'static str] = &["account.noted"];
            type Of = $account;
        }

        $crate::program_of_age!($event, $see, Statement Careful Openings);
    };
    ($event:ty, $see:ident, $($view:ident)+) => {
        $(impl cqrs_core::Project<$event> for $view {
            fn project(&mut self, event: &cqrs_core::Envelope<$event>) {
                self.0.versions.push(event.version);
                $see(&mut self.0, &event.data);
            }
        })+
    };
}

/// A short wait for a program that knows more events: these tests have none at the same time.
pub const RETRY: Retry = Retry { unknown: Duration::from_millis(100), ..Retry::DEFAULT };

/// Runs the tasks in the arguments: the server's address, the context, and the tasks.
///
/// # Panics
///
/// When an unexpected error occurs; this is how the test fails.
///
/// # Cancel safety
///
/// What was done stays done.
pub async fn run<P: Program>() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, context, steps @ ..] = arguments.as_slice() else {
        panic!("expected a URL, a context and what to do")
    };
    let nats = Nats::connect(url).await.expect("a connection");
    let backend = nats.context(context).await.expect("the context");
    let (events, views) = (Watched::new(backend.events), backend.views);
    let builder = Cqrs::builder((events.clone(), views.clone())).aggregate::<P::Account>();
    if let ["without views", steps @ ..] = steps.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        let cqrs = builder.start().await.expect("the service");
        println!("without views");
        for step in steps {
            command::<P, _>(&cqrs, &step.split(' ').collect::<Vec<_>>()).await;
        }
        cqrs.stop().await;
        return;
    }
    let builder = builder.view::<P::Statement>().view::<P::Careful>().view::<P::Openings>();
    let cqrs = builder.start().await.expect("the service");
    let key = |account: &str| AggregateKey::new(P::Account::NAME, account).expect("a short id");
    for step in steps {
        let words: Vec<&str> = step.splitn(4, ' ').collect();
        match *words.as_slice() {
            ["open" | "deposit", ..] => command::<P, _>(&cqrs, &words).await,
            ["look", account] => {
                // It counts from the last call.
                events.commits_read();
                let answer = cqrs.execute(P::look(account.into())).await;
                let read = events.commits_read();
                println!("{} after {read} commits", answer.expect_err("looking changes nothing"));
            }
            ["error", account] => println!("{:?}", cqrs.execute(P::look(account.into())).await),
            ["snapshot", account] => {
                eventually("there is a snapshot", async || {
                    events
                        .load_snapshot(&key(account), SnapshotPart::State)
                        .await
                        .is_ok_and(|found| found.is_some())
                })
                .await;
                println!("saved");
            }
            ["settle"] => {
                let last = events.log(&[P::Account::NAME]).await.expect("the log").last_sequence;
                eventually("all projectors are at the end, or halted", async || {
                    cqrs.projectors().iter().all(|projector| match &projector.state {
                        ProjectorState::Halted { .. } => true,
                        _ => projector.sequence >= last,
                    })
                })
                .await;
                println!("settled");
            }
            ["state", view] => {
                let all = cqrs.projectors();
                let found = all.iter().find(|projector| projector.projection.name == view).expect("the view");
                println!("{:?} {}", found.state, found.dead_letters);
            }
            ["view", view, account] => {
                let build = cqrs.active_build(view).await.expect("the view").expect("a build");
                let found = views.load(&build, &[account.to_owned()]).await.expect("the document");
                let document = found[0].document.clone().unwrap_or_default();
                println!("{}", String::from_utf8_lossy(&document));
            }
            ["letters", view] => {
                let letters =
                    cqrs.dead_letters(view).await.expect("the view").list().await.expect("the letters");
                let said = letters.iter().map(|letter| {
                    format!("{}#{}: {}", letter.aggregate.id(), letter.version.unwrap_or(0), letter.reason)
                });
                println!("{}", said.collect::<Vec<_>>().join("; "));
            }
            ["retry", view, account] => {
                let retried = cqrs.dead_letters(view).await.expect("the view").retry(&key(account)).await;
                let retried = retried.expect("the retry");
                println!("{} {}", retried.applied, retried.stopped_at.map_or("all", |_| "stopped"));
            }
            ["edit", view, account, data] => {
                let dead = cqrs.dead_letters(view).await.expect("the view");
                let letters = dead.list().await.expect("the letters");
                let first = letters.iter().find(|letter| letter.aggregate.id() == account).expect("a letter");
                dead.edit(first.position, data).await.expect("the edit");
                println!("edited");
            }
            _ => panic!("what is {step:?}?"),
        }
    }
    cqrs.stop().await;
}

async fn command<P: Program, V: ViewList>(cqrs: &Cqrs<(P::Account,), V>, words: &[&str]) {
    match *words {
        ["open", account] => print(&cqrs.execute(P::open(account.into())).await),
        ["deposit", account, amount] => {
            let amount = amount.parse().expect("a number");
            print(&cqrs.execute(P::deposit(account.into(), amount)).await);
        }
        _ => panic!("{words:?} is no command"),
    }
}

fn print<R>(answer: &Result<Receipt, CommandError<R>>)
where
    CommandError<R>: std::error::Error,
{
    match answer {
        Ok(receipt) => println!("version {}", receipt.version),
        Err(error) => println!("{error:?}"),
    }
}
