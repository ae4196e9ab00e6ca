//! RTCP ([RFC 3550 §6], [RFC 4585]): what viewers report, and what we report to them.
//!
//! [RFC 3550 §6]: https://datatracker.ietf.org/doc/html/rfc3550#section-6
//! [RFC 4585]: https://datatracker.ietf.org/doc/html/rfc4585

use bytes::{Bytes, BytesMut};
use rtc_rtcp::{
    goodbye::Goodbye,
    packet::{self, Packet},
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    source_description::{
        SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
    },
    transport_feedbacks::{
        transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc},
        transport_layer_nack::{NackPair, TransportLayerNack},
    },
};

/// Lost packets that one message may ask for; more are no loss but an interruption.
const NACKS_MAX: usize = 256;
/// Packets that one message may report on.
const REPORTED_MAX: usize = 1024;

/// One thing that a viewer tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Feedback {
    /// These packets of a stream did not arrive.
    Lost {
        /// The stream.
        ssrc: u32,
        /// Their sequence numbers.
        sequences: Vec<u16>,
    },
    /// The decoder has to begin anew (PLI, FIR).
    KeyFrame {
        /// The stream.
        ssrc: u32,
    },
    /// What the viewer believes that the path takes, in bits per second.
    Bitrate(f32),
    /// When packets arrived, by their number in the connection, on the viewer's clock; none for
    /// those that did not.
    Arrivals(Vec<(u16, Option<i64>)>),
    /// A receiver report's block.
    Reception(Reception),
}

/// How a stream arrives ([RFC 3550 §6.4.2]).
///
/// [RFC 3550 §6.4.2]: https://datatracker.ietf.org/doc/html/rfc3550#section-6.4.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reception {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the last report, of 256.
    pub fraction_lost: u8,
    /// Lost since the start.
    pub total_lost: u32,
    /// The highest sequence number, with its rollovers.
    pub highest: u32,
    /// In ticks of the stream's clock.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report, 0 before the first.
    pub last_report: u32,
    /// How long ago that was, in units of 1/65536 s.
    pub delay: u32,
}

/// A sender report's contents ([RFC 3550 §6.4.1]).
///
/// [RFC 3550 §6.4.1]: https://datatracker.ietf.org/doc/html/rfc3550#section-6.4.1
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Wall time of the frame, 32.32 fixed point seconds since 1900.
    pub ntp: u64,
    /// RTP time of the same frame.
    pub timestamp: u32,
    /// Packets sent until now.
    pub packets: u32,
    /// Payload bytes sent until now.
    pub octets: u32,
}

/// Whether a datagram is RTCP. Payload types of RTP that would be taken for it are not used with the marker
/// ([RFC 5761 §4]).
///
/// [RFC 5761 §4]: https://datatracker.ietf.org/doc/html/rfc5761#section-4
#[must_use]
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram.get(1), Some(192..=223))
}

/// Reads an opened compound packet. What is not understood is left out.
#[must_use]
pub fn read(mut compound: BytesMut) -> Vec<Feedback> {
    let Ok(packets) = packet::unmarshal(&mut compound) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for packet in packets {
        read_one(packet.as_ref(), &mut all);
    }
    all
}

fn read_one(packet: &dyn Packet, all: &mut Vec<Feedback>) {
    let any = packet.as_any();
    if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
        let sequences = nack.nacks.iter().flat_map(NackPair::packet_list);
        all.push(Feedback::Lost {
            ssrc: nack.media_ssrc,
            sequences: sequences.take(NACKS_MAX).collect(),
        });
    } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
        all.push(Feedback::KeyFrame {
            ssrc: pli.media_ssrc,
        });
    } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
        all.extend(
            fir.fir
                .first()
                .map(|entry| Feedback::KeyFrame { ssrc: entry.ssrc }),
        );
    } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
        all.push(Feedback::Bitrate(remb.bitrate));
    } else if let Some(transport) = any.downcast_ref::<TransportLayerCc>() {
        all.push(Feedback::Arrivals(arrivals(transport)));
    } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
        all.extend(report.reports.iter().map(reception));
    } else if let Some(report) = any.downcast_ref::<SenderReport>() {
        all.extend(report.reports.iter().map(reception));
    } else if any.is::<Goodbye>() {
        tracing::trace!("a viewer ends its stream");
    }
}

fn reception(report: &ReceptionReport) -> Feedback {
    Feedback::Reception(Reception {
        ssrc: report.ssrc,
        fraction_lost: report.fraction_lost,
        total_lost: report.total_lost,
        highest: report.last_sequence_number,
        jitter: report.jitter,
        last_report: report.last_sender_report,
        delay: report.delay,
    })
}

/// Arrival times in microseconds, from the chunks and deltas of transport-wide feedback.
fn arrivals(feedback: &TransportLayerCc) -> Vec<(u16, Option<i64>)> {
    let symbols = feedback.packet_chunks.iter().flat_map(|chunk| {
        let symbols: Box<dyn Iterator<Item = SymbolTypeTcc>> = match chunk {
            PacketStatusChunk::RunLengthChunk(run) => Box::new(std::iter::repeat_n(
                run.packet_status_symbol,
                usize::from(run.run_length),
            )),
            PacketStatusChunk::StatusVectorChunk(vector) => {
                Box::new(vector.symbol_list.iter().copied())
            }
        };
        symbols
    });
    let mut deltas = feedback.recv_deltas.iter();
    // In units of 64 ms.
    let mut time = i64::from(feedback.reference_time) * 64_000;
    let count = usize::from(feedback.packet_status_count).min(REPORTED_MAX);
    let mut sequence = feedback.base_sequence_number;
    let mut all = Vec::with_capacity(count);
    for symbol in symbols.take(count) {
        let arrived = match symbol {
            SymbolTypeTcc::PacketReceivedSmallDelta | SymbolTypeTcc::PacketReceivedLargeDelta => {
                deltas.next().map(|delta| {
                    time += delta.delta;
                    time
                })
            }
            _ => None,
        };
        all.push((sequence, arrived));
        sequence = sequence.wrapping_add(1);
    }
    all
}

/// A sender report, with the name that all streams of a viewer share (RFC 3550 §6.1).
#[must_use]
pub fn sender_report(ssrc: u32, report: Report, name: &'static str) -> Option<BytesMut> {
    let packets: [Box<dyn Packet>; 2] = [
        Box::new(SenderReport {
            ssrc,
            ntp_time: report.ntp,
            rtp_time: report.timestamp,
            packet_count: report.packets,
            octet_count: report.octets,
            ..SenderReport::default()
        }),
        Box::new(SourceDescription {
            chunks: vec![SourceDescriptionChunk {
                source: ssrc,
                items: vec![SourceDescriptionItem {
                    sdes_type: SdesType::SdesCname,
                    text: Bytes::from_static(name.as_bytes()),
                }],
            }],
        }),
    ];
    packet::marshal(&packets).ok()
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        RecvDelta, RunLengthChunk, StatusChunkTypeTcc,
    };

    use super::*;

    #[test]
    fn each_message_of_a_compound_is_read() {
        let packets: Vec<Box<dyn Packet>> = vec![
            Box::new(ReceiverReport {
                ssrc: 1,
                reports: vec![ReceptionReport {
                    ssrc: 7,
                    fraction_lost: 13,
                    ..ReceptionReport::default()
                }],
                ..ReceiverReport::default()
            }),
            Box::new(TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: 7,
                nacks: vec![NackPair {
                    packet_id: 65_534,
                    lost_packets: 0b101,
                }],
            }),
            Box::new(PictureLossIndication {
                sender_ssrc: 1,
                media_ssrc: 7,
            }),
            Box::new(ReceiverEstimatedMaximumBitrate {
                sender_ssrc: 1,
                bitrate: 1_000_000.0,
                ssrcs: vec![7],
            }),
        ];
        let read = read(packet::marshal(&packets).unwrap());
        assert!(matches!(read[0], Feedback::Reception(r) if r.fraction_lost == 13 && r.ssrc == 7));
        assert_eq!(
            read[1],
            Feedback::Lost {
                ssrc: 7,
                sequences: vec![65_534, 65_535, 1],
            }
        );
        assert_eq!(read[2], Feedback::KeyFrame { ssrc: 7 });
        assert!(matches!(read[3], Feedback::Bitrate(b) if (b - 1_000_000.0).abs() < 10_000.0));
    }

    #[test]
    fn arrival_times_add_up() {
        let feedback = TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc: 7,
            base_sequence_number: 65_535,
            packet_status_count: 2,
            reference_time: 2,
            fb_pkt_count: 0,
            packet_chunks: vec![PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
                run_length: 2,
            })],
            recv_deltas: [1_000, 2_000]
                .map(|delta| RecvDelta {
                    type_tcc_packet: SymbolTypeTcc::PacketReceivedSmallDelta,
                    delta,
                })
                .to_vec(),
        };
        let read = read(packet::marshal(&[Box::new(feedback) as Box<dyn Packet>]).unwrap());
        let expected = vec![(65_535, Some(129_000)), (0, Some(131_000))];
        assert_eq!(read, [Feedback::Arrivals(expected)]);
    }

    #[test]
    fn junk_says_nothing() {
        for length in 0..64_u8 {
            let junk: Vec<u8> = (0..length).map(|i| i.wrapping_mul(37) ^ length).collect();
            let _ = read(BytesMut::from(&junk[..]));
        }
        assert!(read(BytesMut::from(&[0x80, 205, 0, 9][..])).is_empty());
    }
}
