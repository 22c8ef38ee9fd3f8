//! The Northwind files: read, checked, and turned into commands.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};
use cqrs_core::{Apply, Command, CommandId, Context, Handle, SystemClock, Clock};
use csv::StringRecord;
use jiff::civil::Date;
use order_service::{
    ConfirmOrder, CreateOrder, Customer, CustomerId, DeliverOrder, Line, Name, Order, OrderEvent, OrderId,
    OrderRejection, PayOrder, ProductId, ReceiveStock, Sale, ShipOrder,
};
