//! RTSP inside TLS: whom to trust.
//!
//! Hardly any camera has a certificate that somebody vouches for. So the certificate of an address
//! is not verified, for nobody could have vouched for it; that of a name is, unless the URL says
//! `rtspx://`.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring},
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
}

impl Trust {
    /// What a URL asks for; none when it asks for no TLS.
    pub(super) fn of(scheme: &str, host: &str) -> Option<Self> {
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        match scheme {
            "rtspx" => Some(Self::Anyone),
            "rtsps" if is_address => Some(Self::Anyone),
            "rtsps" => Some(Self::Verified),
            _ => None,
        }
    }
}

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
        Trust::Verified => &*VERIFIED,
        Trust::Anyone => &*ANYONE,
    };
    let connector = TlsConnector::from(Arc::clone(settings));
    connector.connect(name, stream).await
}

/// Why a certificate was not accepted, if that is what went wrong.
pub(super) fn certificate_fault(error: &io::Error) -> Option<String> {
    let cause = error.get_ref()?.downcast_ref::<Error>()?;
    match cause {
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

static ANYONE: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let verifier = Arc::new(Gullible(Arc::new(ring::default_provider())));
    let builder = builder().dangerous();
    Arc::new(
        builder
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth(),
    )
});

fn builder()
-> tokio_rustls::rustls::ConfigBuilder<ClientConfig, tokio_rustls::rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the protocol versions of the library it comes with")
}

/// Accepts any certificate, and does not look at signatures either: with any certificate accepted
/// they prove nothing, and old cameras have keys that no library of today checks.
#[derive(Debug)]
struct Gullible(Arc<CryptoProvider>);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_trusted_and_names_verified_unless_the_url_says_so() {
        assert_eq!(Trust::of("rtsp", "10.0.0.1"), None);
        assert_eq!(Trust::of("rtsps", "10.0.0.1"), Some(Trust::Anyone));
        assert_eq!(Trust::of("rtsps", "[fd00::1]"), Some(Trust::Anyone));
        assert_eq!(Trust::of("rtsps", "cam.lan"), Some(Trust::Verified));
        assert_eq!(Trust::of("rtspx", "cam.lan"), Some(Trust::Anyone));
    }
}
