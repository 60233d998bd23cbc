import type { Evaluation } from '../evaluate/evaluation.ts';
import { type Html, html } from './html.ts';

/** PNG bytes as a `data:` URL, so that a page needs no other file. */
export function dataUrl(png: Uint8Array): string {
  return `data:image/png;base64,${Buffer.from(png).toString('base64')}`;
}

/** The pictures of teacher, student and undistilled model side by side, one row per prompt and seed; on a narrow page the prompt stands above its pictures. */
export function gallery(evaluation: Evaluation, pictures: ReadonlyMap<string, Uint8Array>): Html {
  const columns = (['teacher', 'student', 'undistilled'] as const).flatMap((id) => {
    const model = evaluation.models.find((candidate) => candidate.id === id);
    return model === undefined ? [] : [{ id, model }];
  });
  const rows = evaluation.images.map((image) => {
    const prompt = evaluation.prompts[image.prompt];
    const cells = columns.map(({ id, model }) => {
      const png = pictures.get(image.files[id]);
      return png === undefined
        ? html`<p class="empty">missing: ${image.files[id]}</p>`
        : html`<img src="${dataUrl(png)}" alt="${model.label}: ${prompt?.text ?? ''}" loading="lazy">`;
    });
    const kind = prompt?.heldOut === true ? 'held out of training' : 'trained on';
    return html`<p>${prompt?.text ?? ''}<small>${kind}, seed ${image.seed}</small></p>${cells}`;
  });
  const heads = columns.map(
    ({ model }) =>
      html`<div class="head"><b>${model.label}</b>guidance ${model.guidance}, ${model.forwardsPerImage} forwards</div>`,
  );
  return html`<div class="gallery"><div class="head corner"></div>${heads}${rows}</div>`;
}
