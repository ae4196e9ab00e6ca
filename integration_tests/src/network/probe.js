// Beside viewer.js: which connections a page has made, with what settings, and over which path.
globalThis.probe ??= (() => {
  const connections = [];
  let settings = {};

  const Native = RTCPeerConnection;
  globalThis.RTCPeerConnection = class extends Native {
    constructor(own = {}) {
      super({ ...own, ...settings });
      connections.push(this);
    }
  };

  // Connections to be made from now on.
  function set(wanted) {
    settings = wanted;
  }

  // Of the page itself, or of viewer.js.
  function current() {
    return connections.at(-1) ?? globalThis.porthole?.player?.pc ?? null;
  }

  // How far the picture is that was asked for last.
  function progress() {
    const video = [...document.querySelectorAll('video')].at(-1);
    return { frames: video.getVideoPlaybackQuality().totalVideoFrames, seconds: video.currentTime };
  }

  function candidates(description) {
    return (description?.sdp ?? '').split('\r\n').filter((line) => line.startsWith('a=candidate:'));
  }

  // Everything that tells how the connection was made, or why not.
  async function path() {
    const pc = current();
    if (!pc) return null;
    const stats = await pc.getStats();
    const shown = (id) => {
      const { candidateType, protocol, relayProtocol, address, port } = stats.get(id) ?? {};
      return { candidateType, protocol, relayProtocol, address, port };
    };
    const pairs = [];
    let selected = null;
    for (const stat of stats.values()) {
      if (stat.type === 'transport') selected = stat.selectedCandidatePairId ?? null;
      if (stat.type !== 'candidate-pair') continue;
      const { id, state, requestsSent, responsesReceived } = stat;
      pairs.push({
        id, state, requestsSent, responsesReceived,
        local: shown(stat.localCandidateId),
        remote: shown(stat.remoteCandidateId),
      });
    }
    return {
      ice: pc.iceConnectionState,
      state: pc.connectionState,
      page: document.getElementById('status')?.textContent,
      advice: document.getElementById('advice')?.textContent,
      selected: pairs.find(({ id }) => id === selected) ?? null,
      pairs,
      offered: candidates(pc.localDescription),
      answered: candidates(pc.remoteDescription),
    };
  }

  async function video() {
    for (const stat of (await current().getStats()).values()) {
      if (stat.type === 'inbound-rtp' && stat.kind === 'video') return stat;
    }
    return null;
  }

  return { set, progress, path, video };
})();
