//! AAC-LC access units to samples, by Symphonia's decoder.

use symphonia_codec_aac::AacDecoder;
use symphonia_core::{
    codecs::audio::{
        AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known::CODEC_ID_AAC,
    },
    packet::PacketRef,
    units::{Duration, Timestamp},
};

use super::config::{AacConfig, FRAME};

/// Takes access units in their order.
pub(super) struct Decoder {
    /// None if Symphonia refuses the configuration, which it does of none that is read.
    inner: Option<AacDecoder>,
    channels: usize,
    samples: Vec<f32>,
}

impl Decoder {
    pub(super) fn new(config: AacConfig) -> Self {
        let mut parameters = AudioCodecParameters::new();
        parameters
            .for_codec(CODEC_ID_AAC)
            .with_extra_data(config.core().into_boxed_slice());
        let inner = AacDecoder::try_new(&parameters, &AudioDecoderOptions::default());
        Self {
            inner: inner.ok(),
            channels: usize::from(config.channels.count()),
            samples: Vec::new(),
        }
    }

    /// The next unit does not follow the last one.
    pub(super) fn reset(&mut self) {
        if let Some(decoder) = &mut self.inner {
            decoder.reset();
        }
    }

    /// The samples of a unit, all channels in turn; none if it is damaged.
    pub(super) fn decode(&mut self, unit: &[u8]) -> Option<&[f32]> {
        // No element fits, and the decoder would give its last samples again.
        if unit.len() < 2 {
            return None;
        }
        let duration = Duration::new(FRAME as u64);
        let packet = PacketRef::new(0, Timestamp::new(0), duration, unit);
        let decoded = self.inner.as_mut()?.decode_ref(&packet).ok()?;
        decoded.copy_to_vec_interleaved(&mut self.samples);
        // Damage that nobody notices can be of any loudness.
        for sample in &mut self.samples {
            *sample = if sample.is_finite() {
                sample.clamp(-1.0, 1.0)
            } else {
                0.0
            };
        }
        (self.samples.len() == FRAME * self.channels).then_some(&self.samples[..])
    }
}
