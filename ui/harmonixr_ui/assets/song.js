// The song view of the first page: piano roll, transport, and fills to play in place, choose and download.

import { clock, download, element, fileStem, preview } from './page.js';
import { Player } from './player.js';
import { FILL_COLOUR, Roll, trackColour } from './roll.js';

const MAX_FILE_BYTES = 8 * 2 ** 20;
// Bars to play before and after the gap.
const LEAD_BARS = 2;

export function mount({ element: root, props, trigger, watch }) {
  const view = new SongView(root, trigger);
  const refresh = () => view.show(props.value, props.selection);
  watch(['value', 'selection'], refresh);
  refresh();
}

class SongView {
  constructor(root, trigger) {
    this.root = root;
    this.trigger = trigger;
    this.box = element('section', { class: 'hx-song', 'aria-label': 'Song' });
    this.title = element('h2', { class: 'hx-title' });
    this.facts = element('p', { class: 'hx-facts' });
    this.file = element('input', { type: 'file', accept: '.mid,.midi,audio/midi', class: 'hx-file', 'aria-label': 'Open a MIDI file',
      onchange: () => this.openFile(this.file.files[0]) });
    this.legend = element('ul', { class: 'hx-legend', 'aria-label': 'Tracks' });
    this.playButton = element('button', { type: 'button', class: 'hx-play', onclick: () => this.toggle() }, 'Play');
    this.gapOnly = element('input', { type: 'checkbox', checked: true, onchange: () => this.prepare() });
    this.time = element('span', { class: 'hx-time', 'aria-live': 'off' }, '0:00');
    this.status = element('span', { class: 'hx-status', role: 'status' });
    this.fills = element('div', { class: 'hx-fills', role: 'group', 'aria-label': 'Fills' });
    const open = element('label', { class: 'hx-open' }, 'Open a MIDI file', this.file);
    const rollBox = element('div');
    this.box.append(
      element('div', { class: 'hx-songhead' }, element('div', {}, this.title, this.facts), open),
      this.legend, rollBox,
      element('div', { class: 'hx-transport' }, this.playButton, this.time,
        element('label', { class: 'hx-check' }, this.gapOnly, 'around the gap, looped'), this.status),
      this.fills,
    );
    this.roll = new Roll(rollBox, { onPick: (first, last) => trigger('pick', { first, last }) });
    this.player = new Player({ onFrame: at => this.frame(at), onState: () => this.buttons() });
    this.#acceptDrops();
  }

  show(value, selection) {
    if (!this.box.isConnected) this.root.append(this.box);
    if (!value) return;
    const songChanged = value.midi_base64 !== this.value?.midi_base64;
    const resultChanged = songChanged || value.result?.request_id !== this.value?.result?.request_id;
    this.value = value;
    this.gap = selection || null;
    if (songChanged) this.#describeSong();
    if (resultChanged) {
      this.chosen = value.result ? 0 : null;
      this.#listFills();
    }
    this.draw();
    this.prepare(songChanged || resultChanged);
    if (resultChanged && value.result) this.box.scrollIntoView({ block: 'nearest', behavior: 'smooth' });
  }

  // Draw the fill, or the notes so far of one that is being made, while the marked gap is the one it fills.
  draw() {
    const { result, partial } = this.value;
    const chosen = result && this.chosen !== null && this.sameGap(result) ? result.fills[this.chosen].notes : null;
    const fill = partial && this.sameGap(partial) ? partial.notes : chosen;
    this.roll.show({ song: this.value.song, gap: this.gap, fill });
  }

  sameGap({ bars, tracks }) {
    return bars === `${this.gap?.first}-${this.gap?.last}`
      && JSON.stringify(tracks) === JSON.stringify([...(this.gap?.tracks || [])].sort((a, b) => a - b));
  }

  // The stretch to play: around the gap, or the whole song.
  stretch() {
    const bars = this.value.song.bars;
    const end = bar => (bar < bars.length ? bars[bar].start_s : this.value.song.duration_s);
    const { first, last } = this.gap || {};
    if (!this.gapOnly.checked || !first || !bars[first - 1] || !bars[last - 1] || first > last) {
      return { from: 0, to: this.value.song.duration_s, loop: false };
    }
    const from = bars[Math.max(0, first - 1 - LEAD_BARS)].start_s;
    return { from, to: Math.max(from + 0.5, end(Math.min(bars.length, last + LEAD_BARS))), loop: true };
  }

  prepare(force = true) {
    if (!this.value) return;
    const stretch = this.stretch();
    const key = JSON.stringify(stretch);
    if (!force && key === this.stretchKey) return;
    this.stretchKey = key;
    this.status.textContent = '';
    this.player.reset({ origin: stretch.from, ...stretch });
    this.buttons();
  }

  async toggle() {
    if (this.player.isPlaying) return this.player.pause();
    await this.hear(this.chosen);
  }

  // Play the original (null) or a fill, in its place in the song.
  async hear(index) {
    const name = index === null ? 'original' : String(index);
    const midi = index === null ? this.value.midi_base64 : this.value.result.fills[index].midi_base64;
    const { from, to } = this.stretch();
    this.status.textContent = 'Preparing the sound…';
    try {
      const { epoch } = this.player;
      await this.player.load(name, () => preview(midi, from, to));
      if (this.chosen !== index || this.player.epoch !== epoch) return;
      this.status.textContent = '';
      this.player.play(name);
    } catch (error) {
      this.status.textContent = '';
      this.trigger('refuse', { detail: error.message });
    }
  }

  choose(index) {
    this.chosen = index;
    this.draw();
    this.buttons();
    if (this.player.isPlaying) this.hear(index);
  }

  frame(at) {
    this.roll.setPlayhead(at);
    this.time.textContent = clock(at);
  }

  buttons() {
    this.playButton.textContent = this.player?.isPlaying ? 'Pause' : 'Play';
    this.playButton.dataset.playing = String(Boolean(this.player?.isPlaying));
    this.fills.querySelectorAll('[data-index]').forEach(card => {
      const index = card.dataset.index === '' ? null : Number(card.dataset.index);
      card.classList.toggle('is-chosen', index === this.chosen);
      card.querySelector('.hx-pick').setAttribute('aria-pressed', String(index === this.chosen));
    });
  }

  #describeSong() {
    const { song, name } = this.value;
    const metre = `${song.bars[0].numerator}/${song.bars[0].denominator}`;
    this.title.textContent = name;
    this.facts.textContent = `${song.bars.length} bars of ${metre} · ${song.notes.length} notes · ${clock(song.duration_s)}`;
    this.legend.replaceChildren(...song.tracks.map(track => element('li', {},
      element('span', { class: 'hx-dot', style: `background:${trackColour(track.number)}` }),
      track.name || (track.is_drum ? 'Drums' : `Track ${track.number}`))));
  }

  #listFills() {
    const result = this.value.result;
    this.fills.hidden = !result;
    if (!result) return this.fills.replaceChildren();
    const cards = result.fills.map((fill, index) => this.#card(`Fill ${index + 1}`, index, fill));
    this.fills.replaceChildren(
      element('p', { class: 'hx-fillhead' },
        element('strong', {}, `${result.fills.length} ${result.fills.length === 1 ? 'fill' : 'fills'} of bars ${result.bars}`),
        ` · seed ${result.seed} · model ${result.model_version}`),
      this.#card('Original', null, null), ...cards);
  }

  #card(label, index, fill) {
    const facts = fill === null ? 'unchanged' : `${fill.notes.length} notes${fill.reward === null ? '' : ` · score ${fill.reward.toFixed(2)}`}`;
    const pick = element('button', { type: 'button', class: 'hx-pick', onclick: () => this.choose(index) },
      element('span', { class: 'hx-dot', style: `background:${fill ? FILL_COLOUR : '#94a3b8'}` }),
      element('span', { class: 'hx-label' }, label), element('span', { class: 'hx-small' }, facts));
    const hear = element('button', { type: 'button', class: 'hx-mini', 'aria-label': `Hear ${label.toLowerCase()}`,
      onclick: () => { this.choose(index); this.hear(index); } }, '▶');
    const save = fill && element('button', { type: 'button', class: 'hx-mini', 'aria-label': `Download ${label.toLowerCase()}`,
      onclick: () => download(fill.midi_base64, `${fileStem(this.value.name)}-fill-${index + 1}.mid`) }, '⤓ MIDI');
    return element('div', { class: 'hx-card', 'data-index': index === null ? '' : index }, pick, hear, save);
  }

  async openFile(file) {
    if (!file) return;
    this.file.value = '';
    if (file.size > MAX_FILE_BYTES) {
      return this.trigger('refuse', { detail: `${file.name} is larger than 8 MiB, the limit; cut it into shorter songs.` });
    }
    const bytes = new Uint8Array(await file.arrayBuffer());
    let text = '';
    for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
    this.trigger('open', { name: file.name, midi_base64: btoa(text) });
  }

  #acceptDrops() {
    this.box.addEventListener('dragover', event => { event.preventDefault(); this.box.classList.add('is-over'); });
    this.box.addEventListener('dragleave', () => this.box.classList.remove('is-over'));
    this.box.addEventListener('drop', event => {
      event.preventDefault();
      this.box.classList.remove('is-over');
      this.openFile(event.dataTransfer.files[0]);
    });
  }
}
