//! The compile time of the derives beside serde's two.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    cli::Options,
    report::{Goal, Group, Line, Unit},
    rounds::{Contender, as_f64, in_turn, preparing},
};

/// How many types a crate has.
const TYPES: u64 = 200;

/// A type: its definition, without derives, and with this crate's attributes in special comments.
struct Kind {
    name: &'static str,
    derive: &'static str,
    /// The types that all others refer to.
    once: &'static str,
    /// One type, where `#N` is its number and a line that begins with `@` is for the derive only.
    each: &'static str,
}

const KINDS: [Kind; 4] = [
    Kind {
        name: "an event of three variants",
        derive: "Event",
        once: "",
        each: "@#[event(prefix = \"thing#N\")]
pub enum Event#N {
    Created { customer: String, lines: Vec<u64>, total: u64 },
    Paid { amount: u64, reference: Option<String> },
    Cancelled,
}
",
    },
    Kind {
        name: "a command of four fields",
        derive: "Command",
        once: THING,
        each: "@#[command(aggregate = Thing)]
pub struct Command#N {
@    #[command(id)]
    pub id: u64,
    pub customer: String,
    pub lines: Vec<u64>,
    pub note: Option<String>,
}
",
    },
    Kind {
        name: "an aggregate of three fields",
        derive: "Aggregate",
        once: THING,
        each: "@#[aggregate(id = u64, event = Happened, rejection = Never)]
#[derive(Default, Clone)]
pub struct Aggregate#N {
    customer: String,
    lines: Vec<u64>,
    note: Option<String>,
}
impl Apply<Happened> for Aggregate#N {
    fn apply(&mut self, _: &Happened) {
        self.lines.push(#N);
    }
}
",
    },
    Kind {
        name: "a query of two fields",
        derive: "Query",
        once: THING,
        each: "@#[query(view = ThingView, answer = Option<ThingView>)]
pub struct Query#N {
@    #[query(key)]
    pub id: u64,
}
",
    },
];

const THING: &str = r#"
#[derive(Clone, Serialize, Deserialize, cqrs_core::Event)]
#[event(name = "happened")]
pub struct Happened;
#[derive(Debug)]
pub enum Never {}
impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { match *self {} }
}
impl std::error::Error for Never {}
#[derive(Default, Clone, cqrs_core::Aggregate)]
#[aggregate(id = u64, event = Happened, rejection = Never)]
pub struct Thing;
impl Apply<Happened> for Thing { fn apply(&mut self, _: &Happened) {} }
#[derive(Default, Clone, Serialize, Deserialize)]
pub struct ThingView { pub seen: u64 }
impl cqrs_core::View for ThingView {
    const NAME: &'static str = "things";
    type Of = Thing;
}
impl cqrs_core::Project<Happened> for ThingView {
    fn project(&mut self, _: &cqrs_core::Envelope<Happened>) { self.seen += 1; }
}
"#;

/// The derives of a crate's types.
#[derive(Debug, Clone, Copy)]
enum Derives {
    None,
    Serde,
    SerdeAndOurs,
}

pub(crate) async fn run(options: &Options) -> Result<Group> {
    let folder = tempfile::tempdir()?;
    let package = Package::new(folder.path())?;
    let bar = preparing("building the dependencies", 1);
    package.check("")?;
    bar.finish_and_clear();
    let mut contenders = Vec::new();
    for kind in &KINDS {
        for derives in [Derives::None, Derives::Serde, Derives::SerdeAndOurs] {
            let (package, source) = (package.clone(), kind.source(derives));
            let what = format!("{}, {derives:?}", kind.name);
            contenders.push(Contender::new(what, Unit::Milliseconds, move |_| {
                let time = package.check(&source);
                async move { time }
            }));
        }
    }
    let checks = in_turn(options, contenders).await?;
    let lines = KINDS.iter().zip(checks.chunks(3)).flat_map(|(kind, checks)| kind.lines(checks)).collect();
    let title = format!("Compile time of a type, of {TYPES} in a crate");
    Ok(Group { title, setting: "cargo check, not incremental, processor time".to_owned(), lines })
}

impl Kind {
    fn source(&self, derives: Derives) -> String {
        let derive = match derives {
            Derives::None => String::new(),
            Derives::Serde => "#[derive(Serialize, Deserialize)]".to_owned(),
            Derives::SerdeAndOurs => {
                format!("#[derive(Serialize, Deserialize, cqrs_core::{})]", self.derive)
            }
        };
        let mut source = format!(
            "#![allow(unused)]\nuse cqrs_core::Apply;\nuse serde::{{Deserialize, Serialize}};\n{}",
            self.once
        );
        for number in 0..TYPES {
            // Writing to a string cannot fail.
            let _ = writeln!(source, "{derive}");
            for line in self.each.lines() {
                let line = match (line.strip_prefix('@'), derives) {
                    (None, _) => line,
                    (Some(line), Derives::SerdeAndOurs) => line,
                    (Some(_), _) => continue,
                };
                let _ = writeln!(source, "{}", line.replace("#N", &number.to_string()));
            }
        }
        source
    }

    /// The time that each derive adds for each type.
    fn lines(&self, checks: &[Line]) -> Vec<Line> {
        let each = |what: String, more: &Line, less: &Line| {
            let rounds = more.rounds.iter().zip(&less.rounds);
            let rounds = rounds.map(|(more, less)| (more - less) / as_f64(TYPES)).collect();
            Line::new(what, Unit::Milliseconds, rounds)
        };
        let [none, serde, ours] = checks else { return Vec::new() };
        let serdes = each(format!("serde's two derives on {}", self.name), serde, none);
        let own = each(format!("{} on {}", self.derive, self.name), ours, serde);
        vec![serdes.clone(), own.beside(&serdes, Some(Goal::AtMost(1.0)))]
    }
}

/// A package with one file that changes, and with built dependencies.
#[derive(Debug, Clone)]
struct Package(PathBuf);

impl Package {
    fn new(folder: &Path) -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let manifest = format!(
            "[package]\nname = \"types\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
             cqrs-core = {{ path = '{}' }}\nserde = {{ version = \"1\", features = [\"derive\"] }}\n",
            workspace.join("cqrs-core").display()
        );
        fs::create_dir(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        fs::copy(workspace.join("rust-toolchain.toml"), folder.join("rust-toolchain.toml"))?;
        Ok(Self(folder.to_owned()))
    }

    /// The processor time to check this source, in milliseconds: other work on the machine changes it less than the
    /// elapsed time.
    fn check(&self, source: &str) -> Result<f64> {
        fs::write(self.0.join("src/lib.rs"), source)?;
        let mut shell = Command::new("sh");
        shell.args(["-c", "cargo check --offline --quiet && times"]);
        let output = shell.current_dir(&self.0).env("CARGO_INCREMENTAL", "0").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout)?;
        milliseconds(&said).with_context(|| format!("no times: {said:?}"))
    }
}

/// The time of the child processes on the last line of a shell's `times`: `0m1.230000s 0m0.120000s`.
fn milliseconds(times: &str) -> Option<f64> {
    let last = times.lines().last()?.split_whitespace();
    let seconds = last.map(|time| {
        let (minutes, seconds) = time.strip_suffix('s')?.split_once('m')?;
        Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.replace(',', ".").parse::<f64>().ok()?)
    });
    Some(seconds.sum::<Option<f64>>()? * 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_shells_children_are_on_its_last_line() {
        let milliseconds = milliseconds("0m0.002s 0m0.001s\n1m2.500s 0m0.250s\n").expect("times");
        assert!((milliseconds - 62_750.0).abs() < 1e-6, "{milliseconds}");
        assert_eq!(super::milliseconds("what?"), None);
    }
}
