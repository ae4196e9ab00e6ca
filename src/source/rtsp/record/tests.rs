use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    base::{Program, ProgramKind},
    hub::hub,
};

const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:streamid=0\r\n\
    m=audio 0 RTP/AVP 97\r\na=rtpmap:97 opus/48000/2\r\na=control:streamid=1\r\n";

fn source() -> SourceUrl {
    let words = vec![vec!["ffmpeg".to_owned()]];
    SourceUrl::of_program(Program::new(ProgramKind::Ffmpeg, words, "x"))
}

/// A publisher, request by request.
struct Publisher {
    stream: TcpStream,
    base: String,
}

impl Publisher {
    async fn to(address: &str) -> Self {
        let url = Url::parse(address).unwrap();
        let port = url.port().unwrap();
        Self {
            stream: TcpStream::connect(("127.0.0.1", port)).await.unwrap(),
            base: address.to_owned(),
        }
    }

    /// The status and the head of the answer to a request.
    async fn ask(&mut self, request: &str, headers: &str, body: &str) -> (u16, String) {
        let (method, path) = request.split_once(' ').unwrap_or((request, ""));
        let text = format!(
            "{method} {}{path} RTSP/1.0\r\nCSeq: 7\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.base,
            body.len()
        );
        self.stream.write_all(text.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head)
    }

    async fn announce(&mut self, sdp: &str) -> u16 {
        self.ask("ANNOUNCE", "Content-Type: application/sdp\r\n", sdp)
            .await
            .0
    }

    async fn set_up(&mut self, track: &str, transport: &str) -> (u16, String) {
        let header = format!("Transport: {transport}\r\n");
        self.ask(&format!("SETUP /{track}"), &header, "").await
    }
}

const INSIDE: &str = "RTP/AVP/TCP;unicast;interleaved=4-5;mode=record";

#[tokio::test]
async fn a_publisher_is_heard_and_what_it_does_too_early_is_refused() {
    let recording = Recording::open(&source()).await.unwrap();
    let mut publisher = Publisher::to(&recording.address()).await;
    let publish = async {
        let (status, head) = publisher.ask("OPTIONS", "", "").await;
        assert!(status == 200 && head.contains("RECORD"), "{head}");
        assert_eq!(publisher.ask("RECORD", "", "").await.0, 455);
        assert_eq!(publisher.set_up("streamid=0", INSIDE).await.0, 455);
        assert_eq!(publisher.announce(SDP).await, 200);
        assert_eq!(publisher.ask("RECORD", "", "").await.0, 455);
        let (status, _) = publisher
            .set_up("streamid=0", "RTP/AVP;unicast;client_port=4-5")
            .await;
        assert_eq!(status, 461);
        let (status, head) = publisher.set_up("streamid=0", INSIDE).await;
        assert!(status == 200 && head.contains("interleaved=4-5"), "{head}");
        let (status, head) = publisher.ask("RECORD", "", "").await;
        assert!(status == 200 && head.contains("Session: "), "{head}");
    };
    let (recorded, ()) = tokio::join!(recording.accept(), publish);
    let recorded = recorded.unwrap();
    // The track that was not set up does not come.
    assert_eq!(recorded.tracks(), "H264");
    let (out, hub) = hub();
    let feed = async {
        let mut packet = vec![b'$', 4, 0, 14, 0x80, 0xe0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9];
        packet.extend([0x65, 0x88]);
        publisher.stream.write_all(&packet).await.unwrap();
        drop(publisher);
    };
    let (error, ()) = tokio::join!(recorded.play(&out, Duration::from_secs(5)), feed);
    assert_eq!(error.verdict(), Verdict::ConnectionLost, "{error}");
    drop(hub);
}

#[tokio::test]
async fn strangers_do_not_publish_and_do_not_keep_the_publisher_out() {
    let recording = Recording::open(&source()).await.unwrap();
    let address = recording.address();
    let (place, path) = address.rsplit_once('/').unwrap();
    assert_eq!(path.len(), 32);
    let publish = async {
        // They say nothing, or guess.
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(Publisher::to(&address).await);
        }
        for guess in [
            "",
            "/",
            &format!("/{}", &path[..31]),
            "/00000000000000000000000000000000",
        ] {
            let mut stranger = Publisher::to(&address).await;
            stranger.base = format!("{place}{guess}");
            assert_eq!(stranger.announce(SDP).await, 404, "{guess}");
        }
        let mut nonsense = Publisher::to(&address).await;
        nonsense
            .stream
            .write_all(b"GET / HTTP/1.1\r\n\r\n")
            .await
            .unwrap();
        let mut publisher = Publisher::to(&address).await;
        assert_eq!(publisher.announce(SDP).await, 200);
        for track in ["streamid=1", "streamid=0"] {
            let transport = INSIDE.replace("4-5", if track.ends_with('1') { "2-3" } else { "0-1" });
            assert_eq!(publisher.set_up(track, &transport).await.0, 200);
        }
        assert_eq!(publisher.ask("RECORD", "", "").await.0, 200);
        (publisher, silent)
    };
    let (recorded, _kept) = tokio::join!(recording.accept(), publish);
    let recorded = recorded.unwrap();
    assert_eq!(recorded.tracks(), "H264+opus");
    assert!(matches!(
        recorded.routes[..],
        [Route::Channels(0, 1), Route::Channels(2, 3)]
    ));
}

#[tokio::test]
async fn what_browsers_do_not_play_is_told_at_once() {
    let recording = Recording::open(&source()).await.unwrap();
    let mut publisher = Publisher::to(&recording.address()).await;
    let sdp = "v=0\r\nm=video 0 RTP/AVP 26\r\na=control:streamid=0\r\n";
    let announce = async {
        let text = format!(
            "ANNOUNCE {} RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {}\r\n\r\n{sdp}",
            publisher.base,
            sdp.len()
        );
        publisher.stream.write_all(text.as_bytes()).await.unwrap();
    };
    let (recorded, ()) = tokio::join!(recording.accept(), announce);
    let error = recorded.err().unwrap();
    assert_eq!(error.verdict(), Verdict::UnsupportedVideo, "{error}");
}
