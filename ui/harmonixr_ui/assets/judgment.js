// The form of a judgment: which side, how much better, and why.

import { button, element, setPressed, toggle } from './page.js';

const CHOICES = { a: 'A is better', b: 'B is better', tie: 'About the same', both_bad: 'Both bad' };
const STRENGTHS = ['slightly', 'clearly', 'by far'];
const TAGS = { timing: 'Timing', harmony: 'Harmony', seam: 'Seam', boring: 'Boring', out_of_style: 'Out of style' };
const MAX_COMMENT = 500;

let forms = 0;

export class JudgmentForm {
  constructor({ onSave, onSkip, onRefuse }) {
    Object.assign(this, { onSave, onSkip, onRefuse });
    const hint = `hx-hint-${forms += 1}`;
    this.choices = Object.entries(CHOICES).map(([name, label]) =>
      toggle(label, () => this.choose(name, { again: false }), { class: 'hx-vote', 'data-choice': name, 'aria-describedby': hint }));
    this.skip = button('Skip', () => this.onSkip(), { class: 'hx-vote hx-quiet' });
    this.hint = element('p', { class: 'hx-small hx-hint', id: hint });
    this.strengths = STRENGTHS.map((label, i) => toggle(label, () => this.#setStrength(i + 1), { class: 'hx-chip', 'data-strength': i + 1 }));
    this.tags = Object.entries(TAGS).map(([name, label]) => toggle(label, () => this.#toggleTag(name), { class: 'hx-chip', 'data-tag': name }));
    this.comment = element('textarea', { class: 'hx-comment', rows: 2, maxlength: MAX_COMMENT, 'aria-label': 'Comment',
      placeholder: 'Anything else? (optional)' });
    this.save = button('Save', () => this.submit(), { class: 'hx-primary hx-save' });
    this.strengthRow = element('div', { class: 'hx-row', role: 'group', 'aria-label': 'How much better' },
      element('span', { class: 'hx-rowlabel' }, 'Better by how much?'), ...this.strengths);
    this.details = element('div', { class: 'hx-details', hidden: true }, this.strengthRow,
      element('div', { class: 'hx-row', role: 'group', 'aria-label': 'What decided it' },
        element('span', { class: 'hx-rowlabel' }, 'What decided it?'), ...this.tags),
      this.comment, this.save);
    this.element = element('div', { class: 'hx-judgment' },
      element('div', { class: 'hx-votes', role: 'group', 'aria-label': 'Your judgment' }, ...this.choices, this.skip), this.hint, this.details);
    this.reset();
  }

  reset() {
    Object.assign(this, { choice: null, strength: null, chosenTags: new Set() });
    this.comment.value = '';
    this.#show();
  }

  // The form opens once enough was heard; `missing` tells the listener what is still to do.
  setOpen(isOpen, missing) {
    if (isOpen === this.isOpen && missing === this.missing) return;
    Object.assign(this, { isOpen, missing });
    this.#show();
  }

  setBusy(isBusy) {
    for (const one of [this.save, this.skip]) one.disabled = isBusy;
  }

  // Pressing the key of the same choice again makes it stronger: slightly, clearly, by far, then slightly again.
  choose(name, { again = true } = {}) {
    if (!this.isOpen) return this.onRefuse(this.missing);
    const repeated = name === this.choice;
    this.choice = name;
    if (name !== 'a' && name !== 'b') this.strength = null;
    else if (!repeated) this.strength = null;
    else if (again) this.strength = (this.strength || 0) % STRENGTHS.length + 1;
    this.#show();
  }

  submit() {
    if (!this.choice) return this.onRefuse(this.isOpen ? 'Choose first: A is better, B is better, about the same, or both bad.' : this.missing);
    const { choice, strength } = this;
    this.onSave({ choice, strength, tags: [...this.chosenTags], comment: this.comment.value.trim() });
  }

  #setStrength(value) {
    this.strength = this.strength === value ? null : value;
    this.#show();
  }

  #toggleTag(tag) {
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
    this.hint.textContent = this.isOpen ? '' : this.missing || '';
  }
}

const CHOICE_TEXTS = { a: 'A is better', b: 'B is better', tie: 'about the same', both_bad: 'both bad', skip: 'skipped' };

export function voteText({ choice, strength }) {
  return strength ? `${choice.toUpperCase()} is ${STRENGTHS[strength - 1].replace('by ', '')} better` : CHOICE_TEXTS[choice];
}
