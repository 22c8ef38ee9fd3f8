//! The command line.

use std::{fmt::Write as _, path::PathBuf};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{RangedU64ValueParser, StyledStr},
    value_parser,
};
use cqrs_core::AggregateKey;
use order_service::{Country, OrderId, Status, views::OrderPage};
use serde::de::IgnoredAny;

/// Orders and stock as an event-sourced service: see it work, fill it, ask it.
///
/// Without a command it plays a short scenario and shows each command, the events that follow from it and
/// what the views then say.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES, max_term_width = 80)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Option<Task>,
}

/// Where events and views are kept: the NATS server of --nats, else a private nats-server with its data in
/// --data if there is one (2.12.2 or later) on the PATH, else an SQLite file in --data.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where events and views are kept")]
pub(crate) struct Place {
    /// Use the NATS server at this address, `nats://localhost:4222` for one on this machine.
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true, global = true)]
    pub(crate) nats: Option<String>,
    /// Use this process's memory, also if a server is there; nothing is kept when it ends.
    #[arg(long, global = true)]
    pub(crate) memory: bool,
    /// Use an SQLite file in --data, also if a server is there. Several runs may use it at the same time.
    #[arg(long, global = true, conflicts_with = "memory")]
    pub(crate) sqlite: bool,
    /// The folder of the SQLite file, or of the private nats-server, which is started if there is no --nats and a
    /// nats-server on the PATH; `order-service-data` unless it is given. On a private nats-server, the scenario then
    /// uses a temporary folder.
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
    /// Where views are kept: `kv`, buckets on the NATS server of the events; `memory`, built from the log each
    /// time; `sqlite`, a file in --data, or `sqlite:FILE`; `postgres`, at `DATABASE_URL`, or a URL that begins with
    /// `postgres://` (only with the feature `postgres`). They are kept beside the events unless this is given.
    #[arg(long, value_name = "STORE", global = true)]
    pub(crate) views: Option<String>,
    /// The bounded context, which names the stream, the buckets and the tables. It is `orders`, or
    /// `orders-scenario` for the scenario, so that its orders stay out of the figures.
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Carry out the orders of Northwind CSV files as commands, and print figures.
    ///
    /// All four files are read and checked before the first command is sent, so a broken row changes
    /// nothing. What is imported stays, whatever fails later; the same import can be run again and goes on
    /// where it ended, because each command's id follows from its row and nothing takes effect twice.
    #[command(after_help = IMPORT_EXAMPLES)]
    Import {
        /// The folder with `orders.csv`, `order_details.csv`, `products.csv` and `customers.csv`.
        folder: PathBuf,
        /// How the figures are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the sales by country and by customer.
    ///
    /// The figures are those of the views: nothing is replayed. Where the views are in SQLite or Postgres, it also
    /// prints the sales of one year by month and country, which are rows of a table.
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// The year whose months are printed; the last one with sales unless it is given.
        #[arg(long, allow_negative_numbers = true, value_parser = value_parser!(i16).range(1..=9999))]
        year: Option<i16>,
        /// How the figures are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List orders, page by page: all, or those that are wanted.
    #[command(after_help = ORDERS_EXAMPLES)]
    Orders {
        /// Only orders that are this far.
        #[arg(long, value_enum)]
        status: Option<Wanted>,
        /// Only orders that are shipped to this country.
        #[arg(long)]
        country: Option<Country>,
        /// Only orders after this one: where the page before ended.
        #[arg(long, value_name = "ORDER")]
        after: Option<OrderId>,
        /// How many orders, 1 to 1,000.
        #[arg(
            long,
            default_value_t = 20,
            allow_negative_numbers = true,
            value_parser = RangedU64ValueParser::<usize>::new().range(1..=OrderPage::MAX as u64)
        )]
        limit: usize,
        /// How the orders are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show how far each projection is, and whether a process runs it.
    ///
    /// For each projection: its position in the log, how many commits it is behind and for how long, the time that it
    /// will take, and how many events it has set aside as dead letters. A projection that no process runs stays where
    /// it is.
    ///
    /// It only looks, at what is stored: the processes that run projections are not disturbed.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// How the status is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show and resolve events that a projection could not apply.
    ///
    /// Such an event is a dead letter, and so are the later events of its aggregate: they are applied in order, or not
    /// at all. The other aggregates go on. Repair the cause and retry, or edit or drop the first of them.
    ///
    /// Without a command it lists all of them.
    #[command(after_help = LETTERS_EXAMPLES)]
    DeadLetters {
        #[command(subcommand)]
        action: Option<LettersAction>,
    },
    /// Show and resolve commands that the fulfilment could not send.
    ///
    /// Such a command is a dead intent, and so are the later ones for the same order: they are sent in order, or not at
    /// all. The fulfilment of other orders goes on. Repair the cause and retry, or edit or drop the first of them.
    ///
    /// Without a command it lists all of them.
    #[command(after_help = INTENTS_EXAMPLES)]
    DeadIntents {
        #[command(subcommand)]
        action: Option<IntentsAction>,
    },
    /// Build a view anew from the whole log, beside the one that answers.
    ///
    /// The build before it answers until the new one is done, and is then removed. A rebuild may be interrupted, and
    /// goes on when it is run again.
    #[command(after_help = REBUILD_EXAMPLES)]
    Rebuild {
        /// Its name, such as `sales-totals`: `status` shows all of them.
        view: String,
    },
    /// Print what came of a business transaction, or of all that changed an order.
    ///
    /// It prints each command, its events, and the commands that followed from these, each below its cause.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace {
        /// An order, or the id of a business transaction, as an event's correlation id has it.
        id: String,
    },
    /// Run the projections: keep the views up to date and fulfil submitted orders.
    ///
    /// It runs until Ctrl-C, and tells on stderr what goes wrong: a projection that waits or has halted, an event that
    /// is set aside as a dead letter, a command that could not be sent. Several processes can serve the same orders: one
    /// of them runs a projection, and another takes over when it ends.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve,
}

/// What is done with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum LettersAction {
    /// List them, in the order of the log.
    List {
        /// Only those of this projection, such as `order-summary`.
        projection: Option<String>,
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show those of one aggregate, with the events' data as JSON.
    Show {
        #[command(flatten)]
        of: OfAggregate,
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Apply those of one aggregate in order, until an event fails again.
    Retry {
        #[command(flatten)]
        of: OfAggregate,
    },
    /// Set the data that is applied in place of the first one of an aggregate: the log stays as it is. Retry it then.
    Edit {
        #[command(flatten)]
        of: OfAggregate,
        /// The event's data, as JSON.
        #[arg(value_parser = json, value_name = "JSON")]
        event: String,
    },
    /// Drop the first one of an aggregate: the view stays without that event.
    Drop {
        #[command(flatten)]
        of: OfAggregate,
    },
}

/// The dead letters of one aggregate in one projection.
#[derive(Debug, Args)]
pub(crate) struct OfAggregate {
    /// The projection, such as `order-summary`.
    pub(crate) projection: String,
    /// The aggregate, such as `order/10248` or `stock/11`.
    #[arg(value_parser = aggregate)]
    pub(crate) aggregate: AggregateKey,
}

/// What is done with dead intents.
#[derive(Debug, Subcommand)]
pub(crate) enum IntentsAction {
    /// List them, by order.
    List {
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show those of one order, with the commands' fields as JSON.
    Show {
        /// The order.
        order: OrderId,
        /// How they are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Send those of one order in order, until one fails again.
    Retry {
        /// The order.
        order: OrderId,
    },
    /// Set the fields of the first one of an order: the command's id stays. Retry it then.
    Edit {
        /// The order.
        order: OrderId,
        /// All fields of the command, as JSON.
        #[arg(value_parser = json, value_name = "JSON")]
        fields: String,
    },
    /// Drop the first one of an order: that command is not sent.
    Drop {
        /// The order.
        order: OrderId,
    },
}

/// Reads an aggregate's name and id, with a slash between them.
fn aggregate(text: &str) -> Result<AggregateKey, String> {
    let (name, id) = text.split_once('/').ok_or("an aggregate has a name and an id, such as order/10248")?;
    AggregateKey::new(name.to_owned(), id).map_err(|error| error.to_string())
}

/// Takes JSON as it is.
fn json(text: &str) -> Result<String, String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| format!("it is not JSON: {error}"))?;
    Ok(text.to_owned())
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people.
    #[default]
    Text,
    /// JSON for programs; amounts of money are strings, so that they stay exact.
    Json,
}

/// How far an order is, as a word on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    Created,
    Confirmed,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}

impl From<Wanted> for Status {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Created => Self::Created,
            Wanted::Confirmed => Self::Confirmed,
            Wanted::Paid => Self::Paid,
            Wanted::Shipped => Self::Shipped,
            Wanted::Delivered => Self::Delivered,
            Wanted::Cancelled => Self::Cancelled,
        }
    }
}

/// A mistake on the command line, in one line.
pub(crate) fn in_one_line(mistake: &StyledStr) -> String {
    let text = mistake.to_string();
    let parts = text.trim().trim_start_matches("error: ").split("\n\n");
    let is_told = |part: &&str| !part.starts_with("Usage:") && !part.starts_with("For more information");
    let mut line = String::new();
    for part in parts.filter(is_told) {
        let words: Vec<_> = part.split_whitespace().collect();
        // Writing to a string cannot fail.
        let _ = write!(line, "{}; ", words.join(" "));
    }
    line + "see --help"
}

const EXAMPLES: &str = "\
Examples:
  order-service                          play the scenario
  order-service --memory                 play it, and keep nothing
  order-service --sqlite                 play it in a file, without a server
  order-service import examples/order-service/data/northwind
                                         fill the service with 830 orders
  order-service report                   ask the views, without a replay
  order-service orders --country Germany list orders
  order-service serve                    run the projections until Ctrl-C
  order-service status                   see how far they are
  order-service report --views sqlite    ask views in SQLite, built first
  order-service trace 10248              see what led to what about an order

With cargo, put `cargo run -p order-service --` in place of `order-service`.
NO_COLOR=1 prints no colours; RUST_LOG=info shows on stderr what the
framework does. Exit codes: 0 done, 1 failed, 2 a mistake on the command line.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  order-service import examples/order-service/data/northwind
  order-service import data/northwind --format json
  order-service import data/northwind --nats nats://localhost:4222";

const REPORT_EXAMPLES: &str = "\
Examples:
  order-service report
  order-service report --format json | jq '.countries[0]'
  order-service report --views sqlite --year 1997";

const ORDERS_EXAMPLES: &str = "\
Examples:
  order-service orders --country Germany --limit 10
  order-service orders --status paid --format json | jq '.orders[].order'
  order-service orders --after 10267     the page after order 10267";

const STATUS_EXAMPLES: &str = "\
Examples:
  order-service status
  order-service status --views postgres --format json
  watch order-service status --nats nats://localhost:4222
                                         again and again";

const LETTERS_EXAMPLES: &str = "\
Examples:
  order-service dead-letters             list all of them
  order-service dead-letters show order-summary order/10248
  order-service dead-letters retry order-summary order/10248
  order-service dead-letters edit order-summary order/10248 \
    '{\"on\": \"2026-01-04\"}'               all of the data, as `show` has it
  order-service dead-letters drop order-summary order/10248";

const INTENTS_EXAMPLES: &str = "\
Examples:
  order-service dead-intents             list all of them
  order-service dead-intents show 10248
  order-service dead-intents retry 10248
  order-service dead-intents edit 10248 \
    '{\"order\": \"10248\", \"reason\": \"not paid in time\"}'
                                         all of the fields, as `show` has them
  order-service dead-intents drop 10248";

const REBUILD_EXAMPLES: &str = "\
Examples:
  order-service rebuild sales-totals
  order-service rebuild order-summary --views sqlite";

const TRACE_EXAMPLES: &str = "\
Examples:
  order-service trace 10248              all that changed order 10248
  order-service trace e0330a5a-b121-58d0-aac1-6da555c3369b
                                         one business transaction";

const SERVE_EXAMPLES: &str = "\
Examples:
  order-service serve
  NATS_URL=nats://localhost:4222 order-service serve
  DATABASE_URL=postgres://anna@localhost/shop \\
    order-service serve --views postgres";
