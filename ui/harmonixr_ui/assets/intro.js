// What comes before the first pair: consent, the volume, a headphone check, and a trial that is not counted.
// What was agreed to and how the check ended is remembered in this browser.

import { audioContext } from './audio.js';
import { headphoneCheck } from './headphones.js';
import { button, element, raterKey } from './page.js';
import { volumeSlider } from './volume.js';

const CONSENT = 'harmonixr.consent', HEADPHONES = 'harmonixr.headphones', INTRODUCED = 'harmonixr.introduced';

const kept = name => { try { return JSON.parse(localStorage.getItem(name)); } catch { return null; } };
const keep = (name, value) => localStorage.setItem(name, JSON.stringify(value));

// The consent that was given to this wording, or null: a new wording asks again.
export function consentTo(wording) {
  const given = kept(CONSENT);
  return given && given.version === wording.version ? given : null;
}

export const headphones = () => kept(HEADPHONES) || 'not_checked';
export const isIntroduced = () => kept(INTRODUCED) === true;
export const setIntroduced = () => keep(INTRODUCED, true);

export class Intro {
  constructor(wording) {
    this.wording = wording;
    this.element = element('div', { class: 'hx-intro', hidden: true });
  }

  close() { this.element.hidden = true; this.element.replaceChildren(); }

  // Each step resolves when the listener goes on.
  consent() {
    return this.#step('Before you take part', go => [
      ...this.wording.paragraphs.map(text => element('p', {}, text)),
      element('p', { class: 'hx-small' }, `Wording ${this.wording.version}. It is kept with each of your answers.`),
      button('I agree and want to take part', () => {
        keep(CONSENT, { version: this.wording.version, given: new Date().toISOString() });
        go();
      }, { class: 'hx-begin' })]);
  }

  // `sample(on)` plays music or stops it.
  volume(sample) {
    return this.#step('Set the volume', go => {
      let isOn = false;
      const play = button('Play some music', () => {
        isOn = !isOn;
        play.textContent = isOn ? 'Stop the music' : 'Play some music';
        audioContext();
        sample(isOn);
      }, { class: 'hx-loop' });
      return [
        element('p', {}, 'Play the music and make it comfortable, with quiet notes still easy to hear. '
          + 'Then leave it there: both fills of a pair are equally loud.'),
        element('div', { class: 'hx-row' }, play, volumeSlider()),
        button('The volume is right', () => { sample(false); go(); }, { class: 'hx-begin' })];
    });
  }

  headphones() {
    return this.#step('Headphones, if you have them', go => {
      const end = outcome => { keep(HEADPHONES, outcome); go(); };
      return [
        element('p', {}, 'Small details are easier to hear over headphones. Three short tones tell us whether you wear some; '
          + 'this is only noted beside your answers.'),
        headphoneCheck({ onEnd: end }),
        button('Go on without headphones', () => end('not_checked'), { class: 'hx-quiet' })];
    });
  }

  #step(title, content) {
    return new Promise(resolve => {
      const heading = element('h3', { class: 'hx-steptitle', tabindex: -1 }, title);
      this.element.replaceChildren(heading, ...content(() => { this.close(); resolve(); }));
      this.element.hidden = false;
      heading.focus({ preventScroll: true });
    });
  }
}

// What is kept, again, and the key that names a listener to whoever keeps it.
export function aboutYourData(wording) {
  const key = element('code', { class: 'hx-raterkey' });
  const details = element('details', { class: 'hx-about' }, element('summary', {}, 'About your data'),
    ...wording.paragraphs.map(text => element('p', {}, text)),
    element('p', {}, 'Your listener key: ', key));
  details.addEventListener('toggle', () => { key.textContent = details.open ? raterKey() : ''; });
  return details;
}
