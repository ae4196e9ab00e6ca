//! Offers as poorer clients write them.

/// The offer of a client that knows no retransmission streams (RFC 4588).
#[must_use]
pub fn without_rtx(offer: &str) -> String {
    let payload_types: Vec<_> = offer
        .lines()
        .filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '))
        .filter(|(_, encoding)| encoding.to_ascii_lowercase().starts_with("rtx/"))
        .map(|(payload_type, _)| payload_type)
        .collect();
    let of_rtx = |word: &str| payload_types.contains(&word);
    altered(offer, |line| {
        if let Some(rest) = line.strip_prefix("m=") {
            let words = rest.split(' ').enumerate();
            let kept: Vec<_> = words
                .filter(|(index, word)| *index < 3 || !of_rtx(word))
                .map(|(_, word)| word)
                .collect();
            return Some(format!("m={}", kept.join(" ")));
        }
        let attribute = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"]
            .into_iter()
            .find_map(|name| line.strip_prefix(name))
            .and_then(|rest| rest.split(' ').next());
        (!attribute.is_some_and(of_rtx) && !line.starts_with("a=ssrc-group:FID"))
            .then(|| line.to_owned())
    })
}

/// The offer of a client that does not group its sections (RFC 9143).
#[must_use]
pub fn without_bundle(offer: &str) -> String {
    altered(offer, |line| {
        (!line.starts_with("a=group:BUNDLE")).then(|| line.to_owned())
    })
}

/// Each line as `alter` leaves it.
fn altered(offer: &str, alter: impl Fn(&str) -> Option<String>) -> String {
    offer
        .lines()
        .filter_map(alter)
        .map(|line| line + "\r\n")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\na=group:BUNDLE 0\r\nm=video 97 UDP/TLS/RTP/SAVPF 96 97 98\r\n\
        a=rtpmap:96 H264/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 VP8/90000\r\n";

    #[test]
    fn only_what_belongs_to_retransmission_is_taken_out() {
        assert_eq!(
            without_rtx(OFFER),
            "v=0\r\na=group:BUNDLE 0\r\nm=video 97 UDP/TLS/RTP/SAVPF 96 98\r\n\
             a=rtpmap:96 H264/90000\r\na=rtpmap:98 VP8/90000\r\n"
        );
    }

    #[test]
    fn only_the_group_is_taken_out() {
        assert_eq!(
            without_bundle(OFFER),
            OFFER.replace("a=group:BUNDLE 0\r\n", "")
        );
    }
}
