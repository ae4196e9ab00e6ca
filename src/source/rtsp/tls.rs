//! RTSP inside TLS: whom to trust.
//!
//! Hardly any camera has a certificate that somebody vouches for. So the certificate of an address
//! is not verified, for nobody could have vouched for it; that of a name is, unless the URL says
//! `rtspx://`. A URL with `#sha256=` accepts the one certificate that it names, and no other.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use ring::digest;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
        SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{
            CryptoProvider, ring as provider, verify_tls12_signature, verify_tls13_signature,
        },
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

/// Whose certificate is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// One that a public authority vouches for, with the right name.
    Verified,
    /// Any.
    Anyone,
    /// This one, whatever its name and whoever signed it.
    Pinned(Fingerprint),
}

impl Trust {
    /// What a URL asks for; none when it asks for no TLS.
    pub(super) fn of(scheme: &str, host: &str, pin: Option<Fingerprint>) -> Option<Self> {
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        match (scheme, pin) {
            ("rtsps" | "rtspx" | "rtsp+https" | "wss", Some(pin)) => Some(Self::Pinned(pin)),
            ("rtspx", _) => Some(Self::Anyone),
            ("rtsps" | "rtsp+https" | "wss", _) if is_address => Some(Self::Anyone),
            ("rtsps" | "rtsp+https" | "wss", _) => Some(Self::Verified),
            _ => None,
        }
    }
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads 64 hexadecimal digits, with colons where people and OpenSSL write them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
            .collect();
        let digits = digits.filter(|digits| digits.len() == 64)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(Self(bytes))
    }

    fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The certificate is not the pinned one, but this.
#[derive(Debug)]
struct Unpinned(Fingerprint);

impl fmt::Display for Unpinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "its SHA-256 is {}", self.0)
    }
}

impl std::error::Error for Unpinned {}

/// Makes a connection to `host` secret.
///
/// # Errors
/// `InvalidData` when the certificate is not trusted, others when the camera speaks no TLS of ours.
pub(super) async fn secure(
    stream: TcpStream,
    host: &str,
    trust: Trust,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|_| io::Error::other("the host is no name that a certificate can have"))?;
    let settings = match trust {
        Trust::Verified => Arc::clone(&VERIFIED),
        Trust::Anyone => Arc::clone(&ANYONE),
        Trust::Pinned(pin) => trusting(Arc::new(Pinned {
            pin,
            provider: provider::default_provider(),
        })),
    };
    let connector = TlsConnector::from(settings);
    connector.connect(name, stream).await
}

/// Why a certificate was not accepted, if that is what went wrong.
pub(super) fn certificate_fault(error: &io::Error) -> Option<String> {
    let cause = error.get_ref()?.downcast_ref::<Error>()?;
    match cause {
        Error::InvalidCertificate(CertificateError::Other(fault)) => Some(fault.to_string()),
        Error::InvalidCertificate(fault) => Some(fault.to_string()),
        _ => None,
    }
}

static VERIFIED: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    Arc::new(
        builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    )
});

static ANYONE: LazyLock<Arc<ClientConfig>> =
    LazyLock::new(|| trusting(Arc::new(Gullible(provider::default_provider()))));

fn trusting(verifier: Arc<dyn ServerCertVerifier>) -> Arc<ClientConfig> {
    let builder = builder().dangerous();
    Arc::new(
        builder
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    )
}

fn builder()
-> tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the protocol versions of the library it comes with")
}

/// Accepts any certificate, and does not look at signatures either: with any certificate accepted
/// they prove nothing, and old cameras have keys that no library of today checks.
#[derive(Debug)]
struct Gullible(CryptoProvider);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts one certificate. Its name, age and signers do not matter, but that the camera has the key
/// to it does: everybody can show a certificate.
#[derive(Debug)]
struct Pinned {
    pin: Fingerprint,
    provider: CryptoProvider,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let shown = Fingerprint::of(certificate);
        if shown == self.pin {
            return Ok(ServerCertVerified::assertion());
        }
        let fault = OtherError(Arc::new(Unpinned(shown)));
        Err(CertificateError::Other(fault).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use tokio::net::TcpListener;
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            ServerConfig, SupportedProtocolVersion,
            pki_types::PrivatePkcs8KeyDer,
            sign,
            version::{TLS12, TLS13},
        },
    };

    use super::*;

    /// Greets a camera that shows `certificate` and signs with `key`.
    async fn greet(
        certificate: &CertificateDer<'static>,
        key: &KeyPair,
        version: &'static SupportedProtocolVersion,
        trust: Trust,
    ) -> io::Result<()> {
        let provider = Arc::new(provider::default_provider());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let key = provider.key_provider.load_private_key(key.into()).unwrap();
        let shown = sign::CertifiedKey::new(vec![certificate.clone()], key);
        let settings = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(sign::SingleCertAndKey::from(shown)));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let camera = async {
            let (stream, _) = listener.accept().await.unwrap();
            // It may be refused.
            let _ = TlsAcceptor::from(Arc::new(settings)).accept(stream).await;
        };
        let ours = async {
            let stream = TcpStream::connect(listener.local_addr()?).await?;
            secure(stream, "cam.lan", trust).await.map(drop)
        };
        tokio::join!(ours, camera).0
    }

    #[tokio::test]
    async fn who_shows_a_pinned_certificate_must_have_its_key() {
        let make = || generate_simple_self_signed(vec!["elsewhere".to_owned()]).unwrap();
        let CertifiedKey { cert, signing_key } = make();
        let (certificate, other) = (cert.der(), make());
        let pinned = Trust::Pinned(Fingerprint::of(certificate));
        for version in [&TLS12, &TLS13] {
            let greet = |key, trust| greet(certificate, key, version, trust);
            assert!(greet(&signing_key, pinned).await.is_ok());
            assert!(greet(&other.signing_key, pinned).await.is_err());
            assert!(greet(&other.signing_key, Trust::Anyone).await.is_ok());
            assert!(greet(&signing_key, Trust::Verified).await.is_err());
        }
    }

    #[test]
    fn addresses_are_trusted_and_names_verified_unless_the_url_says_so() {
        let of = |scheme: &str, host: &str| Trust::of(scheme, host, None);
        assert_eq!(of("rtsp", "10.0.0.1"), None);
        assert_eq!(of("ws", "10.0.0.1"), None);
        assert_eq!(of("rtspx", "cam.lan"), Some(Trust::Anyone));
        for scheme in ["rtsps", "rtsp+https", "wss"] {
            assert_eq!(of(scheme, "10.0.0.1"), Some(Trust::Anyone));
            assert_eq!(of(scheme, "[fd00::1]"), Some(Trust::Anyone));
            assert_eq!(of(scheme, "cam.lan"), Some(Trust::Verified));
        }
    }

    #[test]
    fn a_fingerprint_goes_before_every_other_trust() {
        let text = format!("{}:Ff", "0A:".repeat(31).trim_end_matches(':'));
        let pin = Fingerprint::parse(&text).unwrap();
        assert_eq!(pin.to_string(), format!("{}ff", "0a".repeat(31)));
        for scheme in ["rtsps", "rtspx", "rtsp+https", "wss"] {
            for host in ["10.0.0.1", "cam.lan"] {
                let trust = Trust::of(scheme, host, Some(pin));
                assert_eq!(trust, Some(Trust::Pinned(pin)));
            }
        }
        assert_eq!(Trust::of("rtsp", "cam.lan", Some(pin)), None);
        for bad in ["", "0a", &"0a".repeat(33), &"0g".repeat(32)] {
            assert!(Fingerprint::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_pinned_certificate_is_accepted_and_another_told_by_its_fingerprint() {
        let verify = |pin: Fingerprint, certificate: &[u8]| {
            let provider = provider::default_provider();
            Pinned { pin, provider }.verify_server_cert(
                &CertificateDer::from(certificate),
                &[],
                &ServerName::try_from("cam.lan").unwrap(),
                &[],
                UnixTime::now(),
            )
        };
        let pin = Fingerprint::of(&CertificateDer::from(&b"certificate"[..]));
        assert!(verify(pin, b"certificate").is_ok());
        let error = verify(pin, b"another").unwrap_err();
        let told = certificate_fault(&io::Error::other(error)).unwrap();
        let shown = Fingerprint::of(&CertificateDer::from(&b"another"[..]));
        assert!(told.contains(&shown.to_string()), "{told}");
    }
}
