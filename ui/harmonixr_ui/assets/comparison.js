// One blind comparison after another: request a pair, play it, collect the judgment, send it, and retract it on request.

import { volume } from './audio.js';
import { aboutYourData, consentTo, headphones, Intro, isIntroduced, setIntroduced } from './intro.js';
import { JudgmentForm, voteText } from './judgment.js';
import { keyList, listenForKeys, unfocused } from './keys.js';
import { outbox } from './outbox.js';
import { button, download, element, fetchJson, post, preview, randomKey, raterKey } from './page.js';
import { PairView } from './pair.js';
import { Undo } from './undo.js';

// The study needs no more judgments, from this listener or from anyone.
const FINISHED = new Set([409, 410]);

export function mount({ element: root, props, watch }) {
  const comparison = new Comparison(root);
  const refresh = () => comparison.configure(props.value);
  watch('value', refresh);
  refresh();
}

class Comparison {
  constructor(root) {
    this.root = root;
    this.status = element('p', { class: 'hx-message', role: 'status' });
    this.progress = element('span', { class: 'hx-progress' });
    this.bar = element('progress', { class: 'hx-bar', max: 1, value: 0, hidden: true, 'aria-label': 'Pairs judged' });
    this.waiting = element('span', { class: 'hx-waiting', role: 'status' });
    this.startButton = button('Start listening', () => { this.pair = null; this.start(); }, { class: 'hx-primary' });
    this.downloads = element('div', { class: 'hx-downloads' });
    this.view = new PairView({ onHeard: () => this.updateForm() });
    this.form = new JudgmentForm({ onSave: vote => this.save(vote), onSkip: () => this.save({ choice: 'skip' }),
      onRefuse: reason => this.showMessage(reason, 'bad') });
    this.undo = new Undo(saved => this.retract(saved));
    this.help = keyList();
    this.view.element.append(this.form.element);
    this.box = element('section', { class: 'hx-comparison', 'aria-label': 'Two blind fills' });
    unfocused(this.box);
    const isOpen = () => (this.pair || this.undo.isOpen) && this.box.offsetParent !== null;
    listenForKeys(isOpen, (name, argument) => this.act(name, argument));
    document.addEventListener('harmonixr-volume', () => this.updateForm());
    for (const event of ['stored', 'refused', 'waiting']) outbox.addEventListener(event, ({ detail }) => this.showDelivery(event, detail));
  }

  configure(value) {
    if (!this.box.isConnected) this.root.append(this.box);
    const key = JSON.stringify(value);
    if (key === this.key) return;
    this.key = key;
    this.source = value;
    this.isStudy = Boolean(value?.pool);
    this.box.hidden = !value;
    if (!value) return this.close();
    this.intro = new Intro(value.consent);
    const head = element('div', { class: 'hx-comparisonhead' }, this.startButton, this.bar, this.progress, this.waiting);
    this.box.replaceChildren(head, this.status, this.undo.element, this.downloads, this.intro.element, this.view.element, this.help,
      aboutYourData(value.consent));
    this.startButton.hidden = !this.isStudy;
    this.close();
    this.downloads.replaceChildren();
    this.count();
    if (!this.isStudy) this.start();
  }

  close() {
    this.pair = null;
    this.help.hidden = true;
    this.queue = [];
    this.undo.close();
    this.view.close();
    this.showMessage('');
  }

  // A browser shows the introduction once. For a musician's own gap it shows the consent only.
  async start() {
    const { source } = this;
    this.startButton.hidden = true;
    this.showMessage('');
    if (!consentTo(source.consent)) await this.intro.consent();
    if (this.source !== source) return;
    if (this.isStudy && !isIntroduced()) await this.practise().catch(error => this.failed(error));
    else await this.next();
  }

  failed(error) {
    this.pair = null;
    this.view.close();
    this.help.hidden = true;
    this.showMessage(error.message, 'bad');
    this.offer('Try again');
  }

  async practise() {
    this.showMessage('Making a pair to practise on…');
    const pair = await fetchJson('hx/practice').catch(() => null);
    this.showMessage('');
    if (!pair) return this.next();
    for (const side of ['a', 'b']) pair[side].sound = () => preview(pair[side].midi_base64, pair.audio_start_s, pair.audio_end_s);
    let isWanted = false;
    const sample = async on => {
      isWanted = on;
      if (!on) return this.view.pause();
      if (this.view.pair !== pair) await this.view.open(pair).catch(error => this.showMessage(error.message, 'bad'));
      // The listener may have gone on to the practice pair meanwhile.
      if (this.pair === pair) return;
      this.view.element.hidden = true;
      if (isWanted) this.view.hear(pair.better);
    };
    await this.intro.volume(sample);
    await this.intro.headphones();
    await this.open(pair, { isPractice: true });
  }

  async next() {
    this.downloads.replaceChildren();
    const { source } = this, turn = this.turn = Symbol('turn');
    if (this.queue.length) return this.reopen(this.queue.pop());
    this.showMessage('Fetching two fills…');
    this.view.rest();
    this.pair = null;
    try {
      const request = { rater_key: raterKey(), ...(source.pool ? { pool: source.pool } : { infill: source.infill }) };
      const pair = await (await post('hx/comparisons', request)).json();
      if (this.source !== source) return;
      // The listener retracted a judgment meanwhile: that pair comes first.
      if (this.turn !== turn) return void this.queue.push([pair]);
      await this.open(pair);
    } catch (error) {
      if (this.source !== source || this.turn !== turn) return;
      this.failed(error);
      if (!FINISHED.has(error.status)) return;
      this.showMessage(error.message, 'good');
      this.startButton.hidden = true;
    }
  }

  async reopen(waiting) {
    await this.open(...waiting).catch(error => { this.queue.push(waiting); this.failed(error); });
  }

  async open(pair, { trace = null, isPractice = false, greeting = null } = {}) {
    const { source } = this;
    await this.view.open(pair, trace);
    if (this.source !== source) return this.view.close();
    Object.assign(this, { pair, isPractice });
    this.startButton.hidden = true;
    this.help.hidden = false;
    this.form.reset();
    this.count();
    this.updateForm();
    this.showMessage(greeting || (isPractice ? 'A pair to practise on; it is not counted. Listen to A and to B, then choose the one you would keep.'
      : 'Which fill is better? Listen to A and to B.'));
  }

  updateForm() {
    const percent = Math.round((this.view.pair?.min_heard || 0) * 100);
    const missing = volume() ? `Listen to ${percent} % of the fill on both sides first.` : 'The volume is at zero, so nothing counts as heard.';
    this.form.setOpen(this.view.isHeard, missing);
  }

  act(name, argument) {
    if (name === 'undo') return this.undo.press();
    if (!this.pair) return;
    const acts = { toggle: () => this.view.toggle(), hear: () => this.view.hear(argument), loop: () => this.view.loopFill(),
      choose: () => this.form.choose(argument), save: () => this.form.submit(), skip: () => this.save({ choice: 'skip' }) };
    acts[name]?.();
  }

  async save(vote) {
    if (!this.pair || this.isSaving) return;
    if (this.isPractice) return this.endPractice(vote);
    const { pair } = this, { trace } = this.view;
    const judgment = { judgment_id: randomKey(), comparison_id: pair.comparison_id, token: pair.token, rater_key: raterKey(), ...vote,
      listening: { ...this.view.evidence(), headphones: headphones() }, consent: consentTo(this.source.consent) };
    this.isSaving = true;
    this.form.setBusy(true);
    this.showMessage('Saving…');
    const outcome = await outbox.deliver('hx/judgments', judgment, judgment.judgment_id);
    this.isSaving = false;
    this.form.setBusy(false);
    // A judgment is saved once the service confirms it. A refused one stays open here.
    if (outcome === 'refused') return this.isStudy ? this.offer('Next pair') : undefined;
    if (vote.choice !== 'skip') this.count(1);
    const saved = { judgment, pair, trace, vote };
    if (outcome === 'stored') this.undo.offer(`Saved: ${voteText(vote)}.`, saved);
    if (this.isStudy) await this.next();
    else this.offerDownloads(saved);
  }

  endPractice(vote) {
    const better = this.pair.better;
    const comment = vote.choice === better ? 'We would choose the same' : 'Tastes differ';
    this.pair = null;
    this.view.close();
    this.showMessage(`${comment}: ${better.toUpperCase()} was the original, and the other had random pitches. From now on your judgments count.`, 'good');
    setIntroduced();
    this.offer('Begin');
  }

  offer(label) {
    this.startButton.textContent = label;
    this.startButton.hidden = false;
  }

  offerDownloads({ pair, vote: { choice } }) {
    this.pair = null;
    this.view.close();
    this.help.hidden = true;
    this.showMessage('');
    const sides = choice === 'a' || choice === 'b' ? [choice] : choice === 'tie' ? ['a', 'b'] : [];
    this.downloads.replaceChildren(...sides.map(side => button(`⤓ Download fill ${side.toUpperCase()}`,
      () => download(pair[side].midi_base64, `fill-${side}.mid`), { class: 'hx-primary' })));
  }

  async retract({ judgment, pair, trace, vote }) {
    const { judgment_id, rater_key } = judgment;
    this.turn = Symbol('turn');
    this.showMessage('Taking it back…');
    const outcome = await outbox.deliver('hx/retractions', { judgment_id, rater_key }, `back.${judgment_id}`);
    if (outcome !== 'stored') return;
    if (vote.choice !== 'skip') this.count(-1);
    if (this.pair) this.queue.push([this.pair, { trace: this.view.trace }]);
    this.downloads.replaceChildren();
    this.queue.push([pair, { trace, greeting: 'Taken back. Judge this pair again.' }]);
    await this.next();
  }

  // Show what the outbox reports, on this judgment or on an earlier one.
  showDelivery(event, item) {
    const left = outbox.items.length;
    this.waiting.textContent = left ? `${left} ${left === 1 ? 'judgment waits' : 'judgments wait'} in this browser, not saved yet` : '';
    if (event === 'waiting') this.showMessage(`Not saved yet: ${item.reason} This browser stores it and sends it again.`, 'bad');
    if (event === 'refused') this.showMessage(`Not saved: ${item.reason}`, 'bad');
    if (event !== 'stored' || this.isSaving || item.path !== 'hx/judgments') return;
    this.showMessage(left ? 'Saved: one of the waiting judgments.' : 'Saved: all waiting judgments.', 'good');
  }

  count(more = 0) {
    const name = 'harmonixr.judged';
    const total = Math.max(0, Number(localStorage.getItem(name) || 0) + more);
    if (more) localStorage.setItem(name, String(total));
    const planned = this.pair?.progress;
    this.bar.hidden = !planned;
    if (planned) Object.assign(this.bar, { max: planned.total, value: planned.done });
    this.progress.textContent = planned ? `Pair ${Math.min(planned.done + 1, planned.total)} of ${planned.total}`
      : total ? `${total} ${total === 1 ? 'pair' : 'pairs'} judged in this browser` : '';
  }

  showMessage(sentence, mood = '') {
    this.status.textContent = sentence;
    this.status.dataset.mood = mood;
  }
}
