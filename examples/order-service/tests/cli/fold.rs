//! The expected figures: the Northwind files added up, without any code of the service.

use std::{collections::BTreeMap, path::Path};

use rust_decimal::Decimal;
use serde_json::Value;

use crate::support::NORTHWIND;

/// Sums over orders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    orders: u64,
    units: u64,
    net: Decimal,
}

/// The sums that a report shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    shipped: u64,
    all: Sums,
    countries: BTreeMap<String, Sums>,
    customers: BTreeMap<String, Sums>,
}

/// Sums by month and country.
pub(crate) type Months = BTreeMap<(String, String), Sums>;

struct Rows(csv::Reader<std::fs::File>);

impl Rows {
    fn of(file: &str) -> Self {
        Self(csv::Reader::from_path(Path::new(NORTHWIND).join(file)).unwrap())
    }

    fn for_each(mut self, mut row: impl FnMut(&BTreeMap<String, String>)) {
        for found in self.0.deserialize() {
            row(&found.unwrap());
        }
    }
}

/// Adds the files up.
pub(crate) fn northwind() -> (Figures, Months) {
    let mut lines: BTreeMap<String, Vec<(u64, Decimal)>> = BTreeMap::new();
    Rows::of("order_details.csv").for_each(|row| {
        let quantity: u64 = row["quantity"].parse().unwrap();
        let number = |column: &str| row[column].parse::<Decimal>().unwrap();
        let net = number("unitPrice") * Decimal::from(quantity) * (Decimal::ONE - number("discount"));
        lines.entry(row["orderID"].clone()).or_default().push((quantity, net));
    });
    let (mut figures, mut months) = (Figures::default(), Months::new());
    Rows::of("orders.csv").for_each(|row| {
        let (country, month) = (row["shipCountry"].clone(), row["orderDate"][..7].to_owned());
        figures.shipped += u64::from(row["shippedDate"] != "NULL");
        for sums in [
            &mut figures.all,
            figures.countries.entry(country.clone()).or_default(),
            figures.customers.entry(row["customerID"].clone()).or_default(),
            months.entry((month, country)).or_default(),
        ] {
            sums.orders += 1;
            for (units, net) in &lines[&row["orderID"]] {
                sums.units += units;
                sums.net += net;
            }
        }
    });
    (figures, months)
}

/// The figures of a report, in the same shape.
pub(crate) fn reported(report: &Value) -> Figures {
    let rows = |list: &str, key: &str| {
        let rows = report[list].as_array().unwrap().iter();
        rows.map(|row| (row[key].as_str().unwrap().to_owned(), sums(row))).collect()
    };
    Figures {
        shipped: report["totals"]["shipped"].as_u64().unwrap(),
        all: sums(&report["totals"]),
        countries: rows("countries", "country"),
        customers: rows("customers", "customer"),
    }
}

/// The months of a report.
pub(crate) fn reported_months(report: &Value) -> Months {
    let text = |row: &Value, column: &str| row[column].as_str().unwrap().to_owned();
    let rows = report["months"].as_array().unwrap().iter();
    rows.map(|row| ((text(row, "month"), text(row, "country")), sums(row))).collect()
}

fn sums(row: &Value) -> Sums {
    let number = |column: &str| row[column].as_u64().unwrap();
    Sums {
        orders: number("orders"),
        units: number("units"),
        net: row["net"].as_str().unwrap().parse().unwrap(),
    }
}
