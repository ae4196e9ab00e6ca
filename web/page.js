// The page around the player: the list of cameras, the address field and the words of the status.

import { CameraList, element, labelOf, say } from './cameras.js';
import { Player } from './player.js';

// Assets lie one level below the server's root, wherever a proxy has put that.
const base = new URL('../', import.meta.url);
const REFRESH_MS = 3000;

const $ = (id) => document.getElementById(id);
const video = $('video');
const player = new Player(video, { base });
// For the browser's console and for tests: `porthole.player.pc` is the current connection.
globalThis.porthole = { player };

const list = new CameraList($('cameras'), playCamera);
let playing = null; // { source, label, camera }: what was asked for last
let state = player.state;
let needsClick = false;

const WORDS = {
  idle: 'Ready',
  connecting: 'Connecting to the camera…',
  waiting: 'Waiting for the first picture…',
  live: 'Live',
  stalled: 'Interrupted',
  retrying: 'Reconnecting…',
  failed: 'Not playing',
};

// --- Playing ---------------------------------------------------------------------------------

function play(source, label, camera = null) {
  playing = { source, label, camera };
  needsClick = false;
  document.title = `${label} – Porthole`;
  say($('now'), label);
  list.mark(camera);
  player.play(source);
}

function playCamera(name) {
  play(name, name, name);
  history.replaceState(null, '', addressOf(name));
}

/** The page's own address for a camera, so that a reload or a bookmark comes back to it. */
function addressOf(name) {
  if (location.pathname.startsWith(playerPath())) return encodeURIComponent(name);
  return `?camera=${encodeURIComponent(name)}`;
}

function playerPath() {
  return new URL('stream/player/', base).pathname;
}

/** The camera that the page's address names, or null. */
function askedCamera() {
  if (location.pathname.startsWith(playerPath())) {
    const name = location.pathname.slice(playerPath().length);
    try {
      return decodeURIComponent(name) || null;
    } catch {
      return name;
    }
  }
  return new URLSearchParams(location.search).get('camera');
}

// --- What is shown ---------------------------------------------------------------------------

function show() {
  const { name, message, verdict, tracks, notes, verdicts, retryAt } = state;
  const busy = name === 'connecting' || name === 'waiting';
  const seen = name === 'live' && !needsClick && tracks.includes('video');
  const soundOnly = name === 'live' && !needsClick && !seen;
  const overlay = $('overlay');
  overlay.hidden = seen;
  overlay.dataset.state = name;
  $('dot').dataset.state = name;
  say($('status'), WORDS[name]);
  if (name !== 'live') say($('figures'), retryAt ? `\u00a0· ${countdown(retryAt)}` : '');
  say($('title'), title(name, soundOnly));
  say($('advice'), advice(name, message, soundOnly));
  showVerdict(message ? verdict : null);
  const button = $('again');
  button.hidden = !(needsClick || name === 'failed' || name === 'retrying' || (busy && message));
  say(button, needsClick ? 'Play' : name === 'retrying' ? 'Try now' : 'Try again');
  const sound = tracks.includes('audio');
  $('sound').disabled = !sound;
  $('sound').title = sound || name === 'idle' || busy ? '' : 'This stream has no sound';
  showNotes(notes, verdicts);
}

/** What to do, and the code to look up or to report. */
function showVerdict(verdict) {
  const place = $('verdict');
  place.hidden = !verdict;
  say($('do'), verdict?.advice ?? '');
  say($('code'), verdict?.code ?? '');
}

function title(name, soundOnly) {
  if (name === 'idle') return 'Nothing is playing';
  if (soundOnly) return 'Sound only';
  if (name === 'failed') return `${playing.label} is not playing`;
  return name === 'retrying' ? 'Reconnecting' : playing.label;
}

function advice(name, message, soundOnly) {
  if (name === 'idle') return 'Choose a camera or type an RTSP URL.';
  if (soundOnly) return 'This stream has no picture that can be shown here.';
  return needsClick ? 'The browser starts this video only when asked to.' : message;
}

function countdown(at) {
  const seconds = Math.max(Math.ceil((at - Date.now()) / 1000), 0);
  return `next attempt in ${seconds} s`;
}

function showNotes(notes, verdicts) {
  const place = $('notes');
  const items = notes.map((note, i) => element('li', '', note, ' ', element('code', '', verdicts[i] ?? '')));
  const isShown = (item, i) => place.children[i].textContent === item.textContent;
  if (place.childElementCount !== items.length || !items.every(isShown)) place.replaceChildren(...items);
}

function showStats({ kind, width, height, fps, bitrate, lost, codec }) {
  if (state.name !== 'live') return;
  const figures = [];
  if (kind === 'video') figures.push(`${width}×${height}`, `${Math.round(fps)} fps`);
  figures.push(bitrate < 1e6 ? `${Math.round(bitrate / 1000)} kbit/s` : `${(bitrate / 1e6).toFixed(1)} Mbit/s`);
  figures.push(lost === 1 ? '1 packet lost' : `${lost} packets lost`);
  if (codec) figures.push(codec);
  const line = $('figures');
  // The dots stay at the ends of lines where the figures wrap.
  line.replaceChildren('\u00a0· ', ...figures.flatMap((figure, i) => [
    element('span', 'figure', i + 1 < figures.length ? `${figure} ·` : figure), ' ']));
}

player.addEventListener('state', ({ detail }) => {
  state = detail;
  show();
});
player.addEventListener('stats', ({ detail }) => showStats(detail));
player.addEventListener('blocked', () => {
  needsClick = true;
  show();
});
video.addEventListener('playing', () => {
  needsClick = false;
  show();
});
setInterval(() => {
  if (state.retryAt) show();
}, 500);

// --- Cameras ---------------------------------------------------------------------------------

async function refresh() {
  try {
    const response = await fetch(new URL('cameras', base), { cache: 'no-store', signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error(`HTTP status ${response.status}`);
    const { cameras } = await response.json();
    list.update(cameras);
    say($('cameras-note'), cameras.length ? '' : 'No camera is configured. Type an RTSP URL to watch one.');
    if (!playing) start(cameras);
  } catch {
    say($('cameras-note'), 'The list cannot be refreshed: the server does not answer.');
  }
}

/**
 * Plays what the page's address names, or else the demonstration. Only a camera of the list: a link
 * of somebody else must not make the server connect to an address of theirs.
 */
function start(cameras) {
  const asked = askedCamera();
  const names = cameras.filter(({ named }) => named).map(({ name }) => name);
  if (asked && names.includes(asked)) playCamera(asked);
  else if (asked) say($('cameras-note'), 'There is no camera with the name in the address.');
  else if (names[0] === 'demo') play('demo', 'demo', 'demo');
}

async function keepRefreshing() {
  if (!document.hidden) await refresh();
  setTimeout(keepRefreshing, REFRESH_MS);
}
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refresh();
});

// --- Controls --------------------------------------------------------------------------------

$('again').addEventListener('click', () => {
  if (needsClick) video.play();
  else player.retry();
});

$('direct').addEventListener('submit', (event) => {
  event.preventDefault();
  const url = $('url').value.trim();
  if (!url) return;
  play(url, labelOf(url));
  // The address typed stays out of the page's own; a camera asked for before goes from it.
  if (location.search) history.replaceState(null, '', location.pathname);
});

$('url').addEventListener('input', ({ target }) => {
  const fine = /^\s*(demo:|[a-z][a-z0-9+.-]*:\/\/.)/i.test(target.value);
  target.setCustomValidity(target.value && !fine ? 'Begin the address with rtsp://' : '');
});

$('sound').addEventListener('click', () => {
  video.muted = !video.muted;
});
video.addEventListener('volumechange', () => {
  $('sound').dataset.on = String(!video.muted);
  say($('sound-label'), video.muted ? 'Unmute' : 'Mute');
});

function toggleFull() {
  const figure = $('player');
  if (document.fullscreenElement) document.exitFullscreen();
  else if (figure.requestFullscreen) figure.requestFullscreen();
  else video.webkitEnterFullscreen?.(); // iPhones enlarge only the video itself
}
$('full').addEventListener('click', toggleFull);
$('stage').addEventListener('dblclick', toggleFull);
document.addEventListener('fullscreenchange', () => {
  say($('full-label'), document.fullscreenElement ? 'Leave full screen' : 'Full screen');
});

// The server learns at once that a viewer has gone, instead of waiting for silence.
addEventListener('pagehide', () => player.stop());
addEventListener('pageshow', ({ persisted }) => {
  if (persisted && playing) play(playing.source, playing.label, playing.camera);
});

show();
keepRefreshing();
