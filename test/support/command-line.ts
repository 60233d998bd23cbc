import { run } from '../../ts/cli/run.ts';

class Text {
  text = '';
  write(text: string): boolean {
    this.text += text;
    return true;
  }
}

/** Runs a command line within this process. */
export async function potstill(...words: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const [out, err] = [new Text(), new Text()];
  const code = await run(words, out, err);
  return { code, out: out.text, err: err.text };
}
