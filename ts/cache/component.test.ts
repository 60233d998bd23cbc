import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { componentName, componentState, recordCount } from './component.ts';
import { planLatents, planTeacher, planText, serialisePlan } from './plan/plans.ts';
import type { TeacherPlan } from './plan/types.ts';

const scan = {
  views: [{ image: 'ab'.repeat(32), view: '64x96+0+0' }],
  captions: ['', 'a fox', 'a cat'],
  samples: [
    { view: 0, caption: 1 },
    { view: 0, caption: 2 },
  ],
  training: [],
  files: new Map(),
};
const digest = { weights: { 'model.safetensors': '11'.repeat(32) }, config: '22'.repeat(32) };
const latents = planLatents(scan, { digest, scalingFactor: 0.18215, channels: 4, downscale: 8 }, 'f16');
const text = planText(scan, { encoders: [{ ...digest, tokenizer: {} }], shape: { tokens: 77, width: 64 } }, 'f16');

function teacher(weights: string, draws = 40): TeacherPlan {
  return planTeacher(
    'animals',
    scan,
    { latents, text },
    {
      digest: { ...digest, weights: { 'model.safetensors': weights } },
      prediction: 'epsilon',
      schedule: { timesteps: 1000, alphasCumprod: '33'.repeat(32) },
      timeIds: true,
      adapters: [],
      storage: 'f32',
    },
    ['cond'],
    { draws, generator: 'philox', baseSeed: 42, timesteps: [0, 1000] },
    'f16',
  );
}

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'potstill-component-'));
});
afterEach(() => rm(cache, { recursive: true }));

async function store(plan: TeacherPlan, sealed: boolean): Promise<string> {
  const folder = join(cache, componentName(plan));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'plan.json'), serialisePlan(plan));
  if (sealed) await writeFile(join(folder, 'seal.json'), '{}');
  return folder;
}

describe('plans', () => {
  it('count their records', () => {
    const plan = teacher('44'.repeat(32));
    expect([recordCount(latents), recordCount(text), recordCount(plan)]).toEqual([1, 3, 80]);
  });

  it('condition SDXL on the size of the view, height first', () => {
    expect(teacher('44'.repeat(32)).timeIds).toEqual([[96, 64, 0, 0, 96, 64]]);
  });
});

describe('componentState', () => {
  it('tells nothing, begun and sealed apart', async () => {
    const plan = teacher('44'.repeat(32));
    expect(await componentState(cache, plan)).toBe('absent');
    await store(plan, false);
    expect(await componentState(cache, plan)).toBe('begun');
    await store(plan, true);
    expect(await componentState(cache, plan)).toBe('sealed');
  });

  it('refuses another plan and names what differs, with both values', async () => {
    const folder = await store(teacher('44'.repeat(32)), true);
    await expect(componentState(cache, teacher('55'.repeat(32), 8))).rejects.toMatchObject({
      code: 'ERR_CACHE_FOREIGN',
      kind: 'input',
      where: folder,
      what:
        'was built by another plan; different: draws per view (cached 40, wanted 8), ' +
        'teacher weights digest (cached 444444444444…, wanted 555555555555…)',
    });
  });

  it('refuses plans that were edited or broken', async () => {
    const plan = teacher('44'.repeat(32));
    const folder = await store(plan, false);
    await writeFile(join(folder, 'plan.json'), JSON.stringify(JSON.parse(serialisePlan(plan)), null, 2));
    await expect(componentState(cache, plan)).rejects.toMatchObject({ code: 'ERR_CACHE_PLAN' });
    await writeFile(join(folder, 'plan.json'), '{"format":');
    await expect(componentState(cache, plan)).rejects.toMatchObject({ code: 'ERR_CACHE_PLAN' });
    await rm(join(folder, 'plan.json'));
    await writeFile(join(folder, 'seal.json'), '{}');
    await expect(componentState(cache, plan)).rejects.toMatchObject({ code: 'ERR_CACHE_PLAN' });
  });
});
