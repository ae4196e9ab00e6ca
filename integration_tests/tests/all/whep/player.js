// A player of WHEP that offers at once and sends its addresses later, written from RFC 9725 and
// draft-ietf-wish-whep. It notes the status and the ETag of each reply.
globalThis.player ??= (() => {
  const state = { patches: [], dtlsClosedAt: null };
  let pc, url, answer, etag;
  let sending = Promise.resolve();

  // One after another: an ETag counts from the reply on.
  function patch(lines) {
    const work = sending.then(async () => {
      const reply = await fetch(url, {
        method: "PATCH",
        headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": etag },
        body: lines.join("\r\n") + "\r\n",
      });
      const body = await reply.text();
      state.patches.push([reply.status, reply.headers.get("ETag"), body.length]);
      etag = reply.headers.get("ETag") ?? etag;
      return body;
    });
    sending = work.catch(() => {});
    return work;
  }

  const value = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(.*)\r\n`, "m"))[1];
  const credentials = (sdp) =>
    ["ice-ufrag", "ice-pwd"].map((name) => `a=${name}:${value(sdp, name)}`);

  function trickle({ candidate }) {
    if (!candidate?.candidate) return;
    const { sdp } = pc.localDescription;
    patch([...credentials(sdp), "m=video 9 UDP/TLS/RTP/SAVPF 0", `a=mid:${candidate.sdpMid}`,
      `a=${candidate.candidate}`]);
  }

  async function play(endpoint) {
    pc = new RTCPeerConnection();
    const video = document.createElement("video");
    video.autoplay = true;
    video.srcObject = new MediaStream();
    document.body.append(video);
    pc.addEventListener("track", ({ track }) => video.srcObject.addTrack(track));
    for (const kind of ["video", "audio"]) pc.addTransceiver(kind, { direction: "recvonly" });
    const early = [];
    pc.onicecandidate = (event) => early.push(event);
    const offer = await pc.createOffer();
    const reply = await fetch(endpoint, {
      method: "POST",
      headers: { "Content-Type": "application/sdp" },
      body: offer.sdp,
    });
    if (reply.status !== 201) throw new Error(`${reply.status} ${await reply.text()}`);
    url = new URL(reply.headers.get("Location"), reply.url);
    etag = reply.headers.get("ETag");
    answer = await reply.text();
    await pc.setLocalDescription(offer);
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    pc.onicecandidate = trickle;
    early.forEach(trickle);
    pc.getReceivers()[0].transport.addEventListener("statechange", ({ target }) => {
      if (target.state === "closed") state.dtlsClosedAt = performance.now();
    });
    return url.pathname;
  }

  async function restart() {
    pc.restartIce();
    const early = [];
    pc.onicecandidate = (event) => early.push(event);
    const offer = await pc.createOffer();
    await pc.setLocalDescription(offer);
    const fragment = await patch(credentials(offer.sdp));
    let sdp = answer.replaceAll(/^a=candidate:.*\r\n/gm, "");
    for (const name of ["ice-ufrag", "ice-pwd"]) {
      const line = new RegExp(`^a=${name}:.*$`, "gm");
      sdp = sdp.replaceAll(line, `a=${name}:${value(fragment, name)}`);
    }
    const candidates = fragment.match(/^a=candidate:.*\r\n/gm).join("");
    answer = sdp.replace("a=end-of-candidates\r\n", `${candidates}a=end-of-candidates\r\n`);
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    pc.onicecandidate = trickle;
    early.forEach(trickle);
    return value(offer.sdp, "ice-ufrag");
  }

  async function report() {
    const stats = new Map(await pc.getStats());
    const all = [...stats.values()];
    const transport = all.find(({ type }) => type === "transport") ?? {};
    const pair = stats.get(transport.selectedCandidatePairId) ?? {};
    const inbound = (kind) =>
      all.find(({ type, kind: of }) => type === "inbound-rtp" && of === kind) ?? {};
    return {
      ...state,
      ice: pc.iceConnectionState,
      connection: pc.connectionState,
      ufrag: stats.get(pair.localCandidateId)?.usernameFragment ?? null,
      frames: inbound("video").framesDecoded ?? 0,
      lost: inbound("video").packetsLost ?? 0,
      audioPackets: inbound("audio").packetsReceived ?? 0,
    };
  }

  const leave = async () => (await fetch(url, { method: "DELETE" })).status;

  return { play, restart, report, leave };
})();
