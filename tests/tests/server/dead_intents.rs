//! An intent of a policy that cannot be executed is set aside with the later ones of the same instance, and everything
//! else continues. On memory and on a real NATS server alike.

use std::{
    collections::HashSet,
    future::pending,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use cqrs_core::{
    Aggregate, AggregateKey, Apply, Backend, Command, Context, Cqrs, Effects, Envelope, Event, Events,
    Handle, Handled, Policy, React, Refusal, Start,
    intercept::{Call, Interceptor, Next, Outcome, Refused},
    memory::{MemoryEvents, MemoryViews},
    operate::ProjectorState,
    port::{AnyViews, BoxFuture, EventStore, Note, ProjectionId, Save, ViewStore, Write},
};
use cqrs_tests::{TestContext, eventually, flaky::Flaky};
use serde::{Deserialize, Serialize};

cqrs_tests::on_backends! { "dead-intents", memory nats: {
    what_never_works_is_set_aside_and_the_others_go_on
    a_repaired_program_goes_on_by_a_retry
    a_command_can_be_edited_and_given_up
    rules_that_cannot_cope_with_a_refusal_are_about_that_instance
    a_state_that_cannot_be_kept_or_read_is_about_that_instance
    what_this_program_does_not_know_waits_for_one_that_does
    a_command_without_an_answer_holds_up_nobody_else
} }

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Event)]
#[event(prefix = "job")]
enum JobEvent {
    Asked { what: String },
    Done { what: String, value: f64 },
}

#[derive(Debug, thiserror::Error)]
#[error("there is no {0}")]
struct No(String);

#[derive(Debug, Default, Clone, Aggregate)]
#[aggregate(id = String, event = JobEvent, rejection = No, commands(Ask), internal(Act))]
struct Job;

impl Apply<JobEvent> for Job {
    fn apply(&mut self, _: &JobEvent) {}
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Job, upsert)]
struct Ask {
    #[command(id)]
    job: String,
    what: String,
}

impl Handle<Ask> for Job {
    fn handle(&self, command: &Ask, _: &Context) -> Handled<Self> {
        Ok(JobEvent::Asked { what: command.what.clone() }.into())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, Command)]
#[command(aggregate = Job, upsert)]
struct Act {
    #[command(id)]
    job: String,
    what: String,
}

/// The jobs for which the program was repaired.
static REPAIRED: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

impl Handle<Act> for Job {
    fn handle(&self, command: &Act, _: &Context) -> Handled<Self> {
        let what = command.what.clone();
        let (what, value) = match what.as_str() {
            "panic" if !REPAIRED.lock().unwrap().contains(&command.job) => panic!("no such tool"),
            "nan" => (what, f64::NAN),
            "large" => ("x".repeat(3_000_000), 0.0),
            refused if refused.starts_with("refused") => return Err(No(what)),
            "nothing" => return Ok(Events::none()),
            _ => (what, 1.0),
        };
        Ok(JobEvent::Done { what, value }.into())
    }
}

/// Carries out the request to a job, in a job beside it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Worker {
    value: f64,
}

impl Policy for Worker {
    const NAME: &'static str = "worker";
    const START: Start = Start::Beginning;
    type Of = Job;

    fn refused(&mut self, refusal: &Refusal, effects: &mut Effects) {
        let Some(Act { job, what }) = refusal.command() else { return };
        match what.as_str() {
            "refused, and a panic" => panic!("no answer to that"),
            "refused, and a wrong name" => effects.disarm("No Name"),
            "refused, and no state" => self.value = f64::NAN,
            "refused for ever" => effects.send(Act { job, what }),
            _ => effects.send(Act { job, what: "something else".into() }),
        }
    }
}

impl React<JobEvent> for Worker {
    fn react(&mut self, event: &Envelope<JobEvent>, effects: &mut Effects) {
        if let JobEvent::Asked { what } = &event.data {
            if what == "state" {
                self.value = f64::NAN;
            }
            effects.send(Act { job: done(event.subject()), what: what.clone() });
        }
    }
}

fn done(job: &str) -> String {
    format!("{job}-done")
}

type Shop = Cqrs<(Job,), ()>;

const WORKER: ProjectionId = ProjectionId::new("worker", 1);

async fn shop<B: Backend>(backend: B) -> Shop {
    Cqrs::builder(backend).aggregate::<Job>().policy::<Worker>().start().await.unwrap()
}

async fn ask(shop: &Shop, job: &str, what: &[&str]) {
    for what in what {
        shop.execute(Ask { job: job.into(), what: (*what).into() }).await.unwrap();
    }
}

/// The work that was done for a job.
async fn told(events: &impl EventStore, job: &str) -> Vec<String> {
    let key = AggregateKey::new("job", done(job)).unwrap();
    let commits = events.read(&key, 0, 1_000).await.unwrap().commits;
    let what = |event: &cqrs_core::log::RecordedEvent| {
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        data["what"].as_str().unwrap().to_owned()
    };
    commits.iter().flat_map(|stored| &stored.commit.events).map(what).collect()
}

async fn until_done(events: &impl EventStore, job: &str, what: &[&str]) {
    eventually(&format!("{job} has {what:?}"), async || told(events, job).await == what).await;
}

/// The dead intents: the key, the start of the reason, and whether they are behind another.
async fn dead(shop: &Shop) -> Vec<(String, String, bool)> {
    let list = shop.dead_intents("worker").await.unwrap().list().await.unwrap();
    list.into_iter().map(|dead| (dead.key, dead.reason, dead.behind)).collect()
}

async fn until_dead(shop: &Shop, number: usize) {
    eventually(&format!("{number} are set aside"), async || dead(shop).await.len() == number).await;
}

fn is_running(shop: &Shop) -> bool {
    shop.projectors()[0].state == ProjectorState::Running
}

fn job(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4())
}

async fn what_never_works_is_set_aside_and_the_others_go_on<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let first = shop(backend.clone()).await;
    let poisoned = [job("panic"), job("nan")];
    ask(&first, &poisoned[0], &["before", "panic", "behind"]).await;
    ask(&first, &poisoned[1], &["nan"]).await;
    ask(&first, "good", &["one"]).await;
    until_done(&events, "good", &["one"]).await;
    until_done(&events, &poisoned[0], &["before"]).await;
    until_dead(&first, 3).await;
    let list = first.dead_intents("worker").await.unwrap().list().await.unwrap();
    let (mut behind, mut panicked, mut nan) = (None, None, None);
    for dead in list {
        let command = dead.command.clone().unwrap();
        assert_eq!((command.name.as_str(), command.aggregate.as_str()), ("act", "job"));
        assert_eq!(command.aggregate_id, done(&dead.key));
        match (dead.behind, command.body.contains("nan")) {
            (true, _) => behind = Some(dead),
            (false, true) => nan = Some(dead),
            (false, false) => panicked = Some(dead),
        }
    }
    let (behind, panicked, nan) = (behind.unwrap(), panicked.unwrap(), nan.unwrap());
    let expected = format!(
        "command act ({}) on job/{}, which policy worker wants for instance {:?}: its handler panicked: no such tool",
        panicked.command.unwrap().id,
        done(&poisoned[0]),
        poisoned[0]
    );
    assert_eq!(panicked.reason, expected);
    assert_eq!((behind.key.as_str(), nan.key.as_str()), (poisoned[0].as_str(), poisoned[1].as_str()));
    assert!(nan.reason.contains("cannot be recorded"), "{}", nan.reason);
    // Later intents of the same instance wait as well, and a restart changes nothing.
    ask(&first, &poisoned[0], &["later"]).await;
    until_dead(&first, 4).await;
    eventually("it runs", async || is_running(&first)).await;
    first.stop().await;
    let second = shop(backend).await;
    ask(&second, "good", &["two"]).await;
    until_done(&events, "good", &["one", "two"]).await;
    assert_eq!(dead(&second).await.len(), 4);
    assert_eq!(told(&events, &poisoned[0]).await, ["before"]);
}

async fn a_repaired_program_goes_on_by_a_retry<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let shop = shop(backend).await;
    let poisoned = job("panic");
    ask(&shop, &poisoned, &["panic", "behind"]).await;
    until_dead(&shop, 2).await;
    let intents = shop.dead_intents("worker").await.unwrap();
    let retried = intents.retry(&poisoned).await.unwrap();
    assert_eq!((retried.carried_out, retried.waiting), (0, 0));
    let stopped_at = retried.stopped_at.unwrap();
    assert_eq!((stopped_at.attempts, stopped_at.behind), (1, false));
    REPAIRED.lock().unwrap().insert(done(&poisoned));
    let retried = intents.retry(&poisoned).await.unwrap();
    assert_eq!((retried.carried_out, retried.waiting, retried.stopped_at), (2, 0, None));
    assert_eq!(told(&events, &poisoned).await, ["panic", "behind"]);
    assert_eq!(intents.list().await.unwrap(), []);
    ask(&shop, &poisoned, &["later"]).await;
    until_done(&events, &poisoned, &["panic", "behind", "later"]).await;
    let nothing = intents.retry(&poisoned).await.unwrap();
    assert_eq!((nothing.carried_out, nothing.waiting, nothing.stopped_at), (0, 0, None));
}

async fn a_command_can_be_edited_and_given_up<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let shop = shop(backend).await;
    ask(&shop, "edited", &["panic", "behind"]).await;
    ask(&shop, "dropped", &["panic", "behind", "last"]).await;
    until_dead(&shop, 5).await;
    let intents = shop.dead_intents("worker").await.unwrap();
    let list = intents.list().await.unwrap();
    let first = list.iter().find(|dead| dead.key == "edited").unwrap();
    let no_json = intents.edit(&first.place, "{").await.unwrap_err();
    assert!(no_json.to_string().contains("is not JSON"), "{no_json}");
    let body = first.command.as_ref().unwrap().body.replace("panic", "edited");
    let edited = intents.edit(&first.place, &body).await.unwrap().unwrap();
    assert_eq!(edited.command.unwrap().body, body);
    assert_eq!(intents.edit("nowhere", &body).await.unwrap(), None);
    assert_eq!(intents.retry("edited").await.unwrap().carried_out, 2);
    assert_eq!(told(&events, "edited").await, ["edited", "behind"]);

    let dropped = intents.drop_first("dropped").await.unwrap().unwrap();
    assert!(dropped.reason.contains("no such tool"), "{}", dropped.reason);
    // The intents behind it wait for a retry.
    ask(&shop, "good", &["one"]).await;
    until_done(&events, "good", &["one"]).await;
    assert_eq!(intents.list().await.unwrap().len(), 2);
    assert_eq!(told(&events, "dropped").await, [""; 0]);
    assert_eq!(intents.retry("dropped").await.unwrap().carried_out, 2);
    assert_eq!(told(&events, "dropped").await, ["behind", "last"]);
    assert_eq!(intents.drop_first("dropped").await.unwrap(), None);
}

async fn rules_that_cannot_cope_with_a_refusal_are_about_that_instance<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let shop = shop(backend).await;
    let cases = [
        ("refused, and a panic", "the rules panicked: no answer to that"),
        ("refused, and a wrong name", "is no name of a deadline"),
        ("refused, and no state", "of policy worker-v1 cannot be written: "),
        ("refused for ever", "8 commands were refused"),
    ];
    for (number, (what, _)) in cases.iter().enumerate() {
        ask(&shop, &number.to_string(), &[what]).await;
    }
    ask(&shop, "good", &["refused"]).await;
    until_done(&events, "good", &["something else"]).await;
    until_dead(&shop, cases.len()).await;
    for ((key, reason, _), (number, (what, expected))) in
        dead(&shop).await.into_iter().zip(cases.iter().enumerate())
    {
        assert_eq!(key, number.to_string());
        assert!(reason.contains(expected), "{what}: {reason}");
        assert!(reason.contains(&format!("there is no {what}")), "{reason}");
    }
    eventually("it runs", async || is_running(&shop)).await;
}

async fn a_state_that_cannot_be_kept_or_read_is_about_that_instance<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let views = progress(&events);
    let first = shop(backend.clone()).await;
    ask(&first, "unwritten", &["one", "state", "two"]).await;
    ask(&first, "unread", &["one"]).await;
    until_done(&events, "unread", &["one"]).await;
    until_done(&events, "unwritten", &["one"]).await;
    first.stop().await;
    let saved = views.checkpoint(&WORKER).await.unwrap();
    let revision = views.load(&WORKER, &["unread".to_owned()]).await.unwrap()[0].revision;
    let document = Some(Bytes::from_static(b"{\"value\":\"none\"}"));
    let writes = [Write { key: "unread".into(), document, revision }];
    let (checkpoint, revision) = (saved.checkpoint.unwrap(), saved.revision);
    let save = Save { writes: &writes, notes: &[], checkpoint: &checkpoint, revision };
    views.save(&WORKER, save).await.unwrap();
    let second = shop(backend).await;
    ask(&second, "unread", &["two"]).await;
    ask(&second, "good", &["one"]).await;
    until_done(&events, "good", &["one"]).await;
    let letters = second.dead_letters("worker").await.unwrap().list().await.unwrap();
    let shown: Vec<_> =
        letters.iter().map(|letter| (letter.aggregate.id(), letter.version, letter.behind)).collect();
    let expected = [("unwritten", Some(2), false), ("unwritten", Some(3), true), ("unread", Some(2), false)];
    assert_eq!(shown, expected);
    assert!(
        letters[0].reason.contains("state \"unwritten\" of policy worker-v1 cannot be written: "),
        "{}",
        letters[0].reason
    );
    assert!(
        letters[2].reason.contains("state \"unread\" of policy worker-v1 cannot be read: "),
        "{}",
        letters[2].reason
    );
}

/// The place of the policy's states and intents.
fn progress(events: &impl EventStore) -> AnyViews {
    events.capabilities().progress_store().unwrap().clone()
}

/// Changes the notes of pending intents, as a program of another version would have written them.
async fn rewrite<V: ViewStore>(views: &V, change: impl Fn(&str) -> String) {
    let saved = views.checkpoint(&WORKER).await.unwrap();
    let notes = views.notes(&WORKER, "pending/").await.unwrap();
    let notes: Vec<_> = notes
        .into_iter()
        .map(|(key, content)| {
            let content = change(std::str::from_utf8(&content).unwrap());
            Note { key, content: Some(content.into()) }
        })
        .collect();
    let (checkpoint, revision) = (saved.checkpoint.unwrap(), saved.revision);
    views
        .save(&WORKER, Save { writes: &[], notes: &notes, checkpoint: &checkpoint, revision })
        .await
        .unwrap();
}

async fn what_this_program_does_not_know_waits_for_one_that_does<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let views = progress(&events);
    let newest = shop(backend.clone()).await;
    let [unknown, unread] = [job("unknown"), job("unread")];
    ask(&newest, &unknown, &["panic", "behind"]).await;
    ask(&newest, &unread, &["panic", "behind"]).await;
    until_dead(&newest, 4).await;
    newest.stop().await;
    // The notes of a newer program, with a command and a kind of intent that this program does not know.
    let (of_unknown, of_unread) = (unknown.clone(), unread.clone());
    rewrite(&views, |note| {
        if note.contains(&of_unread) {
            note.replace("\"send\"", "\"shout\"")
        } else {
            note.replace("\"act\"", "\"polish\"")
        }
    })
    .await;
    remove_marks(&views).await;
    REPAIRED.lock().unwrap().extend([done(&unknown), done(&unread)]);
    let older = shop(backend.clone()).await;
    ask(&older, "good", &["one"]).await;
    until_done(&events, "good", &["one"]).await;
    until_dead(&older, 4).await;
    let reasons: Vec<_> = dead(&older).await.into_iter().filter(|(_, _, behind)| !behind).collect();
    let reason = |key: &str| reasons.iter().find(|(of, _, _)| of == key).unwrap().1.as_str();
    assert!(reason(&of_unknown).contains("this service has no command \"polish\""), "{reasons:?}");
    assert!(reason(&of_unread).contains("this program cannot read what was noted"), "{reasons:?}");
    older.stop().await;
    // The newer program knows them: no operator has to retry anything.
    rewrite(&views, |note| note.replace("\"shout\"", "\"send\"").replace("\"polish\"", "\"act\"")).await;
    let newer = shop(backend).await;
    until_done(&events, &unknown, &["panic", "behind"]).await;
    until_done(&events, &unread, &["panic", "behind"]).await;
    until_dead(&newer, 0).await;
}

/// As if the intents had not been tried.
async fn remove_marks<V: ViewStore>(views: &V) {
    let saved = views.checkpoint(&WORKER).await.unwrap();
    let marks = views.notes(&WORKER, "failed/").await.unwrap();
    let notes: Vec<_> = marks.into_iter().map(|(key, _)| Note { key, content: None }).collect();
    let (checkpoint, revision) = (saved.checkpoint.unwrap(), saved.revision);
    let save = Save { writes: &[], notes: &notes, checkpoint: &checkpoint, revision };
    views.save(&WORKER, save).await.unwrap();
}

/// More than the server takes in one message.
#[tokio::test]
async fn a_commit_that_is_too_large_is_about_that_instance() {
    let context = TestContext::new("dead-intents").await;
    let backend = context.backend().await;
    let (events, _) = backend.clone().split();
    let shop = shop(backend).await;
    ask(&shop, "poisoned", &["large", "behind"]).await;
    ask(&shop, "good", &["one"]).await;
    until_done(&events, "good", &["one"]).await;
    until_dead(&shop, 2).await;
    let dead = dead(&shop).await;
    assert!(dead[0].1.contains("policy worker wants for instance \"poisoned\": "), "{}", dead[0].1);
    assert!(dead[0].1.contains("takes 30") && dead[0].1.contains("are accepted"), "{}", dead[0].1);
    assert!(dead[1].2, "the other stands behind it");
}

/// Refuses all commands on one job.
struct Hangs;

impl Interceptor for Hangs {
    fn around<'a>(&'a self, call: Call<'a>, next: Next<'a>) -> BoxFuture<'a, Result<Outcome, Refused>> {
        if call.id.as_deref() == Some("hangs-done") {
            return Box::pin(pending());
        }
        next.run(call)
    }
}

async fn a_command_without_an_answer_holds_up_nobody_else<B>(backend: B)
where
    B: Backend + Clone,
{
    let (events, _) = backend.clone().split();
    let builder = Cqrs::builder(backend.clone()).aggregate::<Job>().policy::<Worker>();
    let first = builder.interceptor(Hangs).start().await.unwrap();
    ask(&first, "hangs", &["one"]).await;
    for number in 0..3 {
        let job = format!("good-{number}");
        ask(&first, &job, &["one"]).await;
        ask(&first, "hangs", &["more"]).await;
        until_done(&events, &job, &["one"]).await;
    }
    eventually("it says what it waits for", async || {
        let ProjectorState::Retrying { reason } = &first.projectors()[0].state else { return false };
        reason == "policy worker, instance \"hangs\": its command takes long"
    })
    .await;
    first.stop().await;
    assert_eq!(told(&events, "hangs").await, [""; 0]);
    let _second = shop(backend).await;
    until_done(&events, "hangs", &["one", "more", "more", "more"]).await;
}

/// After a transient failure an intent is retried, in order, and holds up only its own instance.
#[tokio::test]
async fn a_failure_that_passes_holds_up_its_own_instance() {
    let events = Flaky::works(MemoryEvents::default());
    events.be_busy_for(Some("waits-done"));
    let builder = Cqrs::builder((events.clone(), MemoryViews::default())).aggregate::<Job>();
    let builder = builder.append_patience(Duration::ZERO).policy::<Worker>();
    let shop = Arc::new(builder.start().await.unwrap());
    ask(&shop, "waits", &["one", "two"]).await;
    for number in 0..3 {
        let job = format!("good-{number}");
        ask(&shop, &job, &["one"]).await;
        until_done(&events, &job, &["one"]).await;
    }
    eventually("it says what it waits for", async || {
        let ProjectorState::Retrying { reason } = &shop.projectors()[0].state else { return false };
        reason.starts_with("policy worker, instance \"waits\": command act (")
            && reason.contains("on job/waits-done waits: ")
    })
    .await;
    assert_eq!(told(&events, "waits").await, [""; 0]);
    assert_eq!(dead(&shop).await, [], "nothing is set aside while it may pass");
    events.be_busy_for(None);
    until_done(&events, "waits", &["one", "two"]).await;
    eventually("it runs", async || is_running(&shop)).await;
}
