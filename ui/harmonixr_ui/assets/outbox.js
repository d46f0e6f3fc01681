// Requests that must reach the service: stored in this browser until the service confirms them.
// They survive a reload and are sent again with the same ids, which the service stores once.

import { post } from './page.js';

const PREFIX = 'harmonixr.outbox.';
const FIRST_PAUSE_MS = 2_000, LONGEST_PAUSE_MS = 60_000;
// The service gives these statuses again however often a request is repeated.
const FINAL = new Set([400, 403, 404, 409, 410, 413, 415, 422]);

// Events: `stored`, `refused` and `waiting`, each with the item as detail.
class Outbox extends EventTarget {
  constructor() {
    super();
    this.pause = FIRST_PAUSE_MS;
    this.sending = new Map();
    this.unstored = new Map();
    window.addEventListener('online', () => this.flush());
    setTimeout(() => this.flush(), 0);
  }

  get items() {
    const stored = Object.keys(localStorage).filter(key => key.startsWith(PREFIX)).sort();
    return [...stored.map(key => JSON.parse(localStorage.getItem(key))), ...this.unstored.values()];
  }

  // Store and send. Resolves to 'stored', 'refused' (`item.reason` is the cause) or 'waiting' (sent again later).
  deliver(path, body, id) {
    const item = { key: `${PREFIX}${String(Date.now()).padStart(15, '0')}.${id}`, path, body };
    // Where the storage is full or forbidden, the request lives as long as the page.
    try { localStorage.setItem(item.key, JSON.stringify(item)); } catch { this.unstored.set(item.key, item); }
    return this.#send(item);
  }

  // Send one after another: a retraction must follow its judgment.
  async flush() {
    clearTimeout(this.timer);
    for (const item of this.items) {
      if (await this.#send(item) === 'waiting') break;
    }
  }

  #send(item) {
    if (!this.sending.has(item.key)) {
      this.sending.set(item.key, this.#once(item).finally(() => this.sending.delete(item.key)));
    }
    return this.sending.get(item.key);
  }

  async #once(item) {
    try {
      const response = await post(item.path, item.body);
      if (response.status !== 201) throw new Error('The service did not confirm it.');
    } catch (error) {
      item.reason = error.message;
      if (FINAL.has(error.status)) return this.#end(item, 'refused');
      this.#later();
      return this.#report(item, 'waiting');
    }
    this.pause = FIRST_PAUSE_MS;
    return this.#end(item, 'stored');
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), this.pause);
    this.pause = Math.min(LONGEST_PAUSE_MS, this.pause * 2);
  }

  #end(item, outcome) {
    localStorage.removeItem(item.key);
    this.unstored.delete(item.key);
    return this.#report(item, outcome);
  }

  #report(item, outcome) {
    this.dispatchEvent(new CustomEvent(outcome, { detail: item }));
    return outcome;
  }
}

export const outbox = new Outbox();
