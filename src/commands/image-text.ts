import type { ImageView } from '../engine/rpc/image-methods.ts';
import { formatBytes } from '../state/units.ts';
import { printable } from '../printable.ts';

/** How much of an image's id people see. */
export const shortIdLength = 12;

/** What is said when an image has come: its name, what is in it, how big it is. */
export function readyText(image: ImageView): string {
  const about = [image.os, formatBytes(image.contentBytes), image.id.slice(0, shortIdLength)];
  return `${imageName(image)} (${about.filter(Boolean).map(printable).join(', ')})`;
}

/** The names of an image, or what docker shows for one that has none. */
export function imageName(image: ImageView): string {
  return image.names.length === 0 ? '<none>' : image.names.map(printable).join(', ');
}
