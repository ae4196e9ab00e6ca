//! [`Wire`]: Chromium's `DevTools` protocol, JSON over a WebSocket.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;

use super::text_of;

/// What a page, or the browser about a page, wrote to the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleMessage {
    /// `log`, `warning`, `error` and so on.
    pub level: String,
    /// The text; for objects, what the console shows of them.
    pub text: String,
}

/// The connection over which all pages are driven.
#[derive(Debug)]
pub(super) struct Wire {
    next_id: AtomicU64,
    commands: mpsc::UnboundedSender<String>,
    replies: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// By session.
    consoles: Mutex<HashMap<String, Vec<ConsoleMessage>>>,
}

impl Wire {
    pub(super) async fn connect(url: &str) -> Arc<Self> {
        let (socket, _) = tokio_tungstenite::connect_async(url)
            .await
            .unwrap_or_else(|e| panic!("cannot drive Chromium at {url}: {e}"));
        let (commands, mut queue) = mpsc::unbounded_channel::<String>();
        let wire = Arc::new(Self {
            next_id: AtomicU64::new(1),
            commands,
            replies: Mutex::default(),
            consoles: Mutex::default(),
        });
        let (mut sink, mut stream) = socket.split();
        // Ends with the last page, which holds the other end of the queue.
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                if sink.send(Message::text(command)).await.is_err() {
                    break;
                }
            }
        });
        let receiver = Arc::downgrade(&wire);
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let Some(wire) = receiver.upgrade() else {
                    break;
                };
                if let Message::Text(text) = message {
                    wire.receive(serde_json::from_str(&text).unwrap_or_default());
                }
            }
            // Nobody shall wait for a reply that cannot come any more.
            if let Some(wire) = receiver.upgrade() {
                wire.replies
                    .lock()
                    .expect("no test panics with the lock")
                    .clear();
            }
        });
        wire
    }

    /// Sends a command to Chromium, or to a page if there is a `session`, and gives its result.
    ///
    /// # Panics
    /// When Chromium refuses it or does not reply within 60 s.
    pub(super) async fn call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Value {
        let replied = self.try_call(session, method, parameters).await;
        replied.unwrap_or_else(|refusal| panic!("{method}: {refusal}"))
    }

    /// The same, with a refusal as an error.
    ///
    /// # Panics
    /// When Chromium does not reply within 60 s.
    pub(super) async fn try_call(
        &self,
        session: Option<&str>,
        method: &str,
        parameters: Value,
    ) -> Result<Value, String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let (sender, reply) = oneshot::channel();
        self.replies
            .lock()
            .expect("no test panics with the lock")
            .insert(id, sender);
        self.commands
            .send(command.to_string())
            .expect("the connection to Chromium is open");
        let mut reply = tokio::time::timeout(Duration::from_mins(1), reply)
            .await
            .unwrap_or_else(|_| panic!("Chromium does not reply to {method}"))
            .unwrap_or_else(|_| panic!("Chromium ended during {method}"));
        if reply["error"].is_null() {
            Ok(reply["result"].take())
        } else {
            Err(reply["error"].to_string())
        }
    }

    fn receive(&self, message: Value) {
        if let Some(id) = message["id"].as_u64() {
            let waiting = self
                .replies
                .lock()
                .expect("no test panics with the lock")
                .remove(&id);
            if let Some(waiting) = waiting {
                // A test that gave up waiting has dropped the other end.
                let _ = waiting.send(message);
            }
            return;
        }
        if let Some(noted) = console_message(&message) {
            let session = text_of(&message["sessionId"]);
            let mut consoles = self.consoles.lock().expect("no test panics with the lock");
            consoles.entry(session).or_default().push(noted);
        }
    }

    /// What was written to the console of a session.
    pub(super) fn console(&self, session: &str) -> Vec<ConsoleMessage> {
        let consoles = self.consoles.lock().expect("no test panics with the lock");
        consoles.get(session).cloned().unwrap_or_default()
    }
}

/// What an event of the protocol adds to the console, if it does.
fn console_message(event: &Value) -> Option<ConsoleMessage> {
    let parameters = &event["params"];
    let (level, text) = match event["method"].as_str()? {
        "Runtime.consoleAPICalled" => {
            let shown = |part: &Value| match &part["value"] {
                Value::Null => text_of(&part["description"]),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let parts = parameters["args"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default();
            let parts: Vec<_> = parts.iter().map(shown).collect();
            (text_of(&parameters["type"]), parts.join(" "))
        }
        "Runtime.exceptionThrown" => {
            let thrown = &parameters["exceptionDetails"];
            let text = thrown["exception"]["description"].as_str();
            (
                "error".to_owned(),
                text.map_or_else(|| thrown.to_string(), str::to_owned),
            )
        }
        "Log.entryAdded" => {
            let entry = &parameters["entry"];
            let text = format!("{} {}", text_of(&entry["text"]), text_of(&entry["url"]));
            (text_of(&entry["level"]), text)
        }
        _ => return None,
    };
    Some(ConsoleMessage { level, text })
}
