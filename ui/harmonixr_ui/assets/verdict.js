// The form of a verdict: which side, how much better, why. Knows nothing of sound or of where it goes.

import { button, element, setPressed, toggle } from './page.js';

export const CHOICES = { a: 'A is better', b: 'B is better', tie: 'About the same', both_bad: 'Both bad' };
const STRENGTHS = ['slightly', 'clearly', 'by far'];
const TAGS = { timing: 'Timing', harmony: 'Harmony', seam: 'Seam', boring: 'Boring', out_of_style: 'Out of style' };
const MAX_COMMENT = 500;

let forms = 0;

export class Verdict {
  constructor({ onSave, onSkip, onRefuse }) {
    Object.assign(this, { onSave, onSkip, onRefuse });
    const hint = `hx-why-${forms += 1}`;
    this.choices = Object.entries(CHOICES).map(([name, label]) =>
      toggle(label, () => this.choose(name, { again: false }), { class: 'hx-vote', 'data-choice': name, 'aria-describedby': hint }));
    this.skip = button('Skip', () => this.onSkip(), { class: 'hx-vote hx-quiet' });
    this.hint = element('p', { class: 'hx-small hx-hint', id: hint });
    this.strengths = STRENGTHS.map((label, i) => toggle(label, () => this.#setStrength(i + 1), { class: 'hx-chip', 'data-strength': i + 1 }));
    this.tags = Object.entries(TAGS).map(([name, label]) => toggle(label, () => this.#flip(name), { class: 'hx-chip', 'data-tag': name }));
    this.comment = element('textarea', { class: 'hx-comment', rows: 2, maxlength: MAX_COMMENT, 'aria-label': 'Comment',
      placeholder: 'Anything else? (optional)' });
    this.save = button('Save', () => this.submit(), { class: 'hx-begin hx-save' });
    this.strengthRow = element('div', { class: 'hx-row', role: 'group', 'aria-label': 'How much better' },
      element('span', { class: 'hx-rowlabel' }, 'Better by how much?'), ...this.strengths);
    this.details = element('div', { class: 'hx-details', hidden: true }, this.strengthRow,
      element('div', { class: 'hx-row', role: 'group', 'aria-label': 'What decided it' },
        element('span', { class: 'hx-rowlabel' }, 'What decided it?'), ...this.tags),
      this.comment, this.save);
    this.element = element('div', { class: 'hx-verdictform' },
      element('div', { class: 'hx-votes', role: 'group', 'aria-label': 'Your verdict' }, ...this.choices, this.skip), this.hint, this.details);
    this.reset();
  }

  reset() {
    Object.assign(this, { choice: null, strength: null, chosenTags: new Set() });
    this.comment.value = '';
    this.#show();
  }

  // Verdicts are taken once enough was heard; `why` says what is missing.
  setOpen(isOpen, why) {
    if (isOpen === this.isOpen && why === this.why) return;
    Object.assign(this, { isOpen, why });
    this.#show();
  }

  setBusy(isBusy) {
    for (const one of [this.save, this.skip]) one.disabled = isBusy;
  }

  // The same choice again by key makes it stronger: slightly, clearly, far, and round.
  choose(name, { again = true } = {}) {
    if (!this.isOpen) return this.onRefuse(this.why);
    const repeated = name === this.choice;
    this.choice = name;
    if (name !== 'a' && name !== 'b') this.strength = null;
    else if (!repeated) this.strength = null;
    else if (again) this.strength = (this.strength || 0) % STRENGTHS.length + 1;
    this.#show();
  }

  submit() {
    if (!this.choice) return this.onRefuse(this.isOpen ? 'Choose first: A, B, about the same, or both bad.' : this.why);
    const { choice, strength } = this;
    this.onSave({ choice, strength, tags: [...this.chosenTags], comment: this.comment.value.trim() });
  }

  #setStrength(value) {
    this.strength = this.strength === value ? null : value;
    this.#show();
  }

  #flip(tag) {
    if (!this.chosenTags.delete(tag)) this.chosenTags.add(tag);
    this.#show();
  }

  #show() {
    for (const one of this.choices) one.setAttribute('aria-disabled', String(!this.isOpen));
    setPressed(one => one.dataset.choice === this.choice, ...this.choices);
    setPressed(one => Number(one.dataset.strength) === this.strength, ...this.strengths);
    setPressed(one => this.chosenTags.has(one.dataset.tag), ...this.tags);
    this.details.hidden = !this.choice;
    this.strengthRow.hidden = this.choice !== 'a' && this.choice !== 'b';
    this.hint.textContent = this.isOpen ? '' : this.why || '';
  }
}

const SPOKEN = { a: 'A is better', b: 'B is better', tie: 'about the same', both_bad: 'both bad', skip: 'skipped' };

export function spoken({ choice, strength }) {
  return strength ? `${choice.toUpperCase()} is ${STRENGTHS[strength - 1].replace('by ', '')} better` : SPOKEN[choice];
}
