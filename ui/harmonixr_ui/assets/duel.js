// Two blind fills of one gap: asked for, heard in step, judged, sent, and taken back if asked to within ten seconds.
// Each part knows its own business; this file knows the order.

import { volume } from './audio.js';
import { aboutYourData, consentTo, headphones, Intro, isIntroduced, setIntroduced } from './intro.js';
import { keyList, listenForKeys, unfocused } from './keys.js';
import { outbox } from './outbox.js';
import { button, download, element, fetchJson, post, preview, randomKey, raterKey } from './page.js';
import { Stage } from './stage.js';
import { Undo } from './undo.js';
import { spoken, Verdict } from './verdict.js';

const OVER = new Set([409, 410]);

export function mount({ element: root, props, watch }) {
  const duel = new Duel(root);
  const refresh = () => duel.configure(props.value);
  watch('value', refresh);
  refresh();
}

class Duel {
  constructor(root) {
    this.root = root;
    this.status = element('p', { class: 'hx-verdict', role: 'status' });
    this.progress = element('span', { class: 'hx-progress' });
    this.bar = element('progress', { class: 'hx-bar', max: 1, value: 0, hidden: true, 'aria-label': 'Pairs judged' });
    this.waiting = element('span', { class: 'hx-waiting', role: 'status' });
    this.begin = button('Start listening', () => { this.pair = null; this.start(); }, { class: 'hx-begin' });
    this.kept = element('div', { class: 'hx-kept' });
    this.stage = new Stage({ onHeard: () => this.heard() });
    this.verdict = new Verdict({ onSave: answer => this.save(answer), onSkip: () => this.save({ choice: 'skip' }),
      onRefuse: why => this.say(why, 'bad') });
    this.undo = new Undo(saved => this.takeBack(saved));
    this.help = keyList();
    this.stage.element.append(this.verdict.element);
    this.box = element('section', { class: 'hx-duel', 'aria-label': 'Two blind fills' });
    unfocused(this.box);
    const isOpen = () => (this.pair || this.undo.isOpen) && this.box.offsetParent !== null;
    listenForKeys(isOpen, (name, argument) => this.act(name, argument));
    document.addEventListener('harmonixr-volume', () => this.heard());
    for (const event of ['stored', 'refused', 'waiting']) outbox.addEventListener(event, ({ detail }) => this.told(event, detail));
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
    const head = element('div', { class: 'hx-duelhead' }, this.begin, this.bar, this.progress, this.waiting);
    this.box.replaceChildren(head, this.status, this.undo.element, this.kept, this.intro.element, this.stage.element, this.help,
      aboutYourData(value.consent));
    this.begin.hidden = !this.isStudy;
    this.close();
    this.kept.replaceChildren();
    this.count();
    if (!this.isStudy) this.start();
  }

  close() {
    this.pair = null;
    this.help.hidden = true;
    this.queue = [];
    this.undo.close();
    this.stage.close();
    this.say('');
  }

  // Everything that comes first comes once in a browser; a musician's own gap asks for consent alone.
  async start() {
    const { source } = this;
    this.begin.hidden = true;
    this.say('');
    if (!consentTo(source.consent)) await this.intro.consent();
    if (this.source !== source) return;
    if (this.isStudy && !isIntroduced()) await this.practise().catch(error => this.failed(error));
    else await this.next();
  }

  failed(error) {
    this.pair = null;
    this.stage.close();
    this.help.hidden = true;
    this.say(error.message, 'bad');
    this.offer('Try again');
  }

  async practise() {
    this.say('One moment: making a pair to practise on…');
    const pair = await fetchJson('hx/practice').catch(() => null);
    this.say('');
    if (!pair) return this.next();
    for (const side of ['a', 'b']) pair[side].sound = () => preview(pair[side].midi_base64, pair.audio_start_s, pair.audio_end_s);
    let isWanted = false;
    const sample = async on => {
      isWanted = on;
      if (!on) return this.stage.pause();
      if (this.stage.pair !== pair) await this.stage.open(pair).catch(error => this.say(error.message, 'bad'));
      // Whoever went on meanwhile may see the practice pair already.
      if (this.pair === pair) return;
      this.stage.element.hidden = true;
      if (isWanted) this.stage.hear(pair.better);
    };
    await this.intro.volume(sample);
    await this.intro.headphones();
    await this.open(pair, { isPractice: true });
  }

  async next() {
    this.kept.replaceChildren();
    const { source } = this, turn = this.turn = Symbol('turn');
    if (this.queue.length) return this.reopen(this.queue.pop());
    this.say('One moment: fetching two fills…');
    this.stage.rest();
    this.pair = null;
    try {
      const ask = { rater_key: raterKey(), ...(source.pool ? { pool: source.pool } : { infill: source.infill }) };
      const pair = await (await post('hx/comparisons', ask)).json();
      if (this.source !== source) return;
      // An answer was taken back meanwhile: that pair comes first.
      if (this.turn !== turn) return void this.queue.push([pair]);
      await this.open(pair);
    } catch (error) {
      if (this.source !== source || this.turn !== turn) return;
      this.failed(error);
      // The study has all it asked for, of this listener or of everybody.
      if (!OVER.has(error.status)) return;
      this.say(error.message, 'good');
      this.begin.hidden = true;
    }
  }

  async reopen(waiting) {
    await this.open(...waiting).catch(error => { this.queue.push(waiting); this.failed(error); });
  }

  async open(pair, { trace = null, isPractice = false, greeting = null } = {}) {
    const { source } = this;
    await this.stage.open(pair, trace);
    if (this.source !== source) return this.stage.close();
    Object.assign(this, { pair, isPractice });
    this.begin.hidden = true;
    this.help.hidden = false;
    this.verdict.reset();
    this.count();
    this.heard();
    this.say(greeting || (isPractice ? 'A pair to practise on; it is not counted. Listen to A and to B, then say which you would keep.'
      : 'Which fill is better? Listen to A and to B.'));
  }

  heard() {
    const percent = Math.round((this.stage.pair?.min_heard || 0) * 100);
    const why = volume() ? `Listen to ${percent} % of the fill on both sides first.` : 'The volume is at zero, so nothing counts as heard.';
    this.verdict.setOpen(this.stage.isHeard, why);
  }

  act(name, argument) {
    if (name === 'undo') return this.undo.press();
    if (!this.pair) return;
    const acts = { toggle: () => this.stage.toggle(), hear: () => this.stage.hear(argument), loop: () => this.stage.loopFill(),
      choose: () => this.verdict.choose(argument), save: () => this.verdict.submit(), skip: () => this.save({ choice: 'skip' }) };
    acts[name]?.();
  }

  async save(answer) {
    if (!this.pair || this.isSaving) return;
    if (this.isPractice) return this.endPractice(answer);
    const { pair } = this, { trace } = this.stage;
    const judgment = { judgment_id: randomKey(), comparison_id: pair.comparison_id, token: pair.token, rater_key: raterKey(), ...answer,
      listening: { ...this.stage.evidence(), headphones: headphones() }, consent: consentTo(this.source.consent) };
    this.isSaving = true;
    this.verdict.setBusy(true);
    this.say('Saving…');
    const outcome = await outbox.deliver('hx/judgments', judgment, judgment.judgment_id);
    this.isSaving = false;
    this.verdict.setBusy(false);
    // Only the service can say that it is saved; what it refused stays open here.
    if (outcome === 'refused') return this.isStudy ? this.offer('Next pair') : undefined;
    if (answer.choice !== 'skip') this.count(1);
    const saved = { judgment, pair, trace, answer };
    if (outcome === 'stored') this.undo.offer(`Saved: ${spoken(answer)}.`, saved);
    if (this.isStudy) await this.next();
    else this.offerToKeep(saved);
  }

  endPractice(answer) {
    const better = this.pair.better;
    const said = answer.choice === better ? 'So would we' : 'Think of it as you like';
    this.pair = null;
    this.stage.close();
    this.say(`${said}: ${better.toUpperCase()} was the original, and in the other the pitches were drawn by lot. From now on it counts.`, 'good');
    setIntroduced();
    this.offer('Begin');
  }

  offer(label) {
    this.begin.textContent = label;
    this.begin.hidden = false;
  }

  offerToKeep({ pair, answer: { choice } }) {
    this.pair = null;
    this.stage.close();
    this.help.hidden = true;
    this.say('');
    const keep = choice === 'a' || choice === 'b' ? [choice] : choice === 'tie' ? ['a', 'b'] : [];
    this.kept.replaceChildren(...keep.map(side => button(`⤓ Download fill ${side.toUpperCase()}`,
      () => download(pair[side].midi_base64, `fill-${side}.mid`), { class: 'hx-begin' })));
  }

  async takeBack({ judgment, pair, trace, answer }) {
    const { judgment_id, rater_key } = judgment;
    this.turn = Symbol('turn');
    this.say('Taking it back…');
    const outcome = await outbox.deliver('hx/retractions', { judgment_id, rater_key }, `back.${judgment_id}`);
    if (outcome !== 'stored') return;
    if (answer.choice !== 'skip') this.count(-1);
    if (this.pair) this.queue.push([this.pair, { trace: this.stage.trace }]);
    this.kept.replaceChildren();
    this.queue.push([pair, { trace, greeting: 'Taken back. Judge this pair again.' }]);
    await this.next();
  }

  // What the outbox says: of this pair at once, of earlier ones whenever it happens.
  told(event, item) {
    const left = outbox.items.length;
    this.waiting.textContent = left ? `${left} ${left === 1 ? 'answer waits' : 'answers wait'} in this browser, not saved yet` : '';
    if (event === 'waiting') this.say(`Not saved yet: ${item.reason} It is kept in this browser and sent again.`, 'bad');
    if (event === 'refused') this.say(`Not saved: ${item.reason}`, 'bad');
    if (event !== 'stored' || this.isSaving || item.path !== 'hx/judgments') return;
    this.say(left ? 'Saved: an answer that was waiting.' : 'Saved: everything that was waiting.', 'good');
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

  say(sentence, mood = '') {
    this.status.textContent = sentence;
    this.status.dataset.mood = mood;
  }
}
