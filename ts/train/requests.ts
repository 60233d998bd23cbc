/** What somebody who watches a run asks of it: done after the update under way, once for each time it is asked for. */
export class RunRequests {
  #sample = false;
  #save = false;

  /** Samples now. */
  sample(): void {
    this.#sample = true;
  }

  /** A checkpoint, and the student as it is, now. */
  save(): void {
    this.#save = true;
  }

  /** What was asked for since the last call. */
  take(): { readonly sample: boolean; readonly save: boolean } {
    const taken = { sample: this.#sample, save: this.#save };
    this.#sample = false;
    this.#save = false;
    return taken;
  }
}
