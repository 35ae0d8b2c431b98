/**
 * One change of a world, as data: what `--what-if` asks about and what a remedy proposes. Everything about it follows
 * from the data: its words, the option that repeats it, the world after it.
 */
import { formatBytes } from "../../../core/units.ts";
import type { ModelSpec, NodeFacts, World } from "../types.ts";

export type Change =
  | { readonly do: "add"; readonly node: NodeFacts; readonly owner?: string } // owner: words for whose it may be
  | { readonly do: "grow"; readonly node: string; readonly bytes: number } // so much more free memory
  | { readonly do: "remove"; readonly node: string }
  | { readonly do: "admit"; readonly provider: string } // its public key is there
  | { readonly do: "return"; readonly node: string } // it answers again
  | Setting;

/** Another value of a field of the model's spec. */
export type Setting = {
  readonly do: "set";
  readonly name: string; // as `--what-if` calls it
  readonly to: string;
  readonly words: string;
  readonly model: Partial<ModelSpec>;
  readonly placement?: Partial<ModelSpec["placement"]>;
  readonly without?: keyof Pick<ModelSpec["placement"], "devices" | "regions" | "edgeProviders">; // left out again
};

/** The world after the changes, in order. Changes of nodes that are not there do nothing. */
export function changed<W extends Pick<World, "model" | "nodes">>(world: W, changes: readonly Change[]): W {
  return changes.reduce(changedOnce, world);
}

function changedOnce<W extends Pick<World, "model" | "nodes">>(world: W, change: Change): W {
  const each = (name: (node: NodeFacts) => boolean, set: (node: NodeFacts) => Partial<NodeFacts>): W => ({
    ...world,
    nodes: world.nodes.map((node) => (name(node) ? { ...node, ...set(node) } : node)),
  });
  switch (change.do) {
    case "add":
      return { ...world, nodes: [...world.nodes, change.node] };
    case "remove":
      return { ...world, nodes: world.nodes.filter(({ name }) => name !== change.node) };
    case "grow":
      return each(
        ({ name }) => name === change.node,
        ({ freeBytes }) => ({ freeBytes: freeBytes + change.bytes }),
      );
    case "admit":
      return each(
        ({ provider }) => provider === change.provider,
        () => ({ providerAdmitted: true }),
      );
    case "return":
      return each(
        ({ name }) => name === change.node,
        () => ({ ready: true }),
      );
    case "set":
      return { ...world, model: modelAfter(world.model, change) };
  }
}

function modelAfter(before: ModelSpec, { model, placement, without }: Setting): ModelSpec {
  const kept = Object.entries({ ...before.placement, ...placement }).filter(([key]) => key !== without);
  const { slotsByPlanner, ...rest } = before;
  const isChosen = slotsByPlanner === true && model.slotCount === undefined;
  return {
    ...rest,
    ...(isChosen ? { slotsByPlanner } : {}),
    ...model,
    placement: Object.fromEntries(kept) as ModelSpec["placement"],
  };
}

/** `add a node with ≥ 6 GiB free`, `quantization int4`, `1 replica`. */
export function changeWords(change: Change): string {
  switch (change.do) {
    case "add":
      return `add a node with ≥ ${roundBytes(change.node.freeBytes)} free${change.owner === undefined ? "" : ` ${change.owner}`}`;
    case "grow":
      return `${roundBytes(change.bytes)} more free on ${change.node}`;
    case "remove":
      return `remove ${change.node}`;
    case "admit":
      return `admit provider ${change.provider} (it has no public key)`;
    case "return":
      return `${change.node} answering again`;
    case "set":
      return change.words;
  }
}

/** What makes `tessellate plan --what-if` ask about this very change; undefined: only the world itself can make it. */
export function optionOf(change: Change): string | undefined {
  switch (change.do) {
    case "add": {
      const { name, freeBytes, memoryBytesPerSecond, provider, device, region } = change.node;
      const parts = [
        `mem=${quantityText(freeBytes)}`,
        ...(memoryBytesPerSecond === 0 ? [] : [`bandwidth=${memoryBytesPerSecond}`]),
        `provider=${provider}`,
        `device=${device}`,
        ...(region === undefined ? [] : [`region=${region}`]),
      ];
      return `add=${name}:${parts.join(",")}`;
    }
    case "grow":
      return `grow=${change.node}:${quantityText(change.bytes)}`;
    case "remove":
      return `remove=${change.node}`;
    case "admit":
      return `admit=${change.provider}`;
    case "return":
      return `return=${change.node}`;
    case "set":
      return `${change.name}=${change.to}`;
  }
}

const quantityText = (bytes: number): string => (bytes % 2 ** 20 === 0 ? `${bytes / 2 ** 20}Mi` : String(bytes));

/** `6 GiB` for a round number of bytes, else as {@link formatBytes} has it. */
export const roundBytes = (bytes: number): string => formatBytes(bytes).replace(/\.0+ |(\.\d*[1-9])0+ /, "$1 ");
