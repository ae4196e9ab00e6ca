//! [`Decoder`]: packets of any [`Format`] to linear samples.

use super::{
    Channels, Coding, Format, aac,
    config::{AacConfig, FRAME},
    g711, g722, g726, latm, rfc3640,
};

/// Samples decoded of one packet, all channels in turn.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub(super) rate: u32,
    pub(super) channels: Channels,
    /// How many samples of a channel lie between the packet's time and the first of these.
    pub(super) offset: usize,
    pub(super) samples: &'a [f32],
    /// Something was lost or could not be decoded immediately before.
    pub(super) is_broken: bool,
}

/// Takes packets and gives samples between -1 and 1.
pub(super) struct Decoder {
    kind: Kind,
    samples: Vec<f32>,
    is_broken: bool,
}

enum Kind {
    Aac(rfc3640::Depacketizer, AacConfig, aac::Decoder),
    Latm(latm::Depacketizer, Option<(AacConfig, aac::Decoder)>),
    /// One byte is one sample.
    Table(Box<[f32; 256]>, u32, Channels),
    G722(Box<g722::Decoder>),
    G726(Box<g726::Decoder>),
    L16(u32, Channels),
}

impl Decoder {
    pub(super) fn new(format: Format) -> Self {
        let table = |decode: fn(u8) -> i16| {
            let mut table = Box::new([0.0; 256]);
            for (value, code) in table.iter_mut().zip(0..=u8::MAX) {
                *value = float(decode(code));
            }
            table
        };
        let kind = match format.coding {
            Coding::Aac(config, header) => Kind::Aac(
                rfc3640::Depacketizer::new(header),
                config,
                aac::Decoder::new(config),
            ),
            Coding::Latm(mux, is_in_band) => {
                Kind::Latm(latm::Depacketizer::new(mux, is_in_band), None)
            }
            Coding::Ulaw(rate, channels) => Kind::Table(table(g711::ulaw), rate, channels),
            Coding::Alaw(rate, channels) => Kind::Table(table(g711::alaw), rate, channels),
            Coding::G722 => Kind::G722(Box::default()),
            Coding::G726(packing) => Kind::G726(Box::new(g726::Decoder::new(packing))),
            Coding::L16(rate, channels) => Kind::L16(rate, channels),
        };
        Self {
            kind,
            samples: Vec::new(),
            is_broken: false,
        }
    }

    /// Packets were lost before the next.
    pub(super) fn interrupt(&mut self) {
        self.is_broken = true;
        match &mut self.kind {
            Kind::Aac(depacketizer, _, decoder) => {
                depacketizer.interrupt();
                decoder.reset();
            }
            Kind::Latm(depacketizer, decoder) => {
                depacketizer.interrupt();
                if let Some((_, decoder)) = decoder {
                    decoder.reset();
                }
            }
            // These hold no more than a few milliseconds, and find their way back.
            Kind::Table(..) | Kind::G722(_) | Kind::G726(_) | Kind::L16(..) => {}
        }
    }

    /// Gives the samples of a payload, in one block or one for each access unit.
    pub(super) fn push(&mut self, payload: &[u8], marker: bool, mut out: impl FnMut(Decoded<'_>)) {
        let Self {
            kind,
            samples,
            is_broken,
        } = self;
        samples.clear();
        let (rate, channels) = match kind {
            Kind::Aac(depacketizer, config, decoder) => {
                depacketizer.push(payload, |number, unit| {
                    unit_of(decoder, *config, number, unit, is_broken, &mut out);
                });
                return;
            }
            Kind::Latm(depacketizer, current) => {
                depacketizer.push(payload, marker, |number, config, unit| {
                    if current.as_ref().is_none_or(|(of, _)| *of != config) {
                        *current = Some((config, aac::Decoder::new(config)));
                    }
                    if let Some((_, decoder)) = current {
                        unit_of(decoder, config, number, unit, is_broken, &mut out);
                    }
                });
                return;
            }
            Kind::Table(table, rate, channels) => {
                samples.extend(payload.iter().map(|code| table[usize::from(*code)]));
                (*rate, *channels)
            }
            Kind::G722(decoder) => {
                samples.extend(
                    payload
                        .iter()
                        .flat_map(|byte| decoder.decode(*byte))
                        .map(float),
                );
                (16_000, Channels::Mono)
            }
            Kind::G726(decoder) => {
                decoder.decode(payload, |sample| samples.push(float(sample)));
                (8_000, Channels::Mono)
            }
            Kind::L16(rate, channels) => {
                let pairs = payload.chunks_exact(2);
                samples.extend(pairs.map(|pair| float(i16::from_be_bytes([pair[0], pair[1]]))));
                (*rate, *channels)
            }
        };
        let whole = samples.len() - samples.len() % usize::from(channels.count());
        if whole > 0 {
            out(Decoded {
                rate,
                channels,
                offset: 0,
                samples: &samples[..whole],
                is_broken: std::mem::take(is_broken),
            });
        }
    }
}

fn unit_of(
    decoder: &mut aac::Decoder,
    config: AacConfig,
    number: usize,
    unit: &[u8],
    is_broken: &mut bool,
    out: &mut impl FnMut(Decoded<'_>),
) {
    let Some(samples) = decoder.decode(unit) else {
        *is_broken = true;
        return;
    };
    out(Decoded {
        rate: config.rate,
        channels: config.channels,
        offset: number * FRAME,
        samples,
        is_broken: std::mem::take(is_broken),
    });
}

fn float(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}
