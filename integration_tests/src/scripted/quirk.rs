//! [`Quirk`]: the rules that real cameras bend.

/// One way in which a camera differs from what the RFCs say, or from what others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    // Of its replies.
    /// `Cseq:` instead of `CSeq:`.
    LowerCaseCseq,
    /// No space after the colon of a header.
    NoSpaceAfterColon,
    /// A description without `Content-Length`.
    NoContentLength,
    /// A description with a `Content-Length` that is wrong by so much.
    WrongContentLength(i32),
    /// A session header with blanks and capitals in odd places.
    OddSession,
    /// PLAY is answered without `RTP-Info`.
    NoRtpInfo,
    /// PLAY is answered with a time and a sequence number in `RTP-Info` that are of nothing.
    WrongRtpInfo,
    /// Interleaved channels are others than those asked for.
    OtherChannels,
    /// SETUP with TCP is answered with a transport by UDP, and nothing is sent before it is asked for
    /// UDP.
    UdpForTcp,
    /// Whatever is sent by UDP is lost.
    UdpLost,
    /// The session ends when no sign of life has come for as long as it was told to live. OPTIONS is one only
    /// if the camera refuses `GET_PARAMETER`.
    StrictTimeout,
    /// Signs of life are not answered while it plays.
    IgnoresKeepalives,
    /// So many frames are sent before PLAY is answered.
    FramesBeforePlay(u32),
    /// So many packets of an older session come before SETUP and PLAY are answered, and after.
    OldSession(u32),

    // Of its packets.
    /// Every frame ends with supplemental information, and no other packet has a marker.
    MarkedSei,
    /// The sets and the supplemental information have markers, as the picture has.
    MarkedEach,
    /// The sequence parameter set has a marker too.
    MarkedSps,
    /// No packet has a marker.
    Unmarked,
    /// Supplemental information comes alone, with a time of its own, before each picture.
    LoneSei,
    /// Pictures have so many slices.
    Slices(u32),
    /// Units larger than this are sent in fragments (FU-A).
    Fragments(usize),
    /// The parameter sets share a packet (STAP-A).
    Aggregates,
    /// The parameter sets are in the description alone.
    NoSets,
    /// Packets have padding and a header extension.
    Padding,
    /// Every picture has the same time.
    ConstantTime,
    /// The clock is fast by so many in a thousand.
    FastClock(i32),
    /// Sequence numbers and times begin shortly before they wrap.
    NearWrap,
    /// So many packets in a thousand are lost.
    Loses(u32),
    /// So many packets in a thousand come after the one that follows them.
    Swaps(u32),
    /// So many packets in a thousand come twice.
    Doubles(u32),
    /// Sender reports come every second (RFC 3550 §6.4.1).
    Reports,
}
