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
 * retrying (see `retryAt`) and failed. `message` is a sentence for people, or empty; `verdict` is null, or
 * what is wrong for programs: `code`, `cause`, `advice`. `notes` are sentences on what is missing, and
 * `verdicts` their codes.
 */

import { Call } from './call.js';

// A call that lasted this long counts as good: the next waits start from the shortest again.
const SETTLED_MS = 10_000;
const LONGEST_WAIT_S = 10;

const NOTHING = { message: '', verdict: null, tracks: [], notes: [], verdicts: [] };

export class Player extends EventTarget {
  source = null;
  state = { name: 'idle', ...NOTHING };
  #video; #base; #kinds; #answered = NOTHING; #call = null; #retry = 0; #tries = 0; #played = false;

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
    this.#set(NOTHING);
    this.#connect();
  }

  stop() {
    this.#end();
    this.#video.srcObject = null;
    this.source = null;
    this.#set({ name: 'idle', ...NOTHING }, true);
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
    const { message, verdict } = this.#played ? this.state : NOTHING;
    this.#set({ name: 'connecting', message, verdict }, true);
    const asked = { source: this.source, base: this.#base, kinds: this.#kinds };
    this.#call = new Call(asked, this.#video, (name, detail) => this.#on(name, detail));
    this.#call.start();
  }

  #on(name, detail) {
    if (name === 'stats' || name === 'blocked') {
      this.dispatchEvent(new CustomEvent(name, { detail }));
    } else if (name === 'answered') {
      this.#answered = detail;
      this.#set(detail, true);
    } else if (name === 'lost') {
      this.#lost(detail);
    } else if (name === 'noticed') {
      // What was noticed before, and is over, is told no more.
      const { notes, verdicts } = this.#answered;
      const found = detail && !verdicts.includes(detail.code) ? [detail] : [];
      const change = {
        notes: [...notes, ...found.map(({ cause, advice }) => `${cause} ${advice}`)],
        verdicts: [...verdicts, ...found.map(({ code }) => code)],
      };
      this.#set(change, change.verdicts.join() !== this.state.verdicts.join());
    } else {
      if (name === 'live') this.#played = true;
      const { message = '', verdict = null } = detail ?? {};
      const before = this.state;
      const isNew = before.name !== name || before.message !== message || before.verdict?.code !== verdict?.code;
      this.#set({ name, message, verdict }, isNew);
    }
  }

  #lost({ message, final, verdict }) {
    const { liveSince } = this.#call;
    this.#end();
    if (final || !this.#played) return this.#set({ name: 'failed', message, verdict }, true);
    if (liveSince && performance.now() - liveSince > SETTLED_MS) this.#tries = 0;
    const wait = Math.min(2 ** this.#tries++, LONGEST_WAIT_S) * 1000;
    this.#retry = setTimeout(() => this.#connect(), wait);
    this.#set({ name: 'retrying', message, verdict, retryAt: Date.now() + wait }, true);
  }

  #set(change, tell = false) {
    this.state = { ...this.state, retryAt: 0, ...change };
    if (tell) this.dispatchEvent(new CustomEvent('state', { detail: this.state }));
  }
}
