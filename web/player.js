/**
 * Plays a camera of a Porthole server in a <video> element, over WebRTC.
 *
 *   const player = new Player(video, { base: new URL('/', location) });
 *   player.addEventListener('state', ({ detail }) => console.log(detail.name, detail.message));
 *   player.addEventListener('stats', ({ detail }) => console.log(detail.width, detail.fps));
 *   player.play('garden');   // a camera's name, or an rtsp:// URL
 *
 * `kinds` beside `base` chooses what to ask for, ['video', 'audio'] unless said otherwise.
 *
 * The names of states: idle, connecting, waiting (connected, no picture yet), live, stalled,
 * retrying (see `retryAt`) and failed. `message` is a sentence for people, or empty.
 */

import { Call } from './call.js';

// A call that lasted this long counts as good: the next waits start from the shortest again.
const SETTLED_MS = 10_000;
const LONGEST_WAIT_S = 10;

export class Player extends EventTarget {
  source = null;
  state = { name: 'idle', message: '', tracks: [], notes: [] };
  #video; #base; #kinds; #call = null; #retry = 0; #tries = 0; #played = false;

  /** `base` is the URL of the server's root, with its closing slash. */
  constructor(video, { base, kinds = ['video', 'audio'] }) {
    super();
    this.#video = video;
    this.#base = base;
    this.#kinds = kinds;
  }

  /** The current RTCPeerConnection, or null. */
  get pc() {
    return this.#call?.pc ?? null;
  }

  play(source) {
    this.#end();
    this.#video.srcObject = null;
    this.source = source;
    this.#tries = 0;
    this.#played = false;
    this.#set({ message: '', tracks: [], notes: [] });
    this.#connect();
  }

  stop() {
    this.#end();
    this.#video.srcObject = null;
    this.source = null;
    this.#set({ name: 'idle', message: '', tracks: [], notes: [] }, true);
  }

  /** Connects again at once, without waiting for the next automatic attempt. */
  retry() {
    if (this.source === null) return;
    this.#end();
    this.#connect();
  }

  #end() {
    clearTimeout(this.#retry);
    this.#call?.close();
    this.#call = null;
  }

  #connect() {
    // While reconnecting, the reason stays to be read.
    this.#set({ name: 'connecting', message: this.#played ? this.state.message : '' }, true);
    const asked = { source: this.source, base: this.#base, kinds: this.#kinds };
    this.#call = new Call(asked, this.#video, (name, detail) => this.#on(name, detail));
    this.#call.start();
  }

  #on(name, detail) {
    if (name === 'stats' || name === 'blocked') {
      this.dispatchEvent(new CustomEvent(name, { detail }));
    } else if (name === 'answered') {
      this.#set(detail, true);
    } else if (name === 'lost') {
      this.#lost(detail);
    } else {
      if (name === 'live') this.#played = true;
      const message = detail ?? '';
      this.#set({ name, message }, this.state.name !== name || this.state.message !== message);
    }
  }

  #lost({ message, final }) {
    const { liveSince } = this.#call;
    this.#end();
    if (final || !this.#played) return this.#set({ name: 'failed', message }, true);
    if (liveSince && performance.now() - liveSince > SETTLED_MS) this.#tries = 0;
    const wait = Math.min(2 ** this.#tries++, LONGEST_WAIT_S) * 1000;
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#set({ name: 'retrying', message, retryAt: Date.now() + wait }, true);
  }

  #set(change, tell = false) {
    this.state = { ...this.state, retryAt: 0, ...change };
    if (tell) this.dispatchEvent(new CustomEvent('state', { detail: this.state }));
  }
}
