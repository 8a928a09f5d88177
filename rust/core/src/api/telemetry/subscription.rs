//! What an extension subscribes to: checked as Lambda checks it.

use std::time::Duration;

use hyper::Uri;
use serde_json::Value;

use super::Api;
use super::record::Category;

/// The name by which extensions say that they listen inside the environment.
const HOST: &str = "sandbox.localdomain";
/// The port of this server.
const RESERVED: u16 = 9001;

/// A subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub types: Vec<Category>,
    pub destination: Destination,
    /// After how many records, or bytes of them, or how much time after the first, they are sent.
    pub max_items: usize,
    pub max_bytes: usize,
    pub timeout: Duration,
}

/// Where records go, on the loopback device of the environment.
#[derive(Clone, Debug, PartialEq)]
pub enum Destination {
    /// As a JSON array in the body of a request.
    Http { port: u16, put: bool, path: String, host: String },
    /// One a line.
    Tcp { port: u16 },
}

impl Subscription {
    /// Reads one. The error says all that is wrong with it.
    pub fn parse(body: &[u8], api: Api) -> Result<Self, String> {
        let body: Value = serde_json::from_slice(body).map_err(|e| format!("failed to parse JSON: {e}"))?;
        if !body.is_object() {
            return Err("the subscription should be a JSON object".to_owned());
        }
        let mut wrong = Vec::new();
        let destination = destination(&body["destination"]).map_err(|e| wrong.push(e)).ok();
        let types = types(&body["types"]).map_err(|e| wrong.push(e)).unwrap_or_default();
        let mut buffering = |name, least, most, default| {
            number(&body["buffering"], name, least, most, default).map_err(|e| wrong.push(e)).unwrap_or_default()
        };
        let max_items = buffering("maxItems", 1000, 10_000, 10_000) as usize;
        let max_bytes = buffering("maxBytes", 262_144, 1_048_576, 262_144) as usize;
        let timeout = Duration::from_millis(buffering("timeoutMs", 25, 30_000, 1000));
        if !matches!(body["buffering"], Value::Null | Value::Object(_)) {
            wrong.push("buffering should be an object".to_owned());
        }
        match (&body["schemaVersion"], api) {
            (Value::Null, Api::Logs) => {}
            (Value::Null, Api::Telemetry) => wrong.push("schemaVersion is not provided".to_owned()),
            (Value::String(version), api) if versions(api).contains(&version.as_str()) => {}
            _ => wrong.push(format!("schemaVersion should be one of {}", versions(api).join(", "))),
        }
        match destination {
            Some(destination) if wrong.is_empty() => Ok(Self { types, destination, max_items, max_bytes, timeout }),
            _ => Err(wrong.join("; ")),
        }
    }
}

fn versions(api: Api) -> &'static [&'static str] {
    match api {
        Api::Logs => &["2020-08-15", "2021-03-18"],
        Api::Telemetry => &["2022-07-01", "2022-12-13", "2025-01-29"],
    }
}

fn types(types: &Value) -> Result<Vec<Category>, String> {
    let types = match types {
        Value::Array(types) if !types.is_empty() => types,
        Value::Array(_) | Value::Null => return Err("types should not be empty".to_owned()),
        _ => return Err("types should be a list".to_owned()),
    };
    let known = |kind: &Value| Category::ALL.into_iter().find(|category| kind.as_str() == Some(category.name()));
    let mut all = Vec::new();
    for kind in types {
        let kind = known(kind).ok_or("types should be of platform, function, extension")?;
        if !all.contains(&kind) {
            all.push(kind);
        }
    }
    Ok(all)
}

fn number(buffering: &Value, name: &str, least: u64, most: u64, default: u64) -> Result<u64, String> {
    match &buffering[name] {
        Value::Null => Ok(default),
        given => given
            .as_u64()
            .filter(|given| (least..=most).contains(given))
            .ok_or_else(|| format!("buffering.{name} should be between {least} and {most}")),
    }
}

fn destination(destination: &Value) -> Result<Destination, String> {
    let reserved = |port: u16| {
        if port == RESERVED { Err(format!("port {RESERVED} is reserved")) } else { Ok(port) }
    };
    match destination["protocol"].as_str() {
        Some("HTTP") => {
            let uri = destination["URI"].as_str().filter(|uri| !uri.is_empty()).ok_or("URI is not provided")?;
            let uri: Uri = uri.parse().map_err(|_| "URI is invalid")?;
            if uri.scheme_str() != Some("http") {
                return Err("URI should begin with http://".to_owned());
            }
            if !matches!(uri.host(), Some(HOST | "sandbox")) {
                return Err(format!("URI host should be {HOST}"));
            }
            let port = uri.port_u16().filter(|port| *port > 0).ok_or("URI port is not provided")?;
            let put = match &destination["method"] {
                Value::Null => false,
                Value::String(method) if method == "POST" => false,
                Value::String(method) if method == "PUT" => true,
                _ => return Err("method should be POST or PUT".to_owned()),
            };
            let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
            Ok(Destination::Http { port: reserved(port)?, put, path, host: format!("{HOST}:{port}") })
        }
        Some("TCP") => {
            let port = destination["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            Ok(Destination::Tcp { port: reserved(port.ok_or("port should be between 1 and 65535")?)? })
        }
        Some(_) => Err("protocol should be HTTP or TCP".to_owned()),
        None => Err("destination is not provided".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = r#""destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:8080/a?b=c"}"#;

    fn parse(rest: &str) -> Result<Subscription, String> {
        let body = format!(r#"{{"schemaVersion":"2022-07-01",{rest}}}"#);
        Subscription::parse(body.as_bytes(), Api::Telemetry)
    }

    #[test]
    fn defaults_are_lambdas() {
        let host = "sandbox.localdomain:8080".to_owned();
        let expected = Subscription {
            types: vec![Category::Platform, Category::Function],
            destination: Destination::Http { port: 8080, put: false, path: "/a?b=c".into(), host },
            max_items: 10_000,
            max_bytes: 262_144,
            timeout: Duration::from_secs(1),
        };
        assert_eq!(parse(&format!(r#""types":["platform","function"],{HTTP}"#)), Ok(expected));
    }

    #[test]
    fn bounds_are_lambdas() {
        let given = |name: &str, value: u64| {
            parse(&format!(r#""types":["extension"],{HTTP},"buffering":{{"{name}":{value}}}"#))
        };
        let bounds = [("maxItems", 1000, 10_000), ("maxBytes", 262_144, 1_048_576), ("timeoutMs", 25, 30_000)];
        for (name, least, most) in bounds {
            for good in [least, most] {
                given(name, good).expect("a subscription");
            }
            for bad in [least - 1, most + 1] {
                let message = format!("buffering.{name} should be between {least} and {most}");
                assert_eq!(given(name, bad), Err(message));
            }
        }
        let subscription = given("timeoutMs", 25).expect("a subscription");
        assert_eq!(subscription.timeout, Duration::from_millis(25));
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let said = parse(r#""types":[],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain/"}"#);
        assert_eq!(said, Err("URI port is not provided; types should not be empty".into()));
        let said = Subscription::parse(b"{}", Api::Telemetry);
        let all = "destination is not provided; types should not be empty; schemaVersion is not provided";
        assert_eq!(said, Err(all.into()));
    }

    #[test]
    fn a_destination_is_inside_the_environment() {
        let cases = [
            (r#"{"protocol":"HTTP","URI":"http://example.com:80/"}"#, "URI host should be sandbox.localdomain"),
            (r#"{"protocol":"HTTP","URI":"http://127.0.0.1:80/"}"#, "URI host should be sandbox.localdomain"),
            (
                r#"{"protocol":"HTTP","URI":"http://sandbox.localdomain:80@example.com/"}"#,
                "URI host should be sandbox.localdomain",
            ),
            (r#"{"protocol":"HTTP","URI":"https://sandbox.localdomain:80/"}"#, "URI should begin with http://"),
            (r#"{"protocol":"HTTP","URI":"http://sandbox.localdomain:9001/"}"#, "port 9001 is reserved"),
            (r#"{"protocol":"HTTP","URI":"http://sandbox.localdomain:0/"}"#, "URI port is not provided"),
            (
                r#"{"protocol":"HTTP","URI":"http://sandbox.localdomain:80/","method":"GET"}"#,
                "method should be POST or PUT",
            ),
            (r#"{"protocol":"HTTP","URI":"::"}"#, "URI is invalid"),
            (r#"{"protocol":"HTTP"}"#, "URI is not provided"),
            (r#"{"protocol":"TCP","port":0}"#, "port should be between 1 and 65535"),
            (r#"{"protocol":"TCP","port":65536}"#, "port should be between 1 and 65535"),
            (r#"{"protocol":"TCP","port":9001}"#, "port 9001 is reserved"),
            (r#"{"protocol":"UDP","port":1}"#, "protocol should be HTTP or TCP"),
        ];
        for (destination, message) in cases {
            let said = parse(&format!(r#""types":["platform"],"destination":{destination}"#));
            assert_eq!(said, Err(message.into()), "{destination}");
        }
        let good = parse(r#""types":["platform"],"destination":{"protocol":"TCP","port":8080}"#);
        assert_eq!(good.expect("a subscription").destination, Destination::Tcp { port: 8080 });
    }

    #[test]
    fn the_older_api_has_versions_of_its_own() {
        let body = |version: &str| format!(r#"{{{version}"types":["function"],{HTTP}}}"#);
        for version in ["", r#""schemaVersion":"2020-08-15","#, r#""schemaVersion":"2021-03-18","#] {
            Subscription::parse(body(version).as_bytes(), Api::Logs).expect("a subscription");
        }
        let said = Subscription::parse(body(r#""schemaVersion":"2022-07-01","#).as_bytes(), Api::Logs);
        assert_eq!(said, Err("schemaVersion should be one of 2020-08-15, 2021-03-18".into()));
    }
}
