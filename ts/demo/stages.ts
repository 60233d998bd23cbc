/** What ran, and for how long. */
export interface Stage {
  readonly name: string;
  readonly seconds: number;
}

/** Times the stages of a job, in order. */
export class Stages {
  readonly done: Stage[] = [];

  /** Runs a stage and records how long it took. */
  async run<T>(name: string, work: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    const result = await work();
    this.done.push({ name, seconds: (performance.now() - begun) / 1000 });
    return result;
  }
}
