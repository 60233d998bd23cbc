/** File name endings of the formats that the decoder reads. */
export const IMAGE_ENDINGS = ['.png', '.jpg', '.jpeg', '.webp'] as const;

/** Whether a file is an image, by its name. */
export function isImageName(name: string): boolean {
  const lower = name.toLowerCase();
  return IMAGE_ENDINGS.some((ending) => lower.endsWith(ending));
}

/** What the files layout calls an image: its path in the folder of images without the ending. */
export function imageIdOf(path: string): string {
  return path.replace(/\.[^./]*$/, '');
}
