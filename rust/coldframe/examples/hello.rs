//! A handler cold and warm, one that fails, one that is out of time, and two threads that share a function.
//!
//! ```sh
//! cargo run --release -p coldframe --example hello
//! ```

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use coldframe::{Call, Host, Kind, Options, Outcome, Runtime, Spec, Start};

#[expect(clippy::print_stdout, reason = "an example for a terminal")]
fn main() -> Result<(), Box<dyn Error>> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let host = Host::new(Options::default())?;

    let spec = Spec { memory_mb: 256, ..Spec::new("app.handler", examples.join("hello")) };
    let greet = host.function(&Runtime::Python, spec)?;
    for start in [Start::Cold, Start::Warm] {
        let outcome = greet.invoke(br#"{"name": "Ada"}"#)?;
        tell(&outcome);
        assert_eq!(outcome.report.start, start);
    }

    // What fails inside is an outcome, and not an error.
    let failed = greet.invoke(b"[]")?;
    tell(&failed);
    assert_eq!(failed.payload().expect_err("a list has no names").kind, Kind::Handler);

    let linger = host.function(&Runtime::Python, Spec::new("app.linger", examples.join("limits")))?;
    let hurry = Call { timeout: Some(Duration::from_millis(500)), ..Call::default() };
    tell(&linger.call(b"{}", &hurry)?);

    // Everything can be shared. A ticket ends a call from another thread.
    thread::scope(|scope| {
        for name in ["Grace", "Zoë"] {
            let greet = &greet;
            scope.spawn(move || greet.invoke(format!(r#"{{"name": "{name}"}}"#).as_bytes()).map(|outcome| tell(&outcome)));
        }
    });
    let endless = Call::default();
    let ticket = endless.ticket.clone();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| linger.call(b"{}", &endless).expect_err("it was cancelled").to_string());
        ticket.cancel();
        println!("{}", waiting.join().unwrap_or_default());
    });
    Ok(host.close()?)
}

#[expect(clippy::print_stdout, reason = "an example for a terminal")]
fn tell(outcome: &Outcome) {
    let report = &outcome.report;
    match outcome.payload() {
        Ok(json) => println!("{} {:.1?}: {}", report.start.name(), report.duration, String::from_utf8_lossy(json)),
        Err(failure) => println!("{} {:.1?}: {failure}", report.start.name(), report.duration),
    }
}
