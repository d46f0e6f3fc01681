// The steps before the first pair: consent, volume and a headphone check. This browser stores their results.

import { audioContext } from './audio.js';
import { headphoneCheck } from './headphones.js';
import { button, element, raterKey } from './page.js';
import { volumeSlider } from './volume.js';

const CONSENT = 'harmonixr.consent', HEADPHONES = 'harmonixr.headphones', INTRODUCED = 'harmonixr.introduced';

const load = name => { try { return JSON.parse(localStorage.getItem(name)); } catch { return null; } };
const store = (name, value) => localStorage.setItem(name, JSON.stringify(value));

// The consent to this version of the wording, or null. A new version needs a new consent.
export function consentTo(wording) {
  const given = load(CONSENT);
  return given && given.version === wording.version ? given : null;
}

export const headphones = () => load(HEADPHONES) || 'not_checked';
export const isIntroduced = () => load(INTRODUCED) === true;
export const setIntroduced = () => store(INTRODUCED, true);

export class Intro {
  constructor(wording) {
    this.wording = wording;
    this.element = element('div', { class: 'hx-intro', hidden: true });
  }

  close() { this.element.hidden = true; this.element.replaceChildren(); }

  // Each step resolves when the listener continues.
  consent() {
    return this.#step('Before you take part', go => [
      ...this.wording.paragraphs.map(text => element('p', {}, text)),
      element('p', { class: 'hx-small' }, `Wording ${this.wording.version}. Its number is stored with each of your judgments.`),
      button('I agree and want to take part', () => {
        store(CONSENT, { version: this.wording.version, given: new Date().toISOString() });
        go();
      }, { class: 'hx-primary' })]);
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
        element('p', {}, 'Play the music and choose a comfortable volume at which quiet notes are easy to hear. '
          + 'Then leave it: both fills of a pair are equally loud.'),
        element('div', { class: 'hx-row' }, play, volumeSlider()),
        button('The volume is right', () => { sample(false); go(); }, { class: 'hx-primary' })];
    });
  }

  headphones() {
    return this.#step('Headphones, if you have them', go => {
      const end = outcome => { store(HEADPHONES, outcome); go(); };
      return [
        element('p', {}, 'Small details are easier to hear with headphones. Three short tones check whether you wear some; '
          + 'the result is only stored with your judgments.'),
        headphoneCheck({ onEnd: end }),
        button('Continue without headphones', () => end('not_checked'), { class: 'hx-quiet' })];
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

// The consent text again, and the key by which a listener can have judgments erased.
export function aboutYourData(wording) {
  const key = element('code', { class: 'hx-raterkey' });
  const details = element('details', { class: 'hx-about' }, element('summary', {}, 'About your data'),
    ...wording.paragraphs.map(text => element('p', {}, text)),
    element('p', {}, 'Your listener key: ', key));
  details.addEventListener('toggle', () => { key.textContent = details.open ? raterKey() : ''; });
  return details;
}
