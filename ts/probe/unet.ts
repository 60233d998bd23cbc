import { inputError } from '../errors.ts';
import {
  applyAdapter,
  componentFolder,
  type Engine,
  gradients,
  Lora,
  openModel,
  type Precision,
  type QuantFormat,
  readTensors,
  type Tensor,
  Unet,
  type WeightedAdapter,
} from '../native/index.ts';
import { inFile } from './in-file.ts';

/** What a UNet makes of the inputs in a file. */
export interface ProbedUnet {
  /** `prediction`; with `backward` also `loss` and `grad.NAME` of every parameter: of the adapter's where there is one. */
  readonly tensors: Readonly<Record<string, Tensor>>;
  readonly loss: number | undefined;
}

/**
 * Runs a model's UNet on `sample`, `timestep`, `encoder_hidden_states` and, for SDXL, `text_embeds` and `time_ids`.
 *
 * @param options.backward also the mean squared error against `target`, and the gradients of every parameter
 * @param options.adapter laid into the weights; with `backward` a LoRA beside them, whose gradients are taken alone
 * @throws PotstillError naming the tensor that is missing or does not fit
 */
export async function probeUnet(
  engine: Engine,
  folder: string,
  file: string,
  options: {
    readonly backward: boolean;
    readonly recompute: boolean;
    readonly adapter?: WeightedAdapter | undefined;
    readonly dtype?: Precision | QuantFormat;
  },
): Promise<ProbedUnet> {
  const model = await openModel(engine, folder);
  const given = await readTensors(engine, file);
  const input = (name: string): Tensor => {
    const tensor = given.get(name);
    if (tensor !== undefined) return tensor;
    throw inputError('ERR_PROBE_INPUT', `there is no tensor ${JSON.stringify(name)}`, {
      where: file,
      remedy: `It has ${[...given.keys()].join(', ')}; a ${model.kind} UNet needs ${needed(model.kind, options.backward)}.`,
    });
  };
  const sdxl = model.kind === 'sdxl';
  const inputs = {
    sample: input('sample'),
    timesteps: Float64Array.from(await input('timestep').toArray()),
    encoderHiddenStates: input('encoder_hidden_states'),
    ...(sdxl ? { textEmbeds: input('text_embeds'), timeIds: input('time_ids') } : {}),
  };
  const remedy = `A ${model.kind} UNet needs ${needed(model.kind, options.backward)}; with the sizes of this model's unet/config.json.`;
  const target = options.backward ? input('target') : undefined;
  const unet = await Unet.open(engine, componentFolder(model, 'unet'), options.dtype);
  const { adapter } = options;
  if (target === undefined) {
    if (adapter !== undefined) await applyAdapter(adapter, folder, { unet });
    const { prediction } = unet.forward(inputs).outputs;
    await inFile(file, remedy, () => prediction.toArray());
    return { tensors: { prediction }, loss: undefined };
  }
  const trained = adapter === undefined ? unet : await Lora.open(unet, adapter, folder);
  if (trained instanceof Lora) trained.setTrainable(true);
  else trained.setTrainable('all');
  const { outputs, tape } = unet.forward(inputs, { grad: true, recompute: options.recompute });
  const loss = outputs.prediction.sub(target).square().mean();
  const value = await inFile(file, remedy, () => loss.item());
  const [gradient] = gradients(loss, [outputs.prediction]);
  if (gradient === undefined) throw new RangeError('one leaf has one gradient');
  tape.backward({ prediction: gradient });
  const parameters = await trained.parameters();
  const found = unet.gradients(parameters);
  const named = parameters.map(({ name }, index) => [`grad.${name}`, found[index]] as const);
  return {
    tensors: { prediction: outputs.prediction, loss, ...(Object.fromEntries(named) as Record<string, Tensor>) },
    loss: value,
  };
}

function needed(kind: 'sd15' | 'sdxl', backward: boolean): string {
  const names = ['sample', 'timestep', 'encoder_hidden_states'];
  if (kind === 'sdxl') names.push('text_embeds', 'time_ids');
  if (backward) names.push('target');
  return names.join(', ');
}
