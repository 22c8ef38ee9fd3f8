//! Sales by month and country: rows of a database, for figures that documents do not fit.
//!
//! The rows are changed with SQL in the transaction that saves the checkpoint, and read with SQL, by an index. The view
//! exists if views are in SQLite or Postgres; the other views work on every store.

use cqrs_core::{Envelope, Error, port::ProjectionId};
use cqrs_sql::{
    SqlProject, SqlView, SqlViews, Tables,
    sqlx::{self, Sqlite, SqliteConnection},
};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::domain::{Country, Money, Order, OrderEvent, Sale};

/// Sales by the month in which orders were placed and the country that they are shipped to.
///
/// Amounts of money are text, because SQLite has no exact decimals: the sums are computed here.
#[derive(Debug, Clone, Copy)]
pub struct SalesByMonth;

/// Sales of one month to one country.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthSales {
    /// The month in which the orders were placed, such as `1998-05`.
    pub month: String,
    /// The country that they are shipped to.
    pub country: String,
    /// How many orders.
    pub orders: i64,
    /// How many pieces they order.
    pub units: i64,
    /// Their sum less the discounts.
    pub net: Money,
}

/// `1998-05` for a day in May 1998.
fn month(day: Date) -> String {
    day.strftime("%Y-%m").to_string()
}

/// The second constraint is the index by which months are read.
const MONTHS: &str = "CREATE TABLE {months} (country text NOT NULL, month text NOT NULL, orders bigint NOT NULL, \
     units bigint NOT NULL, net text NOT NULL, PRIMARY KEY (country, month), UNIQUE (month, country))";
/// The month of each order: the events of a sale do not contain it.
const ORDERS: &str = "CREATE TABLE {orders} (id text PRIMARY KEY, month text NOT NULL)";

const PLACED: &str = "INSERT INTO {orders} (id, month) VALUES ($1, $2)";
const NO_SALES_YET: &str = "INSERT INTO {months} (country, month, orders, units, net) \
     SELECT $1, month, 0, 0, '0' FROM {orders} WHERE id = $2 ON CONFLICT DO NOTHING";
const NET: &str = "SELECT net FROM {months} \
     WHERE country = $1 AND month = (SELECT month FROM {orders} WHERE id = $2)";
const SOLD: &str = "UPDATE {months} SET orders = orders + $3, units = units + $4, net = $5 \
     WHERE country = $1 AND month = (SELECT month FROM {orders} WHERE id = $2)";

const OF_YEAR: &str = "SELECT month, country, orders, units, net FROM {months} \
     WHERE month >= $1 AND month < $2 AND orders > 0 ORDER BY month, country";
const LAST_MONTH: &str = "SELECT max(month) FROM {months}";

/// The change of the sums by a sale or its cancellation.
struct Change<'a> {
    country: &'a Country,
    orders: i64,
    units: i64,
    net: Money,
}

impl<'a> Change<'a> {
    fn in_event(event: &'a OrderEvent) -> Option<Self> {
        let change = |sale: &'a Sale, orders: i64| Self {
            country: &sale.country,
            orders,
            units: orders * i64::try_from(sale.units).unwrap_or(i64::MAX),
            net: if orders > 0 { sale.net } else { Money::ZERO - sale.net },
        };
        match event {
            OrderEvent::Confirmed { sale } => Some(change(sale, 1)),
            OrderEvent::Cancelled { undone: Some(sale), .. } => Some(change(sale, -1)),
            _ => None,
        }
    }
}

/// The same SQL for both databases; only the type of the connection differs.
macro_rules! sales_by_month_in {
    ($database:ty, $connection:ty) => {
        impl SqlView<$database> for SalesByMonth {
            const NAME: &'static str = "sales-by-month";
            const TABLES: &'static [&'static str] = &["orders", "months"];
            type Of = (Order,);

            async fn create(&self, tables: &Tables, connection: &mut $connection) -> sqlx::Result<()> {
                for table in [ORDERS, MONTHS] {
                    sqlx::query(tables.sql(table)).execute(&mut *connection).await?;
                }
                Ok(())
            }
        }

        impl SqlProject<OrderEvent, $database> for SalesByMonth {
            async fn project(
                &self,
                event: &Envelope<OrderEvent>,
                tables: &Tables,
                connection: &mut $connection,
            ) -> sqlx::Result<()> {
                let order = event.subject();
                if let OrderEvent::Created { placed, .. } = &event.data {
                    let placed = sqlx::query(tables.sql(PLACED)).bind(order).bind(month(*placed));
                    placed.execute(&mut *connection).await?;
                }
                let Some(Change { country, orders, units, net }) = Change::in_event(&event.data) else {
                    return Ok(());
                };
                let country = country.as_str();
                sqlx::query(tables.sql(NO_SALES_YET))
                    .bind(country)
                    .bind(order)
                    .execute(&mut *connection)
                    .await?;
                let before = sqlx::query_scalar(tables.sql(NET)).bind(country).bind(order);
                let before: String = before.fetch_one(&mut *connection).await?;
                let net = money(&before)? + net;
                let sold = sqlx::query(tables.sql(SOLD)).bind(country).bind(order).bind(orders).bind(units);
                sold.bind(net.amount().to_string()).execute(connection).await?;
                Ok(())
            }
        }

        impl SalesOfYear for SqlViews<$database> {
            async fn sales_of_year(
                &self,
                build: &ProjectionId,
                year: Option<i16>,
            ) -> Result<Vec<MonthSales>, Error> {
                let months = self.rows::<SalesByMonth>(build);
                let read = || async {
                    let year = match year {
                        Some(year) => Some(format!("{year:04}")),
                        None => {
                            let last = sqlx::query_scalar(months.sql(LAST_MONTH)).fetch_one(months.pool());
                            let last: Option<String> = last.await?;
                            last.map(|last| last.chars().take(4).collect())
                        }
                    };
                    let Some(year) = year else { return Ok(Vec::new()) };
                    let of_year = sqlx::query_as(months.sql(OF_YEAR));
                    let of_year = of_year.bind(format!("{year}-01")).bind(format!("{year}-13"));
                    let rows: Vec<(_, _, _, _, String)> = of_year.fetch_all(months.pool()).await?;
                    let row = |(month, country, orders, units, net): (_, _, _, _, String)| {
                        Ok(MonthSales { month, country, orders, units, net: money(&net)? })
                    };
                    rows.into_iter().map(row).collect()
                };
                months.read(read).await
            }
        }
    };
}

sales_by_month_in!(Sqlite, SqliteConnection);
#[cfg(feature = "postgres")]
sales_by_month_in!(sqlx::Postgres, sqlx::PgConnection);

/// The query of [`SalesByMonth`].
///
/// In a service that has one kind of view store, it would be a [`Query`](cqrs_core::Query) of
/// `InSqlite<SalesByMonth>`. This program chooses the store when it starts, and some stores have no rows, so that the
/// service's type does not list the view.
pub trait SalesOfYear {
    /// The sales of a year, or of the last year with sales, by month and then by country.
    ///
    /// `build` is the active build; see [`Cqrs::active_build`](cqrs_core::Cqrs::active_build).
    ///
    /// # Errors
    ///
    /// [`Error::Store`], the database's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it loses nothing.
    fn sales_of_year(
        &self,
        build: &ProjectionId,
        year: Option<i16>,
    ) -> impl Future<Output = Result<Vec<MonthSales>, Error>> + Send;
}

fn money(text: &str) -> sqlx::Result<Money> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
