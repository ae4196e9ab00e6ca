//! [`Confinement`]: where cameras may be that somebody else than the configuration has named.
//!
//! Whoever can make an offer chooses a host and a port, and so does a camera that redirects. Neither
//! must make this server call what only it can reach.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

pub use crate::base::reach::Refusal;
use crate::{
    base::{
        Secret, SourceUrl,
        reach::{Own, addresses_of_this_machine, allowed},
    },
    config::{Camera, Config},
};

/// Where sources may connect to. Cheap to clone; the default trusts no URL and knows no port of ours.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The keys of the URLs that the configuration has.
    configured: HashSet<Secret>,
    /// Ports on which this server listens.
    ports: Vec<u16>,
}

impl Confinement {
    /// Lets the cameras of `config` be anywhere, and nobody reach the ports of this server: that of
    /// HTTP, which must be known in `config`, and `media_port`.
    #[must_use]
    pub fn new(config: &Config, media_port: u16) -> Self {
        let configured = config.cameras.values().flat_map(Camera::urls);
        Self {
            inner: Arc::new(Inner {
                configured: configured.map(|url| url.key()).collect(),
                ports: vec![config.listen.port(), media_port],
            }),
        }
    }

    /// Whether the configuration has `url`.
    #[must_use]
    pub fn trusts(&self, url: &SourceUrl) -> bool {
        self.inner.configured.contains(&url.key())
    }

    /// Lets the camera at `url` be anywhere: whoever runs this program has named it.
    #[must_use]
    pub fn of_operator(url: &SourceUrl) -> Self {
        let inner = Inner {
            configured: HashSet::from([url.key()]),
            ports: Vec::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Those of `addresses`, which belong to the host of `url`, that may be connected to.
    ///
    /// # Errors
    /// When that is none of them: why the last one is refused.
    pub fn admit(
        &self,
        url: &SourceUrl,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Refusal> {
        if self.trusts(url) {
            return Ok(addresses);
        }
        let own = Own {
            ports: &self.inner.ports,
            addresses: &addresses_of_this_machine(),
        };
        let mut refusal = None;
        addresses.retain(|address| match allowed(*address, &own) {
            Ok(()) => true,
            Err(reason) => {
                tracing::info!(%address, ?reason, "this address of a camera is not used");
                refusal = Some(reason);
                false
            }
        });
        match refusal {
            Some(reason) if addresses.is_empty() => Err(reason),
            _ => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layer;

    fn url(text: &str) -> SourceUrl {
        SourceUrl::parse(text).unwrap()
    }

    #[test]
    fn the_configuration_may_name_what_others_may_not() {
        let layer = Layer::parse(
            "cameras: {cloud: [\"rtsp://u:p@169.254.169.254/x\", \"rtsp://169.254.169.254/sub\"]}",
        );
        let config = Config::from_layers([layer.unwrap()]).unwrap();
        let confinement = Confinement::new(&config, 8555);
        let there = vec![SocketAddr::from(([169, 254, 169, 254], 554))];
        let admit = |text: &str| confinement.admit(&url(text), there.clone());
        assert_eq!(admit("rtsp://u:p@169.254.169.254/x"), Ok(there.clone()));
        assert_eq!(admit("rtsp://169.254.169.254/sub"), Ok(there.clone()));
        assert_eq!(admit("rtsp://169.254.169.254/x"), Err(Refusal::Never));
        assert_eq!(admit("rtsp://u:p@169.254.169.254/y"), Err(Refusal::Never));
    }

    #[test]
    fn what_is_refused_of_a_name_is_left_out_and_the_rest_is_used() {
        let good = SocketAddr::from(([192, 168, 1, 20], 554));
        let found = vec![
            SocketAddr::from(([0, 0, 0, 0], 554)),
            good,
            SocketAddr::from(([255, 255, 255, 255], 554)),
        ];
        let admitted = Confinement::default().admit(&url("rtsp://camera.lan/"), found);
        assert_eq!(admitted, Ok(vec![good]));
    }
}
