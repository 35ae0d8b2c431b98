/**
 * Which nodes each model's last look was concerned with, so that a node that changes leads to a look at the models it can
 * matter to and not at all of them: of a thousand models on a thousand nodes that are eight. What is not sure counts.
 */
import type { KubeObject } from "../kube/objects.ts";
import { type Concerned, type NodeSelector, RULED_OUT_COUNT_MAX, asksFor } from "./node-index.ts";

type Seen = {
  readonly nodeSelector: NodeSelector;
  readonly own: ReadonlySet<string>; // what the selector asks for, and what holds something
  readonly named: ReadonlySet<string>; // the first that are ruled out
  readonly firstUnseen: string; // every name from here on is left aside where the selector rules it out
};

export class NodesSeen {
  readonly #seen = new Map<string, Seen>(); // by model

  /** What the model's look has found now; `held`: nodes that hold something of it, whether they are there or not. */
  note(key: string, nodeSelector: NodeSelector, held: readonly string[], { own, ruledOut }: Concerned): void {
    const named = new Set(ruledOut.map(nameOf));
    const last = ruledOut.at(-1);
    const isFull = ruledOut.length >= RULED_OUT_COUNT_MAX && last !== undefined;
    const firstUnseen = isFull ? nameOf(last) : LAST_OF_ALL;
    this.#seen.set(key, { nodeSelector, own: new Set([...held, ...own.map(nameOf)]), named, firstUnseen });
  }

  forget(key: string): void {
    this.#seen.delete(key);
  }

  /**
   * Whether a node that came, went or is another may change the model's next look; `states` of it: before and now. "named":
   * only what people are told of nodes that are ruled out.
   */
  matters(key: string, states: readonly KubeObject[]): "own" | "named" | undefined {
    const seen = this.#seen.get(key);
    if (seen === undefined) return "own";
    const { nodeSelector, own, named, firstUnseen } = seen;
    if (states.some(({ metadata }) => own.has(metadata.name) || asksFor(nodeSelector, metadata.labels))) return "own";
    const isNamed = states.some(({ metadata: { name } }) => named.has(name) || name < firstUnseen);
    return isNamed ? "named" : undefined;
  }
}

const LAST_OF_ALL = "\uffff"; // no name begins so

const nameOf = ({ metadata }: KubeObject): string => metadata.name;
