/**
 * ShardNodes by label and in order of their names, kept as they come and go: which of a thousand nodes a look at a model
 * is concerned with is found without walking all of them.
 */
import type { KubeObject } from "../kube/objects.ts";

/**
 * Of the nodes that a model's own wishes rule out so many are looked at, which is all that its ShardPlan names: they are
 * examples of what its author asked for, and each is written, checked and read again with every plan.
 */
export const RULED_OUT_COUNT_MAX = 8;

export type NodeSelector = Readonly<Record<string, string>>;

export type Concerned = {
  /** What the selector asks for, and what holds something of the model; by name. */
  readonly own: readonly KubeObject[];
  /** The first of the others by name, as many as are shown. */
  readonly ruledOut: readonly KubeObject[];
};

export class NodeIndex {
  readonly #nodes = new Map<string, KubeObject>();
  readonly #byLabel = new Map<string, Set<string>>(); // names by `label=value`
  #sorted: readonly string[] | undefined; // undefined: another came or went

  put(node: KubeObject): void {
    const { name } = node.metadata;
    const before = this.#nodes.get(name);
    if (before === undefined) this.#sorted = undefined;
    else this.#unlabel(before);
    this.#nodes.set(name, node);
    for (const place of placesOf(node)) {
      const names = this.#byLabel.get(place) ?? new Set();
      this.#byLabel.set(place, names.add(name));
    }
  }

  remove(name: string): void {
    const before = this.#nodes.get(name);
    if (before === undefined) return;
    this.#unlabel(before);
    this.#nodes.delete(name);
    this.#sorted = undefined;
  }

  /** `held`: nodes that hold something of the model, whether they are there or not. */
  concerned(nodeSelector: NodeSelector, held: Iterable<string>): Concerned {
    const own = new Set<string>();
    for (const name of held) if (this.#nodes.has(name)) own.add(name);
    for (const name of this.#among(nodeSelector)) if (asksFor(nodeSelector, this.#labelsOf(name))) own.add(name);
    const ruledOut: string[] = [];
    if (own.size < this.#nodes.size) {
      for (const name of this.#names()) {
        if (ruledOut.length === RULED_OUT_COUNT_MAX) break;
        if (!own.has(name)) ruledOut.push(name);
      }
    }
    return { own: this.#objects([...own].sort()), ruledOut: this.#objects(ruledOut) };
  }

  /** As few as can be told at once, all that the selector asks for among them. */
  #among(nodeSelector: NodeSelector): Iterable<string> {
    let fewest: ReadonlySet<string> | undefined;
    for (const [label, value] of Object.entries(nodeSelector)) {
      const names = this.#byLabel.get(placeOf(label, value)) ?? new Set();
      if (fewest === undefined || names.size < fewest.size) fewest = names;
    }
    return fewest ?? this.#nodes.keys();
  }

  #names(): readonly string[] {
    return (this.#sorted ??= [...this.#nodes.keys()].sort());
  }

  #labelsOf = (name: string) => this.#nodes.get(name)?.metadata.labels;

  #objects = (names: readonly string[]): readonly KubeObject[] => names.flatMap((name) => this.#nodes.get(name) ?? []);

  #unlabel(node: KubeObject): void {
    for (const place of placesOf(node)) {
      const names = this.#byLabel.get(place);
      names?.delete(node.metadata.name);
      if (names?.size === 0) this.#byLabel.delete(place);
    }
  }
}

export function asksFor(nodeSelector: NodeSelector, labels: KubeObject["metadata"]["labels"]): boolean {
  for (const label in nodeSelector) if (labels?.[label] !== nodeSelector[label]) return false;
  return true;
}

const placeOf = (label: string, value: string): string => `${label}=${value}`;
const placesOf = ({ metadata }: KubeObject): readonly string[] =>
  Object.entries(metadata.labels ?? {}).map(([label, value]) => placeOf(label, value));
