// One WebRTC connection to the server: its offer, its answer, and what becomes of it.

const GATHER_MS = 1000;
const ANSWER_MS = 12_000;
const CONNECT_MS = 15_000;
const PATH_MS = 6000;
const FIRST_PICTURE_MS = 6000;
const ASK_MS = 2000;
const SETTLED_MS = 4000;
const NOTICE_MS = 30_000;
const INTERRUPTED_MS = 6000;
const STALLED_MS = 4000;
const GIVE_UP_MS = 15_000;

const NO_PATH = 'The answer arrived but no media connection could be made between this browser and '
  + 'the server: check that UDP between them is not blocked by a firewall or a proxy.';
const NO_SERVER = 'The Porthole server did not answer: check that it is running and that this '
  + 'device can reach it.';

/** An end of a call; `final` when the same request would only be refused again. */
class Failure extends Error {
  constructor(message, final = false, verdict = null) {
    super(message);
    this.final = final;
    this.verdict = verdict;
  }
}

/**
 * One attempt: one peer connection, from the offer to its end. It calls `report(name, detail)`
 * with answered, connecting, waiting, live, stalled, noticed (a verdict on what plays, or null), stats, blocked
 * (a click is needed to start the video) and, as the last, lost; nothing more once closed. What has a
 * `message` has a `verdict` too, or null: an object with `code`, `cause` and `advice`.
 */
export class Call {
  pc = null;
  liveSince = 0;
  #source; #base; #kinds; #video; #report;
  #ended = new AbortController();
  #connectedAt = 0;
  #packetsAt = 0;
  #tracks;
  #last = null;
  #interrupted = 0;
  #session = null;
  #answeredAt = 0;
  #verdict = null;
  #told = null;
  #askedAt = -Infinity;
  #isLosing = false;
  #noticeAt = 0;

  constructor({ source, base, kinds }, video, report) {
    this.#source = source;
    this.#base = base;
    this.#kinds = kinds;
    this.#tracks = kinds;
    this.#video = video;
    this.#report = (name, detail) => { if (!this.#ended.signal.aborted) report(name, detail); };
  }

  close() {
    this.#ended.abort();
  }

  async start() {
    const { signal } = this.#ended;
    try {
      if (!globalThis.RTCPeerConnection) {
        throw new Failure('This browser has no WebRTC, or it is switched off: use another browser '
          + 'or allow WebRTC in its settings.', true);
      }
      const pc = this.#open(signal);
      await pc.setLocalDescription(await pc.createOffer());
      await gathered(pc);
      if (signal.aborted) return;
      const answer = await requestAnswer(this.#base, this.#source, pc.localDescription.sdp, signal);
      if (signal.aborted) return;
      this.#session = answer.session ?? null;
      if (answer.tracks) this.#tracks = answer.tracks.filter((kind) => this.#kinds.includes(kind));
      const verdicts = (answer.verdicts ?? []).map(({ code }) => code);
      this.#report('answered', { tracks: this.#tracks, notes: answer.notes ?? [], verdicts });
      await pc.setRemoteDescription({ type: 'answer', sdp: fromBase64(answer.sdp64) });
      this.#answeredAt = performance.now();
      this.#after(CONNECT_MS, () => { if (!this.#connectedAt) this.#lost(NO_PATH, 'path-blocked'); });
    } catch (error) {
      if (error instanceof Failure) this.#report('lost', error);
      else this.#lost(`This browser could not use the server's answer: ${error.message}`);
    }
  }

  #open(signal) {
    const pc = this.pc = new RTCPeerConnection();
    signal.addEventListener('abort', () => pc.close());
    for (const kind of this.#kinds) pc.addTransceiver(kind, { direction: 'recvonly' });
    const stream = new MediaStream();
    pc.ontrack = ({ track }) => {
      if (signal.aborted) return;
      stream.addTrack(track);
      if (this.#video.srcObject !== stream) this.#video.srcObject = stream;
      this.#video.play().catch((error) => this.#refused(error));
    };
    pc.onconnectionstatechange = () => this.#changed(pc.connectionState);
    const poll = setInterval(() => this.#poll(pc), 1000);
    signal.addEventListener('abort', () => clearInterval(poll));
    // Shows the first picture at once rather than at the next tick.
    this.#video.addEventListener('loadeddata', () => this.#poll(pc), { signal });
    return pc;
  }

  /** Browsers refuse to start sound without a click, and some any video at all (power saving). */
  #refused(error) {
    if (error.name !== 'NotAllowedError') return;
    if (this.#video.muted) return this.#report('blocked');
    this.#video.muted = true;
    this.#video.play().catch(() => this.#report('blocked'));
  }

  #changed(state) {
    clearTimeout(this.#interrupted);
    if (state === 'connected') {
      this.#packetsAt = performance.now();
      if (this.#connectedAt) return;
      this.#connectedAt = this.#packetsAt;
      this.#report('waiting');
    } else if (state === 'disconnected' && this.#connectedAt) {
      this.#trouble('stalled', 'The connection to the server is interrupted.');
      this.#interrupted = this.#after(INTERRUPTED_MS, () => this.#lost('The connection to the server was lost.'));
    } else if (state === 'failed' || state === 'closed') {
      if (this.#connectedAt) this.#lost('The connection to the server was lost.');
      else this.#lost(NO_PATH, 'path-blocked');
    }
  }

  async #poll(pc) {
    if (!this.#connectedAt) {
      const waited = this.#answeredAt && performance.now() - this.#answeredAt;
      if (waited > PATH_MS) this.#trouble('connecting', NO_PATH, 'path-blocked');
      return;
    }
    const stats = digest(await pc.getStats(), this.#last, this.#tracks.includes('video') ? 'video' : 'audio');
    if (this.#ended.signal.aborted || pc.connectionState !== 'connected') return;
    const now = performance.now();
    const { packets = 0, decoded = 0 } = this.#last ?? {};
    this.#last = stats;
    if (stats.packets > packets) this.#packetsAt = now;
    const quiet = now - this.#packetsAt;
    if (stats.decoded > decoded) {
      this.liveSince ||= now;
      [this.#told, this.#verdict] = [null, null];
      this.#report('live');
      if (now - this.liveSince > SETTLED_MS && now > this.#noticeAt) this.#notice(now);
    } else if (!this.liveSince) {
      if (now - this.#connectedAt > FIRST_PICTURE_MS) this.#trouble('waiting', noPicture(stats.packets));
    } else if (quiet > GIVE_UP_MS) {
      this.#lost('The camera has stopped sending.');
    } else if (quiet > STALLED_MS) {
      this.#trouble('stalled', 'The picture has stopped: nothing has come from the camera for a few seconds.');
    }
    if (this.liveSince) this.#report('stats', stats);
  }

  /** Reports what is wrong, with the server's verdict as soon as that is known, or that of `code`. */
  #trouble(name, message, code = null) {
    this.#told = message;
    this.#report(name, { message, verdict: this.#verdict });
    const now = performance.now();
    if (now - this.#askedAt < ASK_MS) return;
    this.#askedAt = now;
    this.#ask(code).then((verdict) => {
      // Meanwhile it may be over, or something else.
      if (this.#told !== message) return;
      this.#verdict = verdict;
      this.#report(name, { message, verdict });
    });
  }

  /** Asks now and then what the person who watches should know of a picture that is there. */
  async #notice(now) {
    this.#noticeAt = now + NOTICE_MS;
    const verdict = await this.#ask();
    this.#report('noticed', verdict);
  }

  async #lost(message, code = null) {
    if (this.#isLosing) return;
    this.#isLosing = true;
    const verdict = await this.#ask(code);
    this.#report('lost', new Failure(message, false, verdict));
  }

  /** What the server says is wrong with this call, or else its words for `code`; null if nothing. */
  async #ask(code = null) {
    if (!this.#session) return null;
    const ask = async (path) => {
      const response = await fetch(new URL(path, this.#base), { cache: 'no-store', signal: AbortSignal.timeout(ASK_MS) });
      return response.json();
    };
    try {
      const { sessions, ended } = await ask('sessions');
      const own = [...sessions, ...ended].find(({ id }) => id === this.#session);
      if (own?.verdict || !code) return own?.verdict ?? null;
      return (await ask('verdicts')).verdicts.find((verdict) => verdict.code === code) ?? null;
    } catch {
      return null;
    }
  }

  #after(ms, then) {
    const timer = setTimeout(then, ms);
    this.#ended.signal.addEventListener('abort', () => clearTimeout(timer));
    return timer;
  }
}

/** The server takes no late candidates, so the offer waits for them; a slow one is left behind. */
function gathered(pc) {
  if (pc.iceGatheringState === 'complete') return null;
  return new Promise((resolve) => {
    setTimeout(resolve, GATHER_MS);
    pc.addEventListener('icegatheringstatechange', () => {
      if (pc.iceGatheringState === 'complete') resolve();
    });
  });
}

async function requestAnswer(base, source, sdp, ended) {
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), ANSWER_MS);
  ended.addEventListener('abort', () => limit.abort());
  let response, text;
  try {
    response = await fetch(new URL('stream', base), {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ url: source, sdp64: btoa(sdp) }),
      signal: limit.signal,
    });
    text = await response.text();
  } catch {
    throw new Failure(limit.signal.aborted
      ? `The server gave no answer within ${ANSWER_MS / 1000} seconds: check that it can reach the camera.`
      : NO_SERVER);
  } finally {
    clearTimeout(timer);
  }
  const answer = parsed(text);
  if (!response.ok) {
    const plain = text && !text.trimStart().startsWith('<') ? `: ${text.trim().slice(0, 300)}` : '.';
    const message = answer?.error ?? `The server refused with HTTP status ${response.status}${plain}`;
    throw new Failure(message, response.status < 500, answer?.verdict ?? null);
  }
  if (typeof answer?.sdp64 !== 'string') {
    throw new Failure('The reply to the offer did not come from Porthole: check the proxy in front of the server.', true);
  }
  return answer;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function fromBase64(text) {
  return new TextDecoder().decode(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
}

function noPicture(packets) {
  return packets
    ? `Connected, but no picture has arrived yet: video is coming in (${packets} packets) and this browser `
      + 'has decoded none of it. Set the camera to H.264 with a key frame at least every two seconds.'
    : 'Connected, but no picture has arrived yet: the camera has sent no video. It may still be starting; '
      + 'if this lasts, check that its video stream is switched on.';
}

/** What people want to know of an RTCStatsReport, with rates since `last`. */
function digest(report, last, kind) {
  let rtp = {};
  for (const entry of report.values()) {
    if (entry.type === 'inbound-rtp' && entry.kind === kind) rtp = entry;
  }
  const { packetsReceived: packets = 0, bytesReceived: bytes = 0, timestamp: at = 0 } = rtp;
  const stats = {
    kind, packets, bytes, at,
    decoded: kind === 'video' ? rtp.framesDecoded ?? 0 : packets,
    lost: Math.max(rtp.packetsLost ?? 0, 0),
    width: rtp.frameWidth ?? 0,
    height: rtp.frameHeight ?? 0,
    fps: rtp.framesPerSecond ?? 0,
    codec: report.get(rtp.codecId)?.mimeType?.split('/')[1] ?? '',
    bitrate: last?.bitrate ?? 0,
  };
  const seconds = (at - (last?.at ?? at)) / 1000;
  if (seconds > 0.5) stats.bitrate = 8 * (bytes - last.bytes) / seconds;
  return stats;
}
