//! From the name of a camera to its addresses, and to a TCP connection.

use std::{io, net::SocketAddr, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};

use super::{CONNECT_LIMIT, diagnose};
use crate::{
    base::{Error, SourceUrl},
    source::Confinement,
};

/// How long a camera may leave bytes unacknowledged, or say nothing before it is probed; between probes, and
/// how many there are.
const PATH_LIMIT: Duration = Duration::from_secs(10);
const PROBE_INTERVAL: Duration = Duration::from_secs(3);
const PROBES: u32 = 3;

/// The addresses of the host of `url` as they are now: a camera may have got another since.
///
/// Digits that stand for an address in another spelling (`0x7f.1`, `2130706433`) are read here, too.
pub(super) async fn look_up(url: &SourceUrl) -> io::Result<Vec<SocketAddr>> {
    let host = url.host().trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, url.port())).await?;
    Ok(found.collect())
}

/// Those of the addresses that `lookup` gives for `url` that `confinement` admits. All connections of
/// one attempt go to these: another lookup could give others than those that were checked.
///
/// # Errors
/// `PermissionDenied` when it admits none of them; `Unavailable` and `DeadlineExceeded` when there are
/// none.
pub(super) async fn find(
    url: &SourceUrl,
    confinement: &Confinement,
    lookup: impl Future<Output = io::Result<Vec<SocketAddr>>>,
) -> Result<Vec<SocketAddr>, Error> {
    let found = match timeout(CONNECT_LIMIT, lookup).await {
        Ok(found) => found.unwrap_or_default(),
        Err(_) => return Err(diagnose::silent(url, "the name server", CONNECT_LIMIT)),
    };
    if found.is_empty() {
        return Err(diagnose::unknown_host(url));
    }
    confinement
        .admit(url, found)
        .map_err(|refusal| diagnose::confined(url, refusal))
}

/// The share of an address is not less: the kernel calls a second time after a second.
const SHARE_MIN: Duration = Duration::from_millis(900);

/// Connects to the first of `addresses` that answers within `limit`. Each has its share of the time, so
/// that one that leads nowhere does not keep us from the next.
///
/// # Errors
/// `Unavailable` and `DeadlineExceeded` when none answers.
pub(super) async fn dial(
    url: &SourceUrl,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, Error> {
    let share: Duration = limit / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    let share = share.max(SHARE_MIN);
    let mut fault = diagnose::silent(url, "the connection", limit);
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                watch_path(&stream);
                return Ok(stream);
            }
            Ok(Err(e)) => fault = diagnose::unreachable(url, e),
            Err(_) => {}
        }
    }
    Err(fault)
}

/// Lets the kernel notice that the camera is gone, or has lost its power and knows nothing of us any more,
/// also while it sends nothing. Where it cannot, silence is noticed all the same.
fn watch_path(stream: &TcpStream) {
    let probes = TcpKeepalive::new()
        .with_time(PATH_LIMIT)
        .with_interval(PROBE_INTERVAL)
        .with_retries(PROBES);
    let socket = SockRef::from(stream);
    let _ = socket.set_tcp_keepalive(&probes);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(PATH_LIMIT));
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        net::Ipv4Addr,
    };

    use tokio::net::TcpListener;

    use super::*;
    use crate::base::{ErrorKind, Verdict};

    fn url() -> SourceUrl {
        SourceUrl::parse("rtsp://u:secret@camera.lan/live").unwrap()
    }

    async fn connect_to(found: Vec<SocketAddr>) -> Result<SocketAddr, Error> {
        let lookup = ready(Ok(found));
        let addresses = find(&url(), &Confinement::default(), lookup).await?;
        let stream = dial(&url(), &addresses, CONNECT_LIMIT).await?;
        Ok(stream.peer_addr().unwrap())
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn of_several_addresses_only_those_that_are_admitted_are_called() {
        // On Linux 0.0.0.0 is this machine: without the check the first would answer.
        let (_open, open) = listener().await;
        let nowhere = SocketAddr::from(([0, 0, 0, 0], open.port()));
        let cloud = SocketAddr::from(([169, 254, 169, 254], 554));
        let closed = listener().await.1;
        assert_eq!(connect_to(vec![nowhere, cloud, open]).await.unwrap(), open);
        assert_eq!(connect_to(vec![closed, open]).await.unwrap(), open);
        for refused in [vec![nowhere], vec![nowhere, cloud]] {
            let error = connect_to(refused).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            let text = error.to_string();
            assert!(
                !text.contains("169.254") && !text.contains("secret"),
                "{text}"
            );
        }
        let error = connect_to(vec![nowhere, closed]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_leads_nowhere_is_told_from_a_silent_name_server() {
        let error = connect_to(Vec::new()).await.unwrap_err();
        assert!(error.to_string().contains("cannot be found"), "{error}");
        let error = find(&url(), &Confinement::default(), pending()).await;
        let error = error.unwrap_err();
        assert_eq!(error.verdict(), Verdict::NameServerSilent, "{error}");
    }

    #[tokio::test]
    async fn addresses_in_other_spellings_are_read_before_they_are_checked() {
        for spelling in [
            "2852039166",
            "0xa9fea9fe",
            "0xa9.254.0xa9fe",
            "0251.0376.0251.0376",
        ] {
            let url = SourceUrl::parse(&format!("rtsp://{spelling}/")).unwrap();
            let error = find(&url, &Confinement::default(), look_up(&url)).await;
            assert_eq!(
                error.unwrap_err().kind(),
                ErrorKind::PermissionDenied,
                "{spelling}"
            );
        }
    }
}
