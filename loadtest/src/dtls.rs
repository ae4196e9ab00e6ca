//! DTLS 1.2 records, as far as clear text shows them and as an attacker would write them.

/// The SRTP profile that a `ServerHello` chooses (RFC 5764, 4.1.1); `None` of any other datagram.
pub(crate) fn srtp_profile(datagram: &[u8]) -> Option<&'static str> {
    // A record header has 13 bytes, a handshake header 12.
    if datagram.first() != Some(&22) || datagram.get(13) != Some(&2) {
        return None;
    }
    let mut body = datagram.get(13 + 12..)?;
    take(&mut body, 2 + 32)?; // version and random
    let session_id = take(&mut body, 1)?[0];
    take(&mut body, usize::from(session_id))?;
    take(&mut body, 2 + 1 + 2)?; // cipher suite, compression, length of extensions
    loop {
        let head = take(&mut body, 4)?;
        let content = take(
            &mut body,
            usize::from(u16::from_be_bytes([head[2], head[3]])),
        )?;
        if head[..2] == [0, 14] {
            return Some(match content.get(2..4)? {
                [0, 1] => "AES_128_CM_SHA1_80",
                [0, 7] => "AEAD_AES_128_GCM",
                [0, 8] => "AEAD_AES_256_GCM",
                _ => "other",
            });
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

/// A handshake record with this message, numbered `sequence`, in epoch 0.
fn record(content_type: u8, sequence: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut record = vec![content_type, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0];
    record.extend(sequence.to_be_bytes());
    record.extend(length.to_be_bytes());
    record.extend_from_slice(content);
    record
}

/// A `ClientHello` that a server would answer if it came from its peer.
pub(crate) fn client_hello(sequence: u16) -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend(random_bytes(32));
    body.extend([0, 0]); // no session, no cookie
    body.extend([0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // ECDHE with AES-128-GCM
    body.extend([1, 0]); // no compression
    let extensions: [&[u8]; 5] = [
        &[0, 10, 0, 4, 0, 2, 0, 23],         // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],                // ec_point_formats
        &[0, 13, 0, 6, 0, 4, 4, 3, 4, 1],    // signature_algorithms
        &[0, 14, 0, 7, 0, 4, 0, 7, 0, 1, 0], // use_srtp
        &[0, 23, 0, 0],                      // extended_master_secret
    ];
    let extensions = extensions.concat();
    body.extend(u16::try_from(extensions.len()).unwrap_or(0).to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let mut message = vec![1];
    message.extend_from_slice(&length[1..]);
    message.extend([0, 0, 0, 0, 0]); // message_seq, fragment_offset
    message.extend_from_slice(&length[1..]);
    message.extend(body);
    record(22, sequence, &message)
}

/// A record of a random kind: alert, change of cipher, application data or handshake, with random content.
pub(crate) fn junk_record(sequence: u16) -> Vec<u8> {
    let length = rand::random_range(1..400);
    record(rand::random_range(20..=23), sequence, &random_bytes(length))
}

/// A fatal alert in clear text, which must not end somebody else's handshake.
pub(crate) fn alert(sequence: u16) -> Vec<u8> {
    record(21, sequence, &[2, 40])
}

/// Bytes of noise.
pub(crate) fn random_bytes(count: usize) -> Vec<u8> {
    (0..count).map(|_| rand::random()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_profile_of_a_server_hello() {
        let mut body = vec![0xfe, 0xfd];
        body.extend([1; 32]);
        body.extend([0, 0xc0, 0x2b, 0, 0, 13]);
        body.extend([0, 23, 0, 0, 0, 14, 0, 5, 0, 2, 0, 7, 0]);
        let message = [&[2, 0, 0, 53, 0, 0, 0, 0, 0, 0, 0, 53][..], &body].concat();
        assert_eq!(
            srtp_profile(&record(22, 0, &message)),
            Some("AEAD_AES_128_GCM")
        );
        assert_eq!(srtp_profile(&record(22, 0, &message[..30])), None);
        assert_eq!(srtp_profile(&client_hello(0)), None);
    }

    #[test]
    fn a_client_hello_has_consistent_lengths() {
        let hello = client_hello(3);
        assert_eq!(
            usize::from(u16::from_be_bytes([hello[11], hello[12]])),
            hello.len() - 13
        );
        assert_eq!(
            usize::from(u16::from_be_bytes([hello[15], hello[16]])),
            hello.len() - 25
        );
        assert_eq!(hello[10], 3);
    }
}
