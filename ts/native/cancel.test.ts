import { expect, test } from 'vitest';
import { cancelled } from './cancel.ts';
import { addon } from './load.ts';

/** Verifies nothing at all, under a signal. */
async function job(signal: AbortSignal): Promise<string> {
  const { VerificationProgress, verifyCache } = addon();
  using cancel = cancelled(signal);
  const outcome = await verifyCache('/nowhere', new VerificationProgress(), cancel.token);
  return 'error' in outcome ? outcome.error.kind : 'done';
}

test('an aborted signal ends a job as interrupted, another leaves it alone', async () => {
  expect(await job(AbortSignal.abort())).toBe('interrupted');
  expect(await job(new AbortController().signal)).toBe('input');
});

test('what is disposed hears no more of the signal', () => {
  const controller = new AbortController();
  let calls = 0;
  const cancel = cancelled(controller.signal);
  cancel.token.cancel = () => {
    calls += 1;
  };
  cancel[Symbol.dispose]();
  controller.abort();
  expect(calls).toBe(0);
});
