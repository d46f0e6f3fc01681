// A slider for the page's volume; all sliders move together.

import { setVolume, volume } from './audio.js';
import { element } from './page.js';

export function volumeSlider() {
  const slider = element('input', { type: 'range', min: 0, max: 1, step: 0.01, value: volume(), 'aria-label': 'Volume',
    oninput: () => setVolume(Number(slider.value)) });
  document.addEventListener('harmonixr-volume', () => { slider.value = volume(); });
  return element('label', { class: 'hx-volume' }, element('span', { class: 'hx-small' }, 'Volume'), slider);
}
