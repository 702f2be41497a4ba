import type { PartState, Progress, ProgressPart } from '../../operations.ts';
import type { Descriptor } from './manifest.ts';
import { hexOf } from './resolve-image.ts';

/** How much of a layer's digest people see. */
const shownDigits = 12;
/** Bytes come in by the thousand; states are told at once. */
const intervalMs = 100;

const isHere: ReadonlySet<PartState> = new Set(['downloaded', 'cached', 'converting', 'done']);

/** What a layer is called in progress and errors. */
export function layerName(digest: string): string {
  return hexOf(digest).slice(0, shownDigits);
}

/** How far each layer of a pull is, told as one whole: a layer that occurs twice is one part. */
export class LayerProgress {
  readonly #parts: Map<string, ProgressPart>;
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #tell: (progress: Omit<Progress, 'stage'>) => void;
  #toldAt = -Infinity;

  constructor(layers: readonly Descriptor[], tell: (progress: Omit<Progress, 'stage'>) => void) {
    this.#sizes = new Map(layers.map(({ digest, size }) => [digest, size]));
    this.#parts = new Map(
      layers.map(({ digest }) => [digest, { name: layerName(digest), state: 'waiting' as const }]),
    );
    this.#tell = tell;
  }

  /** `done` is in bytes: compressed ones of a download, uncompressed ones of a conversion. */
  set(digest: string, state: PartState, done?: number): void {
    const before = this.#parts.get(digest)?.state;
    const total = state === 'downloading' || state === 'verifying' ? this.#sizes.get(digest) : undefined;
    this.#parts.set(digest, { name: layerName(digest), state, done, total });
    const now = performance.now();
    if (state === before && now - this.#toldAt < intervalMs) return;
    this.#toldAt = now;
    this.tell();
  }

  /** Says how things are, as after a new stage has begun. */
  tell(): void {
    const parts = [...this.#parts];
    const here = parts.filter(([, part]) => isHere.has(part.state));
    const done = parts.reduce((sum, [digest, part]) => sum + this.#bytesHere(digest, part), 0);
    const total = [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
    this.#tell({
      detail: `${here.length} of ${parts.length} layers`,
      done,
      total,
      unit: 'bytes',
      parts: parts.map(([, part]) => part),
    });
  }

  #bytesHere(digest: string, part: ProgressPart): number {
    if (isHere.has(part.state)) return this.#sizes.get(digest) ?? 0;
    return part.done ?? 0;
  }
}
