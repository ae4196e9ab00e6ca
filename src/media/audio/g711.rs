//! G.711 to linear samples ([ITU-T G.711]).
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

#[cfg(test)]
mod tests {
    use super::*;

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
