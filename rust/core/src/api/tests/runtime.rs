//! The Runtime API, rule by rule.

use super::client::{get, post};
use super::{Api, ID, News, event};

const NEXT: &str = "/2018-06-01/runtime/invocation/next";

#[test]
fn an_event_is_answered() {
    let api = Api::new(&[]);
    let mut client = api.ready();
    api.session.invoke(event());
    let next = client.answer();
    assert_eq!(next.said(), (200, "{}"));
    let answer = client.ask(post(&format!("/2018-06-01/runtime/invocation/{ID}/response"), &[], "\"done\""));
    assert_eq!(answer.said(), (202, "{\"status\":\"OK\"}\n"));
    assert_eq!(api.news(), News::Response { content_type: String::new(), body: b"\"done\"".to_vec() });
    assert!(client.send(get(NEXT)));
    assert_eq!(api.news(), News::RuntimeDone);
    assert_eq!(api.news(), News::Idle);
    assert_eq!(api.session.news(), None);
}
