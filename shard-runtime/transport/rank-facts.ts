/** What a rank is, once its shard is loaded: what it was told and what its engine found. */
import type { LayerRange, Range } from "../../core/ranges.ts";
import type { EngineFacts } from "../engine/engine.ts";

export type RankFacts = {
  readonly name: string; // <namespace>/<model>-<chain>-<segment>-<rank>
  readonly provider: string;
  readonly node: string;
  readonly model: { readonly name: string; readonly root: string; readonly layerCount: number };
  readonly layers: LayerRange;
  readonly rankIndex: number; // within the segment
  readonly rankCount: number;
  readonly shareMillionths: bigint; // of the segment's work
  readonly vocabularies: readonly Range[]; // which rows of the head each rank of the segment holds
  readonly neighbours: ReadonlySet<string>; // names of ranks that may connect, or be dialled
  readonly engine: EngineFacts;
};
