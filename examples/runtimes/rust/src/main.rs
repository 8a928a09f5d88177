//! Greets a guest, and counts them.

use std::env;
use std::process::exit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use lambda_runtime::streaming::{Body, Response, channel};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, run, service_fn};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

static GUESTS: AtomicU32 = AtomicU32::new(0);

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    name: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    sleep_ms: u64,
    exit: Option<i32>,
    #[serde(default)]
    fail: bool,
}

#[derive(Serialize)]
struct Greeting {
    greeting: String,
    guests: u32,
    text: String,
    request_id: String,
    arn: String,
    function: String,
    remaining_ms: u128,
}

/// There is no name in the event.
#[derive(Debug)]
struct Nobody;

impl From<Nobody> for Diagnostic {
    fn from(_: Nobody) -> Self {
        Self { error_type: "Nobody".into(), error_message: "nobody to greet".into() }
    }
}

fn greet(name: &str) -> Result<String, Nobody> {
    if name.is_empty() {
        return Err(Nobody);
    }
    GUESTS.fetch_add(1, Ordering::Relaxed);
    println!("greeting {name}");
    let greeting = env::var("GREETING").unwrap_or_else(|_| "Hello".into());
    Ok(format!("{greeting}, {name}!"))
}

async fn handler(LambdaEvent { payload, context }: LambdaEvent<Event>) -> Result<Greeting, Nobody> {
    if let Some(status) = payload.exit {
        exit(status);
    }
    if payload.sleep_ms > 0 {
        sleep(Duration::from_millis(payload.sleep_ms)).await;
    }
    let greeting = greet(&payload.name)?;
    let remaining = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    Ok(Greeting {
        greeting,
        guests: GUESTS.load(Ordering::Relaxed),
        text: payload.text,
        request_id: context.request_id,
        arn: context.invoked_function_arn,
        function: context.env_config.function_name.clone(),
        remaining_ms: remaining.as_millis(),
    })
}

/// The greeting word by word, with a pause before each but the first.
async fn stream(event: LambdaEvent<Event>) -> Result<Response<Body>, Nobody> {
    let event = event.payload;
    let greeting = greet(&event.name)?;
    let (mut sender, body) = channel();
    tokio::spawn(async move {
        for (index, word) in greeting.split(' ').enumerate() {
            if index > 0 {
                sleep(Duration::from_millis(event.sleep_ms)).await;
            }
            if sender.send_data(format!("{word} ").into()).await.is_err() {
                return;
            }
        }
        if event.fail {
            sender.abort();
        }
    });
    Ok(Response::from(body))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    if env::var("_HANDLER").is_ok_and(|name| name == "stream") {
        run(service_fn(stream)).await
    } else {
        run(service_fn(handler)).await
    }
}
