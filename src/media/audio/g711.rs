//! G.711 to linear samples and back ([ITU-T G.711]).
//!
//! [ITU-T G.711]: https://www.itu.int/rec/T-REC-G.711

/// What a byte of µ-law stands for.
pub(super) fn ulaw(byte: u8) -> i16 {
    let code = !byte;
    let exponent = code >> 4 & 0x07;
    let mantissa = i16::from(code & 0x0f);
    let magnitude = ((mantissa << 3 | 0x84) << exponent) - 0x84;
    if code & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// What a byte of A-law stands for.
pub(super) fn alaw(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let exponent = code >> 4 & 0x07;
    let mantissa = i16::from(code & 0x0f) << 4 | 8;
    let magnitude = match exponent {
        0 => mantissa,
        exponent => (mantissa | 0x100) << (exponent - 1),
    };
    if code & 0x80 == 0 {
        -magnitude
    } else {
        magnitude
    }
}

/// The byte of µ-law that stands for a sample best.
pub(super) fn to_ulaw(sample: i16) -> u8 {
    let magnitude = sample.unsigned_abs().min(32_635) + 0x84;
    let (exponent, mantissa) = parts(magnitude);
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | exponent << 4 | mantissa)
}

/// The byte of A-law that stands for a sample best.
pub(super) fn to_alaw(sample: i16) -> u8 {
    let (sign, magnitude) = if sample < 0 {
        (0, (!sample).unsigned_abs())
    } else {
        (0x80, sample.unsigned_abs())
    };
    let (exponent, mantissa) = if magnitude < 0x100 {
        (0, low_four(magnitude >> 4))
    } else {
        parts(magnitude)
    };
    (sign | exponent << 4 | mantissa) ^ 0x55
}

/// The place of the highest bit from the eighth on, and the four bits behind it.
fn parts(magnitude: u16) -> (u8, u8) {
    let exponent = 8_u32.saturating_sub(magnitude.leading_zeros());
    let mantissa = low_four(magnitude >> (exponent + 3));
    (u8::try_from(exponent).unwrap_or(0), mantissa)
}

fn low_four(bits: u16) -> u8 {
    bits.to_le_bytes()[0] & 0x0f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_comes_back_and_a_sample_gets_the_nearest() {
        for byte in 0..=u8::MAX {
            // The two zeros of µ-law sound the same.
            let back = to_ulaw(ulaw(byte));
            assert!(back == byte || (byte, back) == (0x7f, 0xff), "{byte:#x}");
            assert_eq!(to_alaw(alaw(byte)), byte);
        }
        for sample in i16::MIN..=i16::MAX {
            let step = (i32::from(sample).abs() >> 4).max(16);
            for heard in [ulaw(to_ulaw(sample)), alaw(to_alaw(sample))] {
                let wrong = (i32::from(heard) - i32::from(sample)).abs();
                // The loudest are beyond what the laws have.
                assert!(wrong <= step.min(644), "{sample} became {heard}");
            }
        }
    }

    #[test]
    fn known_codes_stand_for_known_samples() {
        // ITU-T G.711, tables 2a and 1a: the ends and the middle of both halves.
        for (code, sample) in [
            (0x80, 32_124),
            (0x00, -32_124),
            (0xff, 0),
            (0x7f, 0),
            (0xfe, 8),
            (0x6e, -148),
        ] {
            assert_eq!(ulaw(code), sample, "{code:#x}");
        }
        for (code, sample) in [
            (0xaa, 32_256),
            (0x2a, -32_256),
            (0xd5, 8),
            (0x55, -8),
            (0xc5, 264),
        ] {
            assert_eq!(alaw(code), sample, "{code:#x}");
        }
    }

    #[test]
    fn each_code_has_a_sample_of_its_own_and_its_opposite() {
        for byte in 0..=u8::MAX {
            assert_eq!(ulaw(byte), -ulaw(byte ^ 0x80));
            assert_eq!(alaw(byte), -alaw(byte ^ 0x80));
        }
    }
}
