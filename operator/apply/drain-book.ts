/** Which drained nodes cannot be emptied, by the word of the models that have ranks there: told on the ShardNode too. */
import type { Stuck } from "../plan/types.ts";

const NONE: ReadonlyMap<string, string> = new Map();

export class DrainBook {
  readonly #onTurned: (node: string) => void;
  readonly #stuck = new Map<string, ReadonlyMap<string, string>>(); // by model: why, by node

  /** `onTurned`: what is to be said of the node has changed. */
  constructor(onTurned: (node: string) => void) {
    this.#onTurned = onTurned;
  }

  /** What one look at a model found. Returns the nodes that were not stuck for it before. */
  note(model: string, stuck: readonly Stuck[] = []): readonly Stuck[] {
    const before = this.#stuck.get(model) ?? NONE;
    const now = new Map(stuck.map(({ node, why }) => [node, why]));
    if (now.size === 0) this.#stuck.delete(model);
    else this.#stuck.set(model, now);
    for (const node of new Set([...before.keys(), ...now.keys()]))
      if (before.get(node) !== now.get(node)) this.#onTurned(node);
    return stuck.filter(({ node }) => !before.has(node));
  }

  forget(model: string): void {
    this.note(model);
  }

  /** In words, for each model that cannot leave the node; empty where all can. */
  of(node: string): readonly string[] {
    return [...this.#stuck].flatMap(([model, nodes]) => {
      const why = nodes.get(node);
      return why === undefined ? [] : [`${model}: ${why}`];
    });
  }
}
