import { HubApiError } from '@huggingface/hub';
import { inputError, machineError, type PotstillError, toPotstillError } from '../../errors.ts';

/** A failure of a request to the Hub, in words: what, where, and what to do. */
export function hubError(thrown: unknown, where: string): PotstillError {
  if (thrown instanceof HubApiError) return statusError(thrown.statusCode, where, thrown);
  if (thrown instanceof TypeError && thrown.cause !== undefined) {
    const cause = thrown.cause instanceof Error ? thrown.cause.message : String(thrown.cause);
    return machineError('ERR_HUB_UNREACHABLE', `the Hub does not answer: ${cause}`, {
      where,
      remedy: 'Check the connection and HF_ENDPOINT; the same command goes on where it stopped.',
      cause: thrown,
    });
  }
  return toPotstillError(thrown);
}

/** What a status code means to the reader. */
export function statusError(status: number, where: string, cause?: unknown): PotstillError {
  const details = { where, cause };
  if (status === 401 || status === 403) {
    return inputError('ERR_HUB_REFUSED', `the Hub refuses access (status ${status})`, {
      ...details,
      remedy: "Set HF_TOKEN to a token that may, and accept the model's conditions on its page if it has any.",
    });
  }
  if (status === 404) {
    return inputError('ERR_HUB_NOT_FOUND', 'the Hub has no such repository, revision or file', {
      ...details,
      remedy: 'Check the name; a private repository needs HF_TOKEN.',
    });
  }
  return machineError('ERR_HUB_STATUS', `the Hub answered with status ${status}`, {
    ...details,
    remedy: 'Try again later; the same command goes on where it stopped.',
  });
}
