//! The Picture Entity card, as the browser shows it.

use std::time::Duration;

use integration_tests::{browser::Page, eventually, home_assistant::HomeAssistant, server::Server};

/// The video of the card that plays WebRTC, inside all the shadow trees: whether it is to be seen, whether
/// its source is a live stream, how many pictures it has shown, its width, and the sum of some pixels.
///
/// The card starts HLS as well and shows whichever works, so that a picture alone proves nothing. The
/// player of 2025 is hidden until it has decoded one.
const VIDEO: &str = "(() => {
    const find = (root) => {
        for (const element of root.querySelectorAll('*')) {
            if (element.localName === 'ha-web-rtc-player') return element;
            const found = element.shadowRoot && find(element.shadowRoot);
            if (found) return found;
        }
    };
    const player = find(document);
    const video = player?.shadowRoot?.querySelector('video');
    if (!video) return { seen: document.title };
    const canvas = new OffscreenCanvas(64, 36);
    const context = canvas.getContext('2d');
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
    return {
        visible: player.checkVisibility({ visibilityProperty: true, opacityProperty: true }),
        live: video.srcObject instanceof MediaStream,
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
        width: video.videoWidth,
        pixels: pixels.reduce((sum, value, at) => (sum * 31 + value * (at % 251)) % 1000000007, 7),
    };
})()";

/// Waits until the dashboard's card plays a camera of 1280x720 and goes on playing it, over WebRTC.
pub(super) async fn plays(page: &Page, server: &Server, home_assistant: &HomeAssistant) {
    let limit = Duration::from_mins(1);
    let first = eventually("the card shows a live stream", limit, || async {
        let video = page.evaluate(VIDEO).await;
        let playing = video["live"] == true && video["visible"] == true;
        if playing && video["frames"].as_u64() > Some(0) {
            Ok(video)
        } else {
            Err(format!(
                "{video}\n{:#?}\n{}\n{}",
                page.console(),
                server.log(),
                home_assistant.log()
            ))
        }
    })
    .await;
    assert_eq!(first["width"], 1280, "{first}");
    // A second of a camera that sends 25 pictures in it.
    let later = eventually("the picture moves on", Duration::from_secs(10), || async {
        let video = page.evaluate(VIDEO).await;
        if video["frames"].as_u64() >= first["frames"].as_u64().map(|frames| frames + 25) {
            Ok(video)
        } else {
            Err(format!("{first}, then {video}"))
        }
    })
    .await;
    assert_eq!(later["live"], true, "{later}");
    assert_ne!(first["pixels"], later["pixels"], "the same picture again");
}
