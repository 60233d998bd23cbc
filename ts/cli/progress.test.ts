import { expect, test } from 'vitest';
import { TerminalProgress } from './progress.ts';

class Screen {
  text = '';
  readonly isTTY: boolean;
  readonly columns = 200;
  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }
  write(text: string): void {
    this.text += text;
  }
  /** What was written since the last call. */
  take(): string {
    const { text } = this;
    this.text = '';
    return text;
  }
}

function start(isTTY: boolean) {
  const screen = new Screen(isTTY);
  const clock = { now: 1000 };
  const progress = new TerminalProgress(screen, () => clock.now);
  return { screen, clock, progress };
}

test('work shorter than two seconds is silent', () => {
  const { screen, clock, progress } = start(false);
  const task = progress.start('latents', { total: 4, unit: 'images' });
  clock.now += 1900;
  task.advance(4);
  progress.tick();
  task.end();
  expect(screen.take()).toBe('');
});

test('a log gets a line at once and then every ten seconds, and one at the end', () => {
  const { screen, clock, progress } = start(false);
  const task = progress.start('latents', { total: 64, unit: 'images' });
  clock.now += 4000;
  task.set(16);
  progress.tick();
  expect(screen.take()).toBe('latents  25%  16/64 images  4.00/s  4.0 s  12 s left\n');
  clock.now += 5000;
  progress.tick();
  expect(screen.take()).toBe('');
  clock.now += 7000;
  task.set(64);
  task.end();
  task.end();
  expect(screen.take()).toBe('latents: 64 images in 16 s (4.00/s)\n');
});

test('a terminal has one line with a bar, which a kept line does not disturb', () => {
  const { screen, clock, progress } = start(true);
  const task = progress.start('train', { total: 100, unit: 'steps' });
  clock.now += 10_000;
  task.set(50);
  task.note('loss 0.12');
  progress.tick();
  expect(screen.take()).toBe(
    '\r\x1b[2Ktrain  [############............]  50/100 steps  5.00/s  10 s  10 s left  loss 0.12',
  );
  progress.log('validation 0.1');
  expect(screen.take()).toBe('\r\x1b[2Kvalidation 0.1\n');
});

test('the rate follows a change of pace', () => {
  const { screen, clock, progress } = start(false);
  const task = progress.start('train', { total: 1000, unit: 'steps' });
  for (let step = 1; step <= 100; step += 1) {
    clock.now += step <= 50 ? 100 : 1000;
    task.set(step);
  }
  progress.tick();
  expect(screen.take()).toContain('1.00/s');
});

test('bytes are shown as bytes, slow work as seconds each, inner work before outer', () => {
  const { screen, clock, progress } = start(false);
  const outer = progress.start('demo');
  const inner = progress.start('write', { total: 2e9, unit: 'bytes' });
  clock.now += 5000;
  inner.set(1e9);
  progress.tick();
  expect(screen.take()).toBe('write  50%  1.00 GB/2.00 GB  200 MB/s  5.0 s  5.0 s left\n');
  inner.end();
  screen.take();
  const slow = progress.start('pictures', { total: 2, unit: 'pictures' });
  clock.now += 30_000;
  slow.advance();
  progress.tick();
  expect(screen.take()).toContain('30 s each');
  slow.end();
  outer.end();
});
