//! [`View`]: what somebody sees of a camera, on Porthole's page or on one of the tests'.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::browser::{Browser, Page, Viewer, Watch};

use super::Turn;

/// Block size of the demo's picture numbers, in pixels.
const BLOCK: u32 = 16;

/// For how long a picture has to move.
const MOVES_FOR: u32 = 3;

/// Pictures per second that count as moving; the cameras send 25.
const MOVES: u64 = 10;

/// A page with one camera.
#[derive(Debug)]
pub struct View {
    page: Page,
    viewer: Option<Viewer>,
}

/// Settings of an `RTCPeerConnection` that know a TURN server, and nothing but it.
#[must_use]
pub fn settings(turn: &str) -> Value {
    json!({
        "iceTransportPolicy": "relay",
        "iceServers": [{ "urls": turn, "username": Turn::USER, "credential": Turn::PASSWORD }],
    })
}

/// Porthole's page, which plays nothing by itself, to [`View::of`] a camera there.
pub async fn quiet_page(browser: &Browser, base: &str) -> Page {
    let page = browser
        .page(&format!("{base}/?camera=there-is-no-such-camera"))
        .await;
    prepare(&page).await;
    page
}

impl View {
    /// What people have: the page, which begins with the demo.
    pub async fn of_page(browser: &Browser, base: &str) -> Self {
        let page = browser.page(&format!("{base}/")).await;
        prepare(&page).await;
        Self { page, viewer: None }
    }

    /// A camera, over a connection with these settings, from a [`quiet_page`].
    pub async fn of(page: &Page, camera: &str, settings: &Value) -> Self {
        Self::watching(page, camera, settings, Watch::video_and_audio()).await
    }

    /// The same with an offer of this kind.
    pub async fn watching(page: &Page, camera: &str, settings: &Value, watch: Watch) -> Self {
        page.evaluate(&format!("probe.set({settings})")).await;
        let viewer = page.watch(camera, watch.blocks_of(BLOCK)).await;
        Self {
            page: page.clone(),
            viewer: Some(viewer),
        }
    }

    /// The page.
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.page
    }

    /// Leaves, if this is not the page's own view.
    pub async fn close(&self) {
        if let Some(viewer) = &self.viewer {
            viewer.close().await;
        }
    }

    /// Waits for a picture that moves for three seconds, and tells when it began.
    ///
    /// # Panics
    /// When none does within `limit`, or it stops.
    pub async fn moves_within(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        let before = Cell::new(self.progress().await.0);
        crate::eventually("a picture", limit, async || {
            let (now, _) = self.progress().await;
            if now > before.get() {
                return Ok(());
            }
            // A new connection counts from zero.
            before.set(now);
            Err(self.describe().await)
        })
        .await;
        let took = start.elapsed();
        let mut before = self.progress().await;
        for second in 1..=MOVES_FOR {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.progress().await;
            assert!(
                now.0 >= before.0 + MOVES && now.1 > before.1,
                "second {second}: from {before:?} (pictures, seconds) to {now:?}; {}",
                self.describe().await
            );
            before = now;
        }
        took
    }

    /// Pictures, and the video's own time in seconds.
    async fn progress(&self) -> (u64, f64) {
        let progress = self.page.evaluate("probe.progress()").await;
        (
            progress["frames"].as_u64().unwrap_or_default(),
            progress["seconds"].as_f64().unwrap_or_default(),
        )
    }

    /// How the connection came about: `selected` pair of candidates, all `pairs`, what was `offered`
    /// and `answered`. Null without a connection.
    pub async fn path(&self) -> Value {
        self.page.evaluate("probe.path()").await
    }

    /// `RTCInboundRtpStreamStats` of the picture.
    pub async fn video(&self) -> Value {
        self.page.evaluate("probe.video()").await
    }

    async fn describe(&self) -> String {
        let path = self.path().await;
        let path = serde_json::to_string_pretty(&path).unwrap_or_default();
        match &self.viewer {
            None => path,
            Some(viewer) => format!("{path}\n{}", viewer.report().await.summary()),
        }
    }
}

async fn prepare(page: &Page) {
    page.evaluate(&format!("{};0", include_str!("probe.js")))
        .await;
}
