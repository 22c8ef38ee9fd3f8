//! `dead-letters`: the events that projections could not apply.

use std::io::Write;

use anyhow::{Result, bail};
use cqrs_core::{
    AggregateKey,
    log::{RecordedEvent, StoredCommit},
    operate::{DeadLetter, DeadLetters},
};
use order_service::OrderService;
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::{Format, LettersAction, OfAggregate},
    terminal::{argument, counted, wrapped},
};

/// A dead letter of a projection, with the data of its events if these are asked for.
#[derive(Debug, Serialize)]
struct Row<'a> {
    projection: &'a str,
    #[serde(flatten)]
    letter: &'a DeadLetter,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Vec<Event>>,
}

/// An event of a dead letter, or why it cannot be shown.
#[derive(Debug, Serialize)]
struct Event {
    event_type: Option<String>,
    data: Value,
}

/// Lists, shows or changes dead letters.
pub(crate) async fn run(
    service: &OrderService,
    action: Option<LettersAction>,
    out: &mut impl Write,
) -> Result<()> {
    match action.unwrap_or(LettersAction::List { projection: None, format: Format::Text }) {
        LettersAction::List { projection, format } => list(service, projection, format, out).await,
        LettersAction::Show { of, format } => show(service, &of, format, out).await,
        LettersAction::Retry { of } => retry(service, &of, out).await,
        LettersAction::Edit { of, event } => edit(service, &of, &event, out).await,
        LettersAction::Drop { of } => drop_first(service, &of, out).await,
    }
}

async fn list(
    service: &OrderService,
    projection: Option<String>,
    format: Format,
    out: &mut impl Write,
) -> Result<()> {
    let projections = projection.map_or_else(|| projections(service), |one| vec![one]);
    let mut all = Vec::new();
    for projection in projections {
        let letters = service.dead_letters(&projection).await?.list().await?;
        all.push((projection, letters));
    }
    if format == Format::Json {
        let row = |projection, letter| Row { projection, letter, data: None };
        let rows =
            all.iter().flat_map(|(projection, letters)| letters.iter().map(|one| row(projection, one)));
        let rows: Vec<_> = rows.collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    let mut first = None;
    for (projection, letters) in &all {
        for (letter, behind) in by_aggregate(letters) {
            let behind = behind.checked_sub(1).filter(|more| *more > 0);
            let behind = behind.map_or_else(String::new, |more| {
                format!("\n  and {} behind it", counted(more, "dead letter"))
            });
            writeln!(out, "{}{behind}", wrapped(&in_words(projection, letter), 2))?;
            first = first.or(Some((projection, &letter.aggregate)));
        }
    }
    match first {
        None => writeln!(out, "There are no dead letters.")?,
        Some((projection, aggregate)) => writeln!(
            out,
            "\nFor the first one, and likewise for the others, once the cause is gone:\n{}",
            what_to_do(projection, aggregate)
        )?,
    }
    Ok(())
}

async fn show(service: &OrderService, of: &OfAggregate, format: Format, out: &mut impl Write) -> Result<()> {
    let (letters, found) = find(service, of).await?;
    let mut rows = Vec::new();
    for letter in &found {
        let data = Some(data(&letters, letter).await?);
        rows.push(Row { projection: &of.projection, letter, data });
    }
    if format == Format::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(());
    }
    for Row { projection, letter, data } in rows {
        writeln!(out, "{}", wrapped(&in_words(projection, letter), 2))?;
        let (retries, time) = (counted(letter.attempts as usize, "vain attempt"), letter.time);
        writeln!(out, "  set aside or tried last at {time:.0}, {retries}")?;
        for Event { event_type, data } in data.unwrap_or_default() {
            let data = serde_json::to_string_pretty(&data)?.replace('\n', "\n  ");
            writeln!(out, "  {} {data}", event_type.as_deref().unwrap_or("no event:"))?;
        }
        if let Some(edited) = &letter.edited {
            writeln!(out, "  applied in place of it: {edited}")?;
        }
    }
    Ok(())
}

/// The events of a dead letter, as the log has them.
async fn data(letters: &DeadLetters, letter: &DeadLetter) -> Result<Vec<Event>> {
    let none = |reason: &str| Event { event_type: None, data: Value::String(reason.to_owned()) };
    Ok(match letters.event(letter).await? {
        None => vec![none("the log does not have it any more")],
        Some(Err(unreadable)) => vec![none(&unreadable.reason)],
        Some(Ok(StoredCommit { commit, .. })) => {
            let events = commit.events.iter().skip(letter.position.index as usize);
            events.take(letter.events as usize).map(event).collect()
        }
    })
}

fn event(event: &RecordedEvent) -> Event {
    // The service's events are JSON; what is not is shown as text.
    let text = || Value::String(String::from_utf8_lossy(&event.data).into_owned());
    let data = serde_json::from_slice(&event.data).unwrap_or_else(|_| text());
    Event { event_type: Some(event.event_type.to_string()), data }
}

async fn retry(service: &OrderService, of: &OfAggregate, out: &mut impl Write) -> Result<()> {
    let (letters, _) = find(service, of).await?;
    let retried = letters.retry(&of.aggregate).await?;
    let OfAggregate { projection, aggregate } = of;
    if let Some(letter) = retried.stopped_at {
        bail!(
            "{}; applied before it: {}; repair the cause and retry, or edit or drop it",
            in_words(projection, &letter),
            counted(retried.applied, "event")
        );
    }
    let applied = counted(retried.applied, "event");
    let line = format!("{projection} has applied {applied} of {aggregate} and goes on with it.");
    writeln!(out, "{}", wrapped(&line, 2))?;
    Ok(())
}

async fn edit(service: &OrderService, of: &OfAggregate, data: &str, out: &mut impl Write) -> Result<()> {
    let (letters, found) = find(service, of).await?;
    let Some(edited) = letters.edit(found[0].position, data).await? else { bail!(nothing(of)) };
    let OfAggregate { projection, aggregate } = of;
    let line = format!("{} is edited: {projection} applies {data} in place of it.", named(&edited));
    let aggregate = argument(aggregate);
    writeln!(out, "{}", wrapped(&line, 2))?;
    writeln!(out, "To apply it:\n  order-service dead-letters retry {projection} {aggregate}")?;
    Ok(())
}

async fn drop_first(service: &OrderService, of: &OfAggregate, out: &mut impl Write) -> Result<()> {
    let (letters, _) = find(service, of).await?;
    let OfAggregate { projection, aggregate } = of;
    let Some(dropped) = letters.drop_first(aggregate).await? else { bail!(nothing(of)) };
    let line = format!("{} is dropped: {projection} stays without it.", named(&dropped));
    writeln!(out, "{}", wrapped(&line, 2))?;
    let left = letters.list().await?.into_iter().filter(|letter| letter.aggregate == *aggregate).count();
    if left > 0 {
        let left = counted(left, "dead letter");
        let aggregate = argument(aggregate);
        writeln!(
            out,
            "Left behind it: {left}. To apply what is left:\n\
             \x20 order-service dead-letters retry {projection} {aggregate}"
        )?;
    }
    Ok(())
}

/// The dead letters of an aggregate, of which there is at least one.
async fn find(service: &OrderService, of: &OfAggregate) -> Result<(DeadLetters, Vec<DeadLetter>)> {
    let letters = service.dead_letters(&of.projection).await?;
    let mut found = letters.list().await?;
    found.retain(|letter| letter.aggregate == of.aggregate);
    if found.is_empty() {
        bail!(nothing(of));
    }
    Ok((letters, found))
}

fn nothing(OfAggregate { projection, aggregate }: &OfAggregate) -> String {
    format!("{projection} has no dead letter of {aggregate}: order-service dead-letters lists all")
}

/// The names of all projections.
pub(crate) fn projections(service: &OrderService) -> Vec<String> {
    let mut names: Vec<_> =
        service.projectors().into_iter().map(|status| status.projection.name.to_owned()).collect();
    names.dedup();
    names
}

/// The first dead letter of each aggregate, and how many the aggregate has.
pub(crate) fn by_aggregate(letters: &[DeadLetter]) -> Vec<(&DeadLetter, usize)> {
    let mut first: Vec<(&DeadLetter, usize)> = Vec::new();
    for letter in letters {
        match first.iter_mut().find(|(first, _)| first.aggregate == letter.aggregate) {
            Some((_, count)) => *count += 1,
            None => first.push((letter, 1)),
        }
    }
    first
}

/// What a projection could not apply, and why.
pub(crate) fn in_words(projection: &str, letter: &DeadLetter) -> String {
    format!("{projection} could not apply {}: {}", named(letter), letter.reason)
}

fn named(DeadLetter { aggregate, position, event_type, .. }: &DeadLetter) -> String {
    let event = event_type.as_deref().unwrap_or("the message");
    format!("{event} of {aggregate} at {}", position.sequence)
}

/// The commands to see and to retry the dead letters of an aggregate.
pub(crate) fn what_to_do(projection: &str, aggregate: &AggregateKey) -> String {
    let of = format!("{projection} {}", argument(aggregate));
    format!(
        "  see it:   order-service dead-letters show {of}\n  retry it: order-service dead-letters retry {of}"
    )
}
