//! The program on a terminal, as a person runs it: a pseudoterminal, of which the test has the other end.

use std::{fs::File, io::Read as _, process::Stdio};

use anstream::adapter::strip_str;
use rustix::{
    io::Errno,
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::support::{Output, Run, in_one_line, order_service};

/// Narrower than the texts are without a terminal.
const COLUMNS: u16 = 70;

impl Run {
    /// Runs with its standard input, output and errors on a terminal of [`COLUMNS`], and returns what that shows.
    fn on_a_terminal(self) -> Output {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = openpt(flags).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let end = || Stdio::from(ioctl_tiocgptpeer(&terminal, flags).unwrap());
        // A terminal that shows colours.
        self.env("TERM", "xterm-256color").run_on([end(), end(), end()], || {
            let mut shown = Vec::new();
            match File::from(terminal).read_to_end(&mut shown) {
                // What Linux returns once the program has closed its end.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {}
                other => panic!("{other:?}"),
            }
            // A terminal ends a line with a carriage return, too.
            String::from_utf8(shown).unwrap().replace("\r\n", "\n")
        })
    }
}

#[test]
fn the_scenario_runs_on_a_terminal_in_colours_and_in_its_width() {
    let output = order_service(["--memory"]).env("RUST_LOG", "info").on_a_terminal();
    assert!(output.success(), "{output:?}");
    assert!(output.stdout.contains('\u{1b}'), "a terminal shows colours: {}", output.stdout);
    let shown = strip_str(&output.stdout).to_string();
    assert!(shown.contains("INFO"), "the log of the framework is there: {shown}");

    let output = order_service(["--memory"]).on_a_terminal();
    assert!(output.success(), "{output:?}");
    let shown = strip_str(&output.stdout).to_string();
    assert!(in_one_line(&shown).starts_with("Events and views are kept in memory"), "{shown}");
    for line in shown.lines() {
        assert!(line.chars().count() <= COLUMNS.into(), "{line:?} is too wide");
    }
}

#[test]
fn a_terminal_shows_no_colours_that_are_not_wanted() {
    let output = order_service(["--memory"]).env("NO_COLOR", "1").on_a_terminal();
    assert!(output.success(), "{output:?}");
    assert!(!output.stdout.contains('\u{1b}'), "{}", output.stdout);
}

#[test]
fn a_mistake_and_the_help_are_shown_on_a_terminal() {
    let output = order_service(["--help"]).on_a_terminal();
    assert!(output.success() && output.stdout.contains("Examples:"), "{output:?}");
    let mistake = order_service(["repot"]).on_a_terminal();
    assert!(!mistake.success() && mistake.stdout.contains("see --help"), "{mistake:?}");
}
