//! Offers for tests that need no browser.

/// The offer of a Home Assistant card, with candidates that lead nowhere: audio, video, data channel.
///
/// It tests signaling, not media.
#[must_use]
pub fn probe() -> String {
    let fingerprint = (1..=32_u8)
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    let section = |media: &str, mid: u8, lines: &str| {
        format!(
            "m={media}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:pRb1\r\n\
             a=ice-pwd:probeprobeprobeprobe1234\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:{mid}\r\n{lines}"
        )
    };
    let audio = section(
        "audio 9 UDP/TLS/RTP/SAVPF 111 0 8",
        0,
        "a=recvonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
         a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n",
    );
    let video = section(
        "video 9 UDP/TLS/RTP/SAVPF 96 98",
        1,
        "a=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:96 VP8/90000\r\n\
         a=rtpmap:98 H264/90000\r\na=rtcp-fb:98 nack\r\na=rtcp-fb:98 nack pli\r\n\
         a=rtcp-fb:98 ccm fir\r\na=fmtp:98 level-asymmetry-allowed=1;packetization-mode=1;\
         profile-level-id=42e01f\r\n",
    );
    let data = section(
        "application 9 UDP/DTLS/SCTP webrtc-datachannel",
        2,
        "a=sctp-port:5000\r\n\
         a=candidate:1 1 udp 2113937151 6d5a8f0e-0000-4000-8000-000000000001.local 40001 typ host \
         generation 0 ufrag pRb1 network-cost 999\r\n\
         a=candidate:2 1 tcp 1518280447 192.0.2.10 9 typ host tcptype active generation 0 ufrag pRb1\r\n\
         a=[object RTCIceCandidate]\r\na=x-probe:>>>???~~~\r\n",
    );
    format!(
        "v=0\r\no=- 20261120 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2\r\n\
         a=msid-semantic: WMS\r\n{audio}{video}{data}"
    )
}

/// The same with H.265 in place of VP8.
#[must_use]
pub fn probe_with_h265() -> String {
    let h265 =
        "a=rtpmap:96 H265/90000\r\na=fmtp:96 level-id=156;profile-id=1;tier-flag=0;tx-mode=SRST";
    probe().replace("a=rtpmap:96 VP8/90000", h265)
}
