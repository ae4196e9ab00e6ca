// Pictures and nothing around them, for other pages to embed: `stream.html` and `webrtc.html`, as go2rtc
// calls them. What their addresses may say:
//
//   src         a camera's name, or a URL; again for each further picture
//   media       of video, audio: what to ask for, as in video,audio or video+audio
//   width       of each picture, in CSS: 640px, 50%
//   background  false: nothing is played while the page is hidden
//
// `mode` is go2rtc's order of transports. There is one here, so it says nothing new; neither does
// `microphone` in `media`, as this page does not use one; other clients can speak.

import { labelOf, say } from './cameras.js';
import { Player } from './player.js';

// Assets lie one level below the server's root, wherever a proxy has put that.
const base = new URL('../', import.meta.url);
const PICTURES_MAX = 16;
// Nobody may be there to click: a picture on a wall comes back by itself.
const AGAIN_MS = 30_000;

const FRAMED = 'A page of another site can show cameras by their names only. Open this page by itself, '
  + 'or give the camera a name.';

const asked = new URLSearchParams(location.search);
const kinds = kindsOf(asked.get('media') ?? '');
const width = widthOf(asked.get('width') ?? '');
const restsWhenHidden = asked.get('background') === 'false';

class Tile {
  #source; #figure; #video; #player; #again = 0;
  #needsClick = false;
  // Whether the camera may be opened: at once by its name, else when somebody has clicked.
  #isAllowed = false;
  #isRefused = false;

  constructor(source, label) {
    this.#source = source;
    this.label = label;
    this.#figure = document.getElementById('tile').content.cloneNode(true).firstElementChild;
    this.#video = this.#part('video');
    this.#player = new Player(this.#video, { base, kinds });
    if (width) {
      this.#figure.classList.add('sized');
      this.#figure.style.width = width;
    }
    this.#listen();
    document.getElementById('wall').append(this.#figure);
    this.#show();
  }

  get player() {
    return this.#player;
  }

  #part(selector) {
    return this.#figure.querySelector(selector);
  }

  /** Plays what the address of the page names, if that may be done without a click. */
  async start() {
    this.#isAllowed = await isNamed(this.#source);
    this.#isRefused = !this.#isAllowed && isFramedByAnother();
    this.#show();
    this.resume();
  }

  resume() {
    if (!this.#isAllowed || (restsWhenHidden && document.hidden)) return;
    this.#needsClick = false;
    this.#player.play(this.#source);
  }

  stop() {
    clearTimeout(this.#again);
    this.#player.stop();
  }

  #listen() {
    const video = this.#video;
    this.#player.addEventListener('state', ({ detail }) => {
      clearTimeout(this.#again);
      if (detail.name === 'failed') this.#again = setTimeout(() => this.resume(), AGAIN_MS);
      this.#show();
    });
    this.#player.addEventListener('blocked', () => {
      this.#needsClick = true;
      this.#show();
    });
    video.addEventListener('playing', () => {
      this.#needsClick = false;
      this.#show();
    });
    video.addEventListener('resize', () => {
      if (width && video.videoWidth) this.#figure.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
    });
    this.#part('.primary').addEventListener('click', () => {
      if (this.#needsClick) return video.play();
      this.#isAllowed = true;
      if (this.#player.source === null) this.resume();
      else this.#player.retry();
    });
    const sound = this.#part('.sound');
    sound.addEventListener('click', () => { video.muted = !video.muted; });
    video.addEventListener('volumechange', () => {
      sound.dataset.on = String(!video.muted);
      sound.title = video.muted ? 'Unmute' : 'Mute';
      sound.setAttribute('aria-label', sound.title);
    });
    const full = this.#part('.full');
    full.hidden = !document.fullscreenEnabled && !video.webkitEnterFullscreen;
    const toggleFull = () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else if (document.fullscreenEnabled) this.#figure.requestFullscreen();
      else video.webkitEnterFullscreen?.(); // iPhones enlarge only the video itself
    };
    full.addEventListener('click', toggleFull);
    this.#figure.addEventListener('dblclick', toggleFull);
  }

  #show() {
    const { name, message, verdict, tracks } = this.#player.state;
    const soundOnly = name === 'live' && !tracks.includes('video');
    const overlay = this.#part('.overlay');
    overlay.hidden = name === 'live' && !this.#needsClick && !soundOnly;
    overlay.dataset.state = name;
    const asks = !this.#isAllowed && !this.#isRefused;
    say(this.#part('.title'), this.#isRefused || name === 'failed' ? `${this.label} is not playing` : this.label);
    say(this.#part('.advice'), this.#advice(asks, soundOnly, verdict && message ? `${message} (${verdict.code})` : message));
    const button = this.#part('.primary');
    button.hidden = !(asks || this.#needsClick || name === 'failed' || name === 'retrying');
    say(button, asks || this.#needsClick ? 'Play' : name === 'retrying' ? 'Try now' : 'Try again');
    this.#part('.sound').hidden = !tracks.includes('audio');
  }

  #advice(asks, soundOnly, message) {
    if (this.#isRefused) return FRAMED;
    if (asks) return 'The server is asked to open this address.';
    if (soundOnly) return 'There is no picture, only sound.';
    return this.#needsClick ? 'The browser starts this video only when asked to.' : message;
  }
}

/**
 * Whether the server has a camera of this name. Whatever else an address may hold, a link of somebody
 * else must not make the server connect to an address of theirs.
 */
async function isNamed(source) {
  if (!source.includes(':')) return true; // that is no URL; the server says if there is no such camera
  try {
    const response = await fetch(new URL('cameras', base), { cache: 'no-store', signal: AbortSignal.timeout(5000) });
    const { cameras } = await response.json();
    return cameras.some(({ name, named }) => named && name === source);
  } catch {
    return false;
  }
}

/** Whether a page of another site shows this one. It could have its visitor click without knowing. */
function isFramedByAnother() {
  try {
    return window.top.location.origin !== location.origin;
  } catch {
    return true; // not even its origin may be read
  }
}

function kindsOf(text) {
  // A + in an address is a space.
  const words = text.split(/[\s,+]+/);
  const known = ['video', 'audio'].filter((kind) => words.includes(kind));
  return known.length ? known : ['video', 'audio'];
}

function widthOf(text) {
  const [, number, unit] = /^(\d{1,5}(?:\.\d{1,3})?)(px|%|em|rem|vw)?$/.exec(text) ?? [];
  return number ? `${number}${unit ?? 'px'}` : '';
}

const sources = asked.getAll('src').filter(Boolean).slice(0, PICTURES_MAX);
const tiles = sources.map((source) => new Tile(source, source.includes(':') ? labelOf(source) : source));
document.title = [...tiles.map(({ label }) => label), 'Porthole'].join(' – ');
// For the browser's console and for tests: `porthole.player.pc` is the current connection.
globalThis.porthole = { player: tiles[0]?.player ?? null };
for (const tile of tiles) tile.start();
if (!tiles.length) {
  say(document.getElementById('wall'), 'Name a camera in the address of this page, as in ?src=demo');
}

document.addEventListener('visibilitychange', () => {
  if (!restsWhenHidden) return;
  for (const tile of tiles) {
    if (document.hidden) tile.stop();
    else tile.resume();
  }
});
// The server learns at once that a viewer has gone, instead of waiting for silence.
addEventListener('pagehide', () => tiles.forEach((tile) => tile.stop()));
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) tiles.forEach((tile) => tile.resume());
});
