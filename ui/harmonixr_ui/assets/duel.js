// Two blind fills of one gap: heard in step, told apart by ear alone, voted on by one key.

import { clock, download, element, getSound, post, randomKey, raterKey } from './page.js';
import { Player } from './player.js';
import { Roll } from './roll.js';

const BINS = 24;
const SHORTCUTS = [['Space', 'play or pause'], ['1 2 or ← →', 'listen to A, B'], ['A B', 'A or B is better'],
  ['T', 'about the same'], ['N', 'both bad'], ['S', 'skip']];
const VOTES = [['a', 'A is better'], ['b', 'B is better'], ['tie', 'About the same'], ['both_bad', 'Both bad'], ['skip', 'Skip']];
const KEYS = { a: 'a', b: 'b', t: 'tie', n: 'both_bad', s: 'skip' };

export function mount({ element: root, props, watch }) {
  const duel = new Duel(root);
  const refresh = () => duel.configure(props.value);
  watch('value', refresh);
  refresh();
}

class Duel {
  constructor(root) {
    this.root = root;
    this.box = element('section', { class: 'hx-duel', 'aria-label': 'Two blind fills' });
    this.status = element('p', { class: 'hx-verdict', role: 'status' });
    this.progress = element('span', { class: 'hx-progress' });
    this.begin = element('button', { type: 'button', class: 'hx-begin', onclick: () => this.next() }, 'Start listening');
    this.playButton = element('button', { type: 'button', class: 'hx-play', onclick: () => this.player.toggle() }, 'Play');
    this.time = element('span', { class: 'hx-time' }, '0:00');
    this.sides = ['a', 'b'].map(side => element('button', { type: 'button', class: 'hx-side', 'data-side': side, 'aria-pressed': 'false',
      onclick: () => this.listen(side) }, element('strong', {}, side.toUpperCase()), element('span', { class: 'hx-heard' })));
    this.votes = VOTES.map(([choice, label]) => element('button', { type: 'button', class: 'hx-vote', 'data-choice': choice,
      onclick: () => this.vote(choice) }, label));
    this.kept = element('div', { class: 'hx-kept' });
    const rollBox = element('div');
    this.stage = element('div', { class: 'hx-stage', hidden: true }, rollBox,
      element('div', { class: 'hx-transport' }, this.playButton, this.time, element('span', { class: 'hx-small' }, 'looped around the gap')),
      element('div', { class: 'hx-sides', role: 'group', 'aria-label': 'Listen to' }, ...this.sides),
      element('div', { class: 'hx-votes', role: 'group', 'aria-label': 'Your verdict' }, ...this.votes));
    this.help = element('dl', { class: 'hx-keys', 'aria-label': 'Keyboard shortcuts' },
      ...SHORTCUTS.map(([keys, what]) => element('div', {}, element('dt', {}, ...keys.split(' ').map(k => k === 'or' ? ' or ' : element('kbd', {}, k))), element('dd', {}, what))));
    this.head = element('div', { class: 'hx-duelhead' }, this.begin, this.progress);
    this.box.append(this.head, this.status, this.kept, this.stage, this.help);
    this.roll = new Roll(rollBox, { height: 220, barPx: 72 });
    this.player = new Player({ onFrame: at => this.frame(at), onState: () => this.buttons() });
    document.addEventListener('keydown', event => this.key(event));
    // Space plays: it must not press the button that was clicked last, which some browsers do when it is let go.
    document.addEventListener('keyup', event => { if (event.key === ' ' && this.listens(event)) event.preventDefault(); });
  }

  configure(value) {
    if (!this.box.isConnected) this.root.append(this.box);
    const key = JSON.stringify(value);
    if (key === this.key_) return;
    this.key_ = key;
    this.source = value;
    this.isStudy = Boolean(value?.pool);
    this.box.hidden = !value;
    this.begin.hidden = !this.isStudy;
    this.#close();
    this.say('');
    this.kept.replaceChildren();
    this.#count(0);
    if (value?.infill) this.next();
  }

  async next() {
    const source = this.source;
    this.#close();
    this.kept.replaceChildren();
    this.begin.hidden = true;
    this.say(this.isStudy ? 'Fetching the next pair…' : 'Making two fills…');
    try {
      const request = this.isStudy ? { pool: source.pool } : { infill: source.infill };
      const response = await post('hx/comparisons', { rater_key: raterKey(), ...request });
      const pair = await response.json();
      if (source === this.source) await this.#open(pair);
    } catch (error) {
      if (source !== this.source) return;
      this.say(error.message, 'bad');
      this.begin.textContent = 'Try again';
      this.begin.hidden = false;
    }
  }

  async #open(pair) {
    const { start_s, end_s, audio_start_s: origin, song } = pair;
    this.player.reset({ origin, from: origin, to: Infinity, loop: true });
    await Promise.all(['a', 'b'].map(side => this.player.load(side, () => getSound(pair[side].audio))));
    this.pair = pair;
    this.heard = { a: new Set(), b: new Set() };
    this.seconds = 0; this.lastFrame = null;
    this.judgment_id = randomKey();
    const bars = song.bars.filter(bar => bar.start_s >= start_s - 0.01 && bar.start_s < end_s - 0.01);
    const tracks = gapTracks(pair);
    this.gap = { first: bars[0]?.number, last: bars.at(-1)?.number, tracks };
    this.stage.hidden = false;
    this.player.current = 'a';
    this.roll.song = null;
    this.#drawSide('a');
    this.buttons();
    this.say('Which fill is better? Listen to A and to B.');
  }

  #close() {
    this.player.reset({ origin: 0, from: 0, to: 0, loop: true });
    this.pair = null;
    this.stage.hidden = true;
  }

  listen(side) {
    if (!this.pair) return;
    this.player.play(side);
    this.#drawSide(side);
  }

  // Both sides in one colour: nothing tells them apart but the notes.
  #drawSide(side) { this.roll.show({ song: this.pair.song, gap: this.gap, fill: this.pair[side].notes }); }

  frame(at) {
    this.roll.setPlayhead(at);
    this.time.textContent = clock(at);
    if (!this.pair || !this.player.isPlaying) return;
    const now = performance.now();
    if (this.lastFrame !== null && now - this.lastFrame < 500) this.seconds += (now - this.lastFrame) / 1000;
    this.lastFrame = now;
    const { start_s, end_s } = this.pair;
    const share = (at - start_s) / (end_s - start_s);
    if (share >= 0 && share < 1) this.heard[this.player.current].add(Math.floor(share * BINS));
    this.#showHeard();
  }

  #showHeard() {
    for (const button of this.sides) {
      const share = Math.round(this.#share(button.dataset.side) * 100);
      button.style.setProperty('--heard', `${share}%`);
      button.querySelector('.hx-heard').textContent = share ? `heard ${share} %` : 'not heard yet';
    }
  }

  #share(side) { return this.heard ? this.heard[side].size / BINS : 0; }

  buttons() {
    this.playButton.textContent = this.player?.isPlaying ? 'Pause' : 'Play';
    for (const button of this.sides) {
      button.setAttribute('aria-pressed', String(button.dataset.side === this.player?.current));
    }
    this.#showHeard();
  }

  async vote(choice) {
    if (!this.pair || this.saving) return;
    if (choice !== 'skip' && !(this.heard.a.size && this.heard.b.size)) {
      return this.say('Listen to the gap in both fills first: keys 1 and 2.', 'bad');
    }
    const { comparison_id, token } = this.pair;
    const judgment = { judgment_id: this.judgment_id, comparison_id, token, rater_key: raterKey(), choice,
      listening: { heard_a: this.#share('a'), heard_b: this.#share('b'), seconds: Math.round(this.seconds * 10) / 10 } };
    this.saving = true;
    this.votes.forEach(button => { button.disabled = true; });
    this.say('Saving…');
    try {
      const response = await post('hx/judgments', judgment);
      if (response.status !== 201) throw new Error('The service did not confirm the vote.');
      this.#saved(choice);
    } catch (error) {
      this.say(`Not saved: ${error.message} Vote again to retry.`, 'bad');
    } finally {
      this.saving = false;
      this.votes.forEach(button => { button.disabled = false; });
    }
  }

  async #saved(choice) {
    const said = VOTES.find(([name]) => name === choice)[1].toLowerCase();
    const pair = this.pair;
    if (choice !== 'skip') this.#count(1);
    if (this.isStudy) {
      await this.next();
      if (this.pair) this.say(`Saved: ${said}. Here is the next pair.`, 'good');
      return;
    }
    this.#close();
    this.say(`Saved: ${said}.`, 'good');
    const keep = choice === 'a' || choice === 'b' ? [choice] : choice === 'tie' ? ['a', 'b'] : [];
    this.kept.replaceChildren(...keep.map(side => element('button', { type: 'button', class: 'hx-begin',
      onclick: () => download(pair[side].midi_base64, `fill-${side}.mid`) }, `⤓ Download fill ${side.toUpperCase()}`)));
  }

  #count(more) {
    const total = Number(localStorage.getItem('harmonixr.judged') || 0) + more;
    if (more) localStorage.setItem('harmonixr.judged', String(total));
    this.progress.textContent = total ? `${total} ${total === 1 ? 'pair' : 'pairs'} judged in this browser` : '';
  }

  // Whether a key is for this pair: it is shown, and nobody is writing elsewhere.
  listens(event) {
    if (!this.pair || this.box.offsetParent === null || event.ctrlKey || event.metaKey || event.altKey) return false;
    return !event.target.closest?.('input, textarea, select, [contenteditable], [role="tab"], [role="listbox"]');
  }

  key(event) {
    if (!this.listens(event)) return;
    const pressed = event.key.toLowerCase();
    if (pressed === ' ') this.player.toggle();
    else if (pressed === '1' || pressed === 'arrowleft') this.listen('a');
    else if (pressed === '2' || pressed === 'arrowright') this.listen('b');
    else if (KEYS[pressed] && !event.repeat) this.vote(KEYS[pressed]);
    else return;
    event.preventDefault();
  }

  say(sentence, mood = '') {
    this.status.textContent = sentence;
    this.status.dataset.mood = mood;
  }
}

function gapTracks(pair) {
  const named = pair.region.tracks;
  if (!named) return pair.song.tracks.map(track => track.number);
  return named.map(which => typeof which === 'number' ? which : pair.song.tracks.find(t => t.name === which)?.number);
}
