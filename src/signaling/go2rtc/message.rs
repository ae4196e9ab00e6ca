//! What goes over the WebSocket: objects with a `type` and a `value`.

use actix_ws::{AggregatedMessage, CloseCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    base::{Credentials, Diagnosis, Secret},
    config::{IceServer, IceUrl},
};

/// ICE servers of one offer that are looked at, URLs of each, and the longest name or password: that of
/// RFC 8489 for a name.
const SERVERS_MAX: usize = 4;
const URLS_MAX: usize = 8;
const LOGIN_MAX: usize = 512;

/// What comes over the socket, or why no more will be understood.
pub(super) type Received = Result<AggregatedMessage, CloseCode>;

/// A message of a client.
#[derive(Debug, Deserialize)]
pub(super) struct Message {
    /// What it is; unknown ones are ignored.
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    /// What it says.
    #[serde(default)]
    pub(super) value: Value,
}

/// How a client writes its offer, and wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `webrtc` with an object, of Home Assistant, which may have `ice_servers`.
    Object,
    /// `webrtc/offer` with the session description, of go2rtc's own player.
    Text,
}

impl Dialect {
    /// The type of an offer. An error begins with it: players look for that.
    pub(super) fn request(self) -> &'static str {
        match self {
            Self::Object => "webrtc",
            Self::Text => "webrtc/offer",
        }
    }

    /// The session description in the value of an offer.
    pub(super) fn offer(self, value: &Value) -> Option<String> {
        let sdp = match self {
            Self::Object => &value["sdp"],
            Self::Text => value,
        };
        sdp.as_str().map(ToOwned::to_owned)
    }

    /// The ICE servers in the value of an offer, in the form that browsers have for them
    /// (`RTCIceServer`): those that can be used. What is wrong with the others is not told to anybody; the
    /// browser has them too.
    pub(super) fn servers(self, value: &Value) -> Vec<IceServer> {
        let list = match self {
            Self::Object => value["ice_servers"].as_array(),
            Self::Text => None,
        };
        let entries = list.into_iter().flatten().take(SERVERS_MAX);
        entries.filter_map(server).collect()
    }

    pub(super) fn answer(self, sdp: &str) -> String {
        match self {
            Self::Object => frame("webrtc", &json!({ "type": "answer", "sdp": sdp })),
            Self::Text => frame("webrtc/answer", &json!(sdp)),
        }
    }
}

fn server(entry: &Value) -> Option<IceServer> {
    let urls = match &entry["urls"] {
        Value::Array(urls) => urls.as_slice(),
        url => std::slice::from_ref(url),
    };
    let urls = urls.iter().take(URLS_MAX).filter_map(Value::as_str);
    let urls: Vec<_> = urls.filter_map(IceUrl::parse).collect();
    let text = |name: &str| {
        let text = entry[name].as_str()?;
        (!text.is_empty() && text.len() <= LOGIN_MAX).then(|| Secret::new(text))
    };
    let credentials = text("username").zip(text("credential"));
    let credentials = credentials.map(|(user, password)| Credentials { user, password });
    (!urls.is_empty()).then_some(IceServer { urls, credentials })
}

/// Another address of ours.
pub(super) fn candidate(line: &str) -> String {
    frame("webrtc/candidate", &json!(line))
}

/// What went wrong with a message of type `request`. The verdict is ours; go2rtc's clients pass it over.
pub(super) fn error(request: &str, sentence: &str, diagnosis: &Diagnosis) -> String {
    let value = format!("{request}: {sentence}");
    format!(
        "{}\n",
        json!({ "type": "error", "value": value, "verdict": diagnosis })
    )
}

fn frame(kind: &str, value: &Value) -> String {
    format!("{}\n", json!({ "type": kind, "value": value }))
}

/// An address of ours that was found after the answer.
pub(super) fn late_candidate(line: &str) -> String {
    candidate(&format!("candidate:{line}"))
}

/// An answer without its candidates, and these, each once. Clients take them for the first section's:
/// if that one is refused they would go nowhere, and stay in the answer.
pub(super) fn trickled(answer: &str) -> (String, Vec<String>) {
    let mut sections = answer.lines().filter(|line| line.starts_with("m="));
    let first = sections.next().unwrap_or_default();
    if first.split(' ').nth(1) == Some("0") {
        return (answer.to_owned(), Vec::new());
    }
    let mut candidates: Vec<String> = Vec::new();
    let mut sdp = String::with_capacity(answer.len());
    for line in answer.split_inclusive('\n') {
        let content = line.trim_end();
        if let Some(candidate) = content
            .strip_prefix("a=")
            .filter(|a| a.starts_with("candidate:"))
        {
            if candidates.iter().all(|known| known != candidate) {
                candidates.push(candidate.to_owned());
            }
        } else if content != "a=end-of-candidates" {
            sdp.push_str(line);
        }
    }
    (sdp, candidates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Verdict;

    #[test]
    fn the_type_may_follow_the_value_and_either_may_be_missing() {
        let read = |text| serde_json::from_str::<Message>(text).unwrap();
        let message = read(
            r#"{"value":{"sdp":"v=0\r\n","ice_servers":[{"urls":["stun:h"]}],"type":"offer"},"type":"webrtc"}"#,
        );
        assert_eq!(message.kind, "webrtc");
        assert_eq!(Dialect::Object.offer(&message.value).unwrap(), "v=0\r\n");
        assert_eq!(Dialect::Text.offer(&message.value), None);
        assert!(read(r#"{"type":"mse"}"#).value.is_null());
        assert!(read("{}").kind.is_empty());
    }

    #[test]
    fn ice_servers_are_read_as_browsers_have_them_and_their_logins_are_not_printed() {
        let value = json!({ "ice_servers": [
            { "urls": ["stun:stun.example:3478", "stun:stun.example:80", "http://x", 7] },
            { "urls": "turn:turn.example?transport=tcp", "username": "u1", "credential": "hunter2" },
            { "urls": ["turns:turn.example"], "username": "", "credential": "x" },
            { "url": "stun:old.example" },
            { "urls": "stun:the-fifth.example" },
        ] });
        let servers = Dialect::Object.servers(&value);
        let urls: Vec<_> = servers
            .iter()
            .map(|server| {
                server
                    .urls
                    .iter()
                    .map(|url| url.server.to_string())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(
            urls,
            [
                vec!["stun.example:3478", "stun.example:80"],
                vec!["turn.example:3478"],
                vec!["turn.example:5349"]
            ]
        );
        let logins = servers.iter().map(|server| server.credentials.is_some());
        assert!(logins.eq([false, true, false]));
        let printed = format!("{servers:?}");
        assert!(
            !printed.contains("hunter2") && !printed.contains("u1"),
            "{printed}"
        );
        for odd in [
            json!(null),
            json!([]),
            json!({ "ice_servers": "stun:x" }),
            json!({ "ice_servers": [1, null, []] }),
        ] {
            assert!(Dialect::Object.servers(&odd).is_empty(), "{odd}");
        }
        assert!(Dialect::Text.servers(&value).is_empty());
    }

    #[test]
    fn answers_are_in_the_dialect_of_the_offer_and_end_their_line() {
        assert_eq!(
            Dialect::Object.answer("v=0\r\n"),
            "{\"type\":\"webrtc\",\"value\":{\"sdp\":\"v=0\\r\\n\",\"type\":\"answer\"}}\n"
        );
        assert_eq!(
            Dialect::Text.answer("v=0\r\n"),
            "{\"type\":\"webrtc/answer\",\"value\":\"v=0\\r\\n\"}\n"
        );
        assert_eq!(
            error(
                Dialect::Text.request(),
                "stream not found",
                &Verdict::UnknownCamera.into()
            ),
            "{\"type\":\"error\",\"value\":\"webrtc/offer: stream not found\",\"verdict\":{\"advice\":\"Choose a \
             name that GET /cameras lists, or add the camera to the configuration.\",\"cause\":\"There is no \
             camera with this name.\",\"code\":\"unknown-camera\",\"evidence\":null,\"stage\":\"request\"}}\n"
        );
    }

    #[test]
    fn candidates_leave_the_answer_each_once_and_nothing_else_does() {
        let answer = "v=0\r\nm=video 9 x 96\r\na=ice-ufrag:a\r\na=candidate:1 1 udp 9 192.0.2.1 5 typ host\r\n\
                      a=candidate:1 1 udp 9 192.0.2.1 5 typ host\r\na=candidate:2 1 tcp 8 192.0.2.1 5 typ host\r\n\
                      a=end-of-candidates\r\na=mid:0\r\n";
        let (sdp, candidates) = trickled(answer);
        assert_eq!(sdp, "v=0\r\nm=video 9 x 96\r\na=ice-ufrag:a\r\na=mid:0\r\n");
        assert_eq!(
            candidates,
            [
                "candidate:1 1 udp 9 192.0.2.1 5 typ host",
                "candidate:2 1 tcp 8 192.0.2.1 5 typ host"
            ]
        );
    }
}
