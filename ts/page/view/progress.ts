import { formatBytes, formatRate, formatSeconds } from '../../cli/format.ts';
import { Pace } from '../pace.ts';
import { byId } from './dom.ts';

type Unit = 'bytes' | 'entries';

/** The section that tells how far it is, how fast, and how long still. */
export class ProgressView {
  readonly #section = byId('run');
  readonly #label = byId('run-label');
  readonly #bar = byId<HTMLProgressElement>('bar');
  readonly #text = byId('pace');
  #name = '';
  #phase = '';
  #pace = new Pace();

  begin(label: string): void {
    this.#name = label;
    this.#phase = '';
    this.#label.textContent = label;
    this.#bar.removeAttribute('value');
    this.#text.textContent = '';
    this.#section.hidden = false;
  }

  /** While files are listed nobody knows how many there are. */
  found(files: number): void {
    this.#text.textContent = `${files} files`;
  }

  set(phase: string, done: number, total: number, unit: Unit): void {
    if (phase !== this.#phase) {
      this.#phase = phase;
      this.#pace = new Pace();
      if (unit === 'entries') this.#label.textContent = `${this.#name}: computing entries again`;
    }
    this.#pace.set(done, total);
    this.#bar.max = total;
    this.#bar.value = done;
    const amount = unit === 'bytes' ? formatBytes : String;
    const { rate, left } = this.#pace;
    const parts = [`${amount(done)} of ${amount(total)}${unit === 'bytes' ? '' : ' entries'}`];
    if (rate > 0) parts.push(unit === 'bytes' ? `${formatBytes(rate)}/s` : perSecond(rate));
    if (left !== undefined && done < total) parts.push(`${formatSeconds(left)} left`);
    this.#text.textContent = parts.join(' · ');
  }

  end(): void {
    this.#section.hidden = true;
  }
}

function perSecond(rate: number): string {
  return rate < 0.1 ? `${formatSeconds(1 / rate)} each` : `${formatRate(rate)}/s`;
}
