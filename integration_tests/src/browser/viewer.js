// What a viewer's page does, written once more and independently of the page under test: one
// RTCPeerConnection, one offer, one <video>, and an account of what was shown and when.
globalThis.harness ??= (() => {
  const BITS = 11;
  const viewers = [];

  // Reads the number of the picture that a video element shows, or null where its two rows of blocks
  // contradict each other. Copies these blocks alone: a canvas would convert the whole picture.
  async function numberIn(video, block) {
    const frame = new VideoFrame(video);
    const rect = { x: 0, y: 0, width: BITS * block, height: 2 * block };
    const pixels = new Uint8Array(frame.allocationSize({ rect }));
    const [luma] = await frame.copyTo(pixels, { rect });
    frame.close();
    const isWhite = (bit, row) =>
      pixels[luma.offset + (row + 0.5) * block * luma.stride + (bit + 0.5) * block] > 127;
    let number = 0;
    for (let bit = 0; bit < BITS; bit++) {
      if (isWhite(bit, 0) === isWhite(bit, 1)) return null;
      number += isWhite(bit, 0) << bit;
    }
    return number;
  }

  // Appends [milliseconds since `start`, number] to `seen` for each picture that is shown.
  function account(video, block, start, seen) {
    const note = () => {
      const at = performance.now() - start;
      numberIn(video, block).then((number) => seen.push([at, number]));
      video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
  }

  async function gathered(pc, limit) {
    if (pc.iceGatheringState === "complete") return;
    await new Promise((resolve) => {
      setTimeout(resolve, limit);
      pc.addEventListener("icegatheringstatechange", () => {
        if (pc.iceGatheringState === "complete") resolve();
      });
    });
  }

  // Asks for a camera as players of go2rtc do: over a WebSocket, with candidates both ways, in the
  // dialect `webrtc` or `webrtc/offer`. With `hangUp` the socket is closed once there is a picture.
  function converse(viewer, { query, dialect, hangUp, iceServers }) {
    const { pc, video } = viewer;
    const socket = new WebSocket(`/api/ws?${query}`);
    viewer.socket = socket;
    const send = (type, value) => socket.send(JSON.stringify({ type, value }));
    const answered = new Promise((resolve) => {
      const end = (status, error) => {
        viewer.status = status;
        viewer.error = error;
        resolve();
      };
      const accept = (sdp) => {
        pc.setRemoteDescription({ type: "answer", sdp }).then(() => end(200, null));
      };
      socket.addEventListener("close", () => {
        if (!viewer.status) end(500, "the socket was closed");
      });
      socket.addEventListener("message", ({ data }) => {
        const { type, value } = JSON.parse(data);
        if (type === "error") end(500, value);
        if (type === "webrtc") accept(value.sdp);
        if (type === "webrtc/answer") accept(value);
        // Refused if it comes before the answer.
        if (type === "webrtc/candidate") {
          pc.addIceCandidate({ candidate: value, sdpMid: "0" }).catch((e) => end(500, e.message));
        }
      });
    });
    if (hangUp) video.addEventListener("playing", () => socket.close());
    socket.addEventListener("open", async () => {
      pc.addEventListener("icecandidate", ({ candidate }) => {
        if (socket.readyState === WebSocket.OPEN) {
          send("webrtc/candidate", candidate?.candidate ?? "");
        }
      });
      if (dialect === "webrtc/offer") send("mse", "avc1.640029,mp4a.40.2");
      const offer = await pc.createOffer();
      await pc.setLocalDescription(offer);
      // Some are ahead of the offer.
      send("webrtc/candidate", "candidate:1 1 udp 1 0b1c7e9e-6d7a.local 9 typ host");
      send("webrtc/candidate", "");
      if (dialect === "webrtc/offer") send(dialect, offer.sdp);
      else send(dialect, { type: "offer", sdp: offer.sdp, ice_servers: iceServers });
    });
    return answered;
  }

  // Adds the microphone to the offer, alone or in the section in which sound comes.
  async function speak(viewer, { codec, direction }) {
    const { pc } = viewer;
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    });
    [viewer.microphone] = stream.getAudioTracks();
    const receiving = pc.getTransceivers().find(({ receiver }) => receiver.track.kind === "audio");
    let transceiver = receiving;
    if (direction === "sendonly") {
      transceiver = pc.addTransceiver(viewer.microphone, { direction });
    } else {
      transceiver.direction = direction;
      await transceiver.sender.replaceTrack(viewer.microphone);
    }
    if (codec) {
      const { codecs } = RTCRtpSender.getCapabilities("audio");
      transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === codec));
    }
  }

  function microphone(index, isOn) {
    viewers[index].microphone.enabled = isOn;
  }

  async function watch({ camera, sections, without, dataChannel, block, speech, socket }) {
    const start = performance.now();
    const pc = new RTCPeerConnection();
    const viewer = { pc, start, seen: [], status: 0, error: null, tracks: [], dtlsClosedAt: null };
    const index = viewers.push(viewer) - 1;

    const video = document.createElement("video");
    video.autoplay = true;
    video.playsInline = true;
    video.width = 240;
    video.srcObject = new MediaStream();
    document.body.append(video);
    viewer.video = video;
    account(video, block, start, viewer.seen);
    pc.addEventListener("track", ({ track }) => video.srcObject.addTrack(track));

    for (const kind of sections) {
      const transceiver = pc.addTransceiver(kind, { direction: "recvonly" });
      if (!without) continue;
      const { codecs } = RTCRtpReceiver.getCapabilities(kind);
      transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType !== without));
    }
    if (speech) await speak(viewer, speech);
    if (dataChannel) pc.createDataChannel("dataSendChannel");
    if (socket) {
      await converse(viewer, socket);
      return index;
    }
    await pc.setLocalDescription();
    await gathered(pc, 1500);
    const reply = await fetch("/stream", {
      method: "POST",
      body: new URLSearchParams({ url: camera, sdp64: btoa(pc.localDescription.sdp) }),
    });
    viewer.status = reply.status;
    const body = await reply.json();
    viewer.verdicts = [body.verdict ?? [], body.verdicts ?? []].flat();
    if (!reply.ok) {
      viewer.error = body.error ?? JSON.stringify(body);
      return index;
    }
    viewer.tracks = body.tracks;
    const answer = atob(body.sdp64);
    viewer.directions = answer.match(/^a=(sendrecv|sendonly|recvonly|inactive)/gm) ?? [];
    await pc.setRemoteDescription({ type: "answer", sdp: answer });
    pc.getReceivers()[0].transport?.addEventListener("statechange", ({ target }) => {
      if (target.state === "closed") viewer.dtlsClosedAt = performance.now() - start;
    });
    return index;
  }

  async function report(index) {
    const viewer = viewers[index];
    const { pc, start, seen, status, error, tracks, video, dtlsClosedAt, socket } = viewer;
    const { directions } = viewer;
    const inbound = { video: {}, audio: {} };
    const codecs = {};
    let outbound = {};
    for (const stat of (await pc.getStats()).values()) {
      if (stat.type === "inbound-rtp") inbound[stat.kind] = stat;
      if (stat.type === "outbound-rtp") outbound = stat;
      if (stat.type === "codec") codecs[stat.id] = stat.mimeType;
    }
    return {
      status, error, tracks, seen, dtlsClosedAt,
      verdicts: viewer.verdicts ?? [],
      now: performance.now() - start,
      hungUp: socket?.readyState === WebSocket.CLOSED,
      state: pc.connectionState,
      ice: pc.iceConnectionState,
      dtls: pc.getReceivers()[0]?.transport?.state ?? null,
      width: video.videoWidth,
      height: video.videoHeight,
      video: inbound.video,
      audio: inbound.audio,
      videoCodec: codecs[inbound.video.codecId] ?? null,
      directions,
      speechCodec: codecs[outbound.codecId] ?? null,
      audioCodec: codecs[inbound.audio.codecId] ?? null,
    };
  }

  function close(index) {
    viewers[index].pc.close();
    viewers[index].video.remove();
  }

  // The loudest sample of a stream's sound within some milliseconds; 0 is silence, 1 the maximum.
  async function loudness(stream, milliseconds) {
    const context = new AudioContext();
    await context.resume();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const end = performance.now() + milliseconds;
    let loudest = 0;
    while (performance.now() < end) {
      analyser.getFloatTimeDomainData(samples);
      loudest = Math.max(loudest, ...samples);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await context.close();
    return loudest;
  }

  // One for all: each has threads of its own.
  let hearing;

  // The strongest frequency of a viewer's sound after some milliseconds, in Hz; 0 of silence.
  async function pitch(index, milliseconds) {
    hearing ??= new AudioContext();
    await hearing.resume();
    const analyser = hearing.createAnalyser();
    analyser.fftSize = 16384;
    const source = hearing.createMediaStreamSource(viewers[index].video.srcObject);
    source.connect(analyser);
    const bins = new Float32Array(analyser.frequencyBinCount);
    const end = performance.now() + milliseconds;
    while (performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      analyser.getFloatFrequencyData(bins);
    }
    source.disconnect();
    const strongest = bins.indexOf(Math.max(...bins));
    const frequency = (strongest * hearing.sampleRate) / analyser.fftSize;
    return bins[strongest] > -60 ? frequency : 0;
  }

  return { watch, report, close, microphone, account, loudness, pitch };
})();
