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

/** What docker shows for an image that has no name. */
export const noName = '<none>';

/** The names of an image. */
export function imageName(image: ImageView): string {
  return image.names.length === 0 ? noName : image.names.map(printable).join(', ');
}

/** A name for a table, where a whole digest would leave no room for anything else. */
export function shortName(name: string): string {
  return name.replace(/(@sha256:[0-9a-f]{12})[0-9a-f]{52}$/, '$1…');
}
