// Offer an undo button for ten seconds.

import { button, element } from './page.js';

const SECONDS = 10;

export class Undo {
  constructor(onUndo) {
    this.onUndo = onUndo;
    this.text = element('span', { role: 'status' });
    this.button = button('Undo', () => this.press(), { class: 'hx-chip' });
    this.left = element('span', { class: 'hx-small', 'aria-hidden': 'true' });
    this.element = element('div', { class: 'hx-undo', hidden: true }, this.text, this.button, this.left);
  }

  get isOpen() { return !this.element.hidden; }

  offer(sentence, what) {
    this.close();
    this.what = what;
    this.text.textContent = sentence;
    this.element.hidden = false;
    const end = Date.now() + SECONDS * 1000;
    const tick = () => {
      const seconds = Math.ceil((end - Date.now()) / 1000);
      if (seconds <= 0) return this.close();
      this.left.textContent = `${seconds} s`;
    };
    this.timer = setInterval(tick, 250);
    tick();
  }

  press() {
    if (!this.isOpen) return;
    const { what } = this;
    this.close();
    this.onUndo(what);
  }

  close() {
    clearInterval(this.timer);
    this.what = null;
    this.element.hidden = true;
  }
}
