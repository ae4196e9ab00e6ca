// The list of cameras: one button each, with its state in a colour and in words; and how a camera is
// called.

const WORDS = { idle: 'Ready', connecting: 'Connecting…', live: 'Live', failed: 'Failed' };

/** Sets a text only when it differs, so that screen readers do not hear it again. */
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

/** A title for an address that cannot give its password away, however it is written. */
export function labelOf(url) {
  const [, scheme, authority, rest] = /^([^:]+):(?:\/\/)?([^/?#]*)(.*)$/s.exec(url) ?? [];
  if (scheme === 'demo') return 'Demo picture';
  const at = authority?.lastIndexOf('@') ?? -1;
  if (!authority || rest.includes('@')) return 'RTSP camera'; // a password may hold / ? # itself
  return authority.slice(at + 1);
}

export class CameraList {
  #list; #choose; #current = null;
  #cards = new Map();

  /** `choose(name)` is called when somebody clicks a camera. */
  constructor(list, choose) {
    this.#list = list;
    this.#choose = choose;
  }

  /** Brings the list to what the server reports; buttons that stay keep their place and focus. */
  update(cameras) {
    // Two URLs may look alike once their passwords are masked.
    const seen = new Map();
    const keys = cameras.map(({ name }) => {
      seen.set(name, (seen.get(name) ?? 0) + 1);
      return `${name} ${seen.get(name)}`;
    });
    for (const [key, { item }] of this.#cards) {
      if (keys.includes(key)) continue;
      item.remove();
      this.#cards.delete(key);
    }
    cameras.forEach((camera, index) => {
      const { item, button, dot, words } = this.#card(keys[index], camera.name);
      // Moving a node that is in its place already would take the focus from it.
      const there = this.#list.children[index] ?? null;
      if (there !== item) this.#list.insertBefore(item, there);
      dot.dataset.state = camera.state;
      // A camera that somebody opened by its URL is listed masked; nobody else can play it.
      button.disabled = camera.named === false;
      say(words, wordsFor(camera));
    });
    this.mark(this.#current);
  }

  /** Marks the camera that is playing; null for none of them. */
  mark(name) {
    this.#current = name;
    for (const { name: its, item, button } of this.#cards.values()) {
      const before = button.getAttribute('aria-current');
      button.setAttribute('aria-current', String(its === name));
      // On a phone the list is one row that scrolls sideways.
      if (its === name && before !== 'true') this.#list.scrollLeft = item.offsetLeft - this.#list.offsetLeft - 40;
    }
  }

  #card(key, name) {
    if (this.#cards.has(key)) return this.#cards.get(key);
    const dot = element('span', 'dot');
    dot.setAttribute('aria-hidden', 'true');
    const words = element('span', 'words');
    const button = element('button', 'camera', dot, element('span', 'name', name), words);
    button.type = 'button';
    button.addEventListener('click', () => this.#choose(name));
    const card = { name, item: element('li', '', button), button, dot, words };
    this.#cards.set(key, card);
    return card;
  }
}

function wordsFor({ state, viewers, error }) {
  if (error) return error;
  const words = WORDS[state] ?? state;
  if (!viewers) return words;
  return `${words} · ${viewers} ${viewers === 1 ? 'viewer' : 'viewers'}`;
}
