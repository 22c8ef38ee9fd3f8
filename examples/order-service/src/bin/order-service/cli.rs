//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use order_service::{Country, OrderId, Status};

/// Orders and stock as an event-sourced service: see it work, fill it, ask it.
///
/// Without a command it plays a short scenario and shows each command, the events that follow from it and
/// what the views then say.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
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
    /// Use this process's memory, whatever else there is; nothing is kept when it ends.
    #[arg(long, global = true)]
    pub(crate) memory: bool,
    /// Use an SQLite file in --data, whatever else there is. Several runs may use it at the same time.
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
    /// Play orders from Northwind CSV files in as commands, and print the figures that the views then show.
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
    /// Print the sales by country and by customer, as the views have them. Nothing is replayed.
    ///
    /// Where the views are in SQLite or Postgres, it also prints the sales of one year by month and country, which are
    /// rows of a table.
    #[command(after_help = REPORT_EXAMPLES)]
    Report {
        /// The year whose months are printed; the last one with sales unless it is given.
        #[arg(long)]
        year: Option<i16>,
        /// How the figures are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List orders, page by page, of all or of those that are wanted.
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
        /// How many orders, up to 1,000.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// How the orders are printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show how far each projection is: its position, how many commits it is behind and for how long, how fast that
    /// gets less, how long it will take, and how many events it has set aside.
    ///
    /// It only looks, at what is stored; whatever process keeps the views up to date is not disturbed.
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// How the status is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Build a view anew from the whole log, beside the build that answers until it is done.
    ///
    /// It may be interrupted, and goes on when it is run again.
    Rebuild {
        /// Its name, such as `sales-totals`.
        view: String,
    },
    /// Print what came of a business transaction, or of all that have changed an order: each command, its events, and
    /// the commands that followed from these.
    Trace {
        /// An order, or the id of a business transaction, as an event's correlation id has it.
        id: String,
    },
    /// Keep the views up to date and let submitted orders go their way, until Ctrl-C.
    Serve,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people.
    #[default]
    Text,
    /// One JSON object for programs; amounts of money are strings, so that they stay exact.
    Json,
}

const STATUS_EXAMPLES: &str = "\
Examples:
  order-service status --nats nats://localhost:4222
  order-service status --nats nats://localhost:4222 --views postgres --format json
  watch order-service status --nats nats://localhost:4222
                                                again and again";

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

const EXAMPLES: &str = "\
Examples:
  order-service                                 play the scenario
  order-service --memory                        play it, and keep nothing
  order-service --sqlite                        play it without any server
  order-service import data/northwind           fill the views with 830 orders
  order-service report                          ask the views, without a replay
  order-service report --views sqlite           ask views in SQLite, which are built first
  DATABASE_URL=postgres://anna@localhost/shop order-service serve --views postgres
                                                keep views in Postgres up to date
  order-service rebuild sales-totals            build a view anew while it answers
  order-service trace 10248                     see what led to what about an order
  NATS_URL=nats://localhost:4222 order-service serve
                                                keep the views of that server up to date

RUST_LOG=info shows on stderr what the framework does.";

const IMPORT_EXAMPLES: &str = "\
Examples:
  order-service import data/northwind
  order-service import data/northwind --format json
  order-service import data/northwind --nats nats://localhost:4222 --context northwind";

const REPORT_EXAMPLES: &str = "\
Examples:
  order-service report
  order-service report --format json | jq '.countries[0]'
  order-service report --views sqlite --year 1997";

const ORDERS_EXAMPLES: &str = "\
Examples:
  order-service orders --country Germany --limit 10
  order-service orders --status paid --format json | jq '.orders[].order'
  order-service orders --after 10267            the page after order 10267";
