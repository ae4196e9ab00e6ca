//! Frames to RTP payloads.

mod cut;
pub mod h264;
pub mod h265;

/// Largest RTP payload sent, in bytes: a UDP payload of 1200 bytes, which passes every path that
/// carries IPv6 (1280) through a tunnel or two, less the 12-byte header of [RFC 3550 §5.1], up to 16
/// bytes of header extensions, the 2 bytes by which a packet that is sent again grows
/// ([RFC 4588 §4]), and the 16 bytes by which the largest SRTP transform in use grows each
/// ([RFC 7714 §13.2]).
///
/// [RFC 3550 §5.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-5.1
/// [RFC 4588 §4]: https://datatracker.ietf.org/doc/html/rfc4588#section-4
/// [RFC 7714 §13.2]: https://datatracker.ietf.org/doc/html/rfc7714#section-13.2
pub const PAYLOAD_MAX: usize = 1200 - 12 - 16 - 2 - 16;
