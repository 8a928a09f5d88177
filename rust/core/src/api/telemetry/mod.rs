//! The Telemetry API, and the older Logs API: who wants to hear what, and how they are told.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::answer::{self, Answer};
use super::body::refuse;
use super::session::Shared;
use super::{Platform, Source};

/// Which of the two is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Logs,
    Telemetry,
}

/// The subscriptions of an environment.
#[derive(Debug, Default)]
pub struct Telemetry {}

impl Telemetry {
    /// Of processes that are started anew.
    pub fn restarted(self) -> Self {
        Self::default()
    }

    /// A line of output.
    pub fn log(&mut self, _source: Source, _text: &str) {}

    /// A record of the platform.
    pub fn platform(&mut self, _record: &Platform) {}
}

/// `PUT /2022-07-01/telemetry` and `PUT /2020-08-15/logs`.
pub async fn subscribe(_shared: &Shared, request: Request<Incoming>, api: Api) -> Answer {
    let (error_type, message) = match api {
        Api::Logs => ("Logs.NotSupported", "Logs API is not supported"),
        Api::Telemetry => ("Telemetry.NotSupported", "Telemetry API is not supported"),
    };
    refuse(request, answer::refusal(StatusCode::ACCEPTED, error_type, message)).await
}
