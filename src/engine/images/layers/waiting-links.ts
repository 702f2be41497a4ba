import { NumberList } from '../ext4/number-list.ts';
import { Texts } from '../ext4/texts.ts';

/** A hard link that came before what it links to. Both are paths within the image. */
export interface WaitingLink {
  readonly path: string;
  readonly target: string;
}

/** Hard links whose targets may still come in the same layer, in the order that they came. */
export class WaitingLinks {
  readonly #texts = new Texts();
  /** Path and target of each in turn */
  readonly #links = new NumberList();

  get heldBytes(): number {
    return this.#texts.heldBytes + this.#links.length * 8;
  }

  get length(): number {
    return this.#links.length / 2;
  }

  add({ path, target }: WaitingLink): void {
    this.#links.push(this.#texts.add(path));
    this.#links.push(this.#texts.add(target));
  }

  /** The first one that waits, if any. */
  first(): WaitingLink | undefined {
    return this.length === 0 ? undefined : this.#at(0);
  }

  /** Keeps those that `isDone` says false to. */
  settle(isDone: (link: WaitingLink) => boolean): void {
    let kept = 0;
    for (let index = 0; index < this.length; index++) {
      if (isDone(this.#at(index))) continue;
      this.#links.set(kept * 2, this.#links.at(index * 2));
      this.#links.set(kept * 2 + 1, this.#links.at(index * 2 + 1));
      kept++;
    }
    this.#links.truncate(kept * 2);
  }

  #at(index: number): WaitingLink {
    return {
      path: this.#texts.read(this.#links.at(index * 2)),
      target: this.#texts.read(this.#links.at(index * 2 + 1)),
    };
  }
}
