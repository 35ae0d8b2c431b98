/**
 * The nouns of planning: a World as observed, a Plan as decided. All of it is data that can be printed; no field is
 * filled from a clock or a wire in here.
 */
import type { HeldBytes } from "../../core/held-bytes.ts";
import type { KvDtype } from "../../core/kv-cache.ts";
import type { LayerRange } from "../../core/ranges.ts";
import type { ModelConfig } from "../../core/model-config.ts";
import type { ReadProgress } from "../../core/read-progress.ts";
import type { Limits, UndoReason } from "./rollout.ts";
import type { Standing } from "./routes.ts";
import type { HandOffDtype, ModelSource, Quantization } from "../../core/rank-config.ts";

/** What the user asked for, defaults filled in. */
export type ModelSpec = {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly generation: number;
  readonly source: ModelSource;
  readonly digest?: string; // sha256:…, if the user pinned it
  readonly manifestUrl?: string; // where the manifest lies if not beside the model
  readonly mirrors?: readonly ModelSource[]; // asked in order where the source fails
  readonly hubTokenSecret?: { readonly name: string; readonly key: string }; // mounted into ranks, never read by the operator
  readonly quantization: Quantization;
  readonly kvDtype: KvDtype;
  readonly contextLength: number;
  readonly slotCount: number; // sessions per chain
  readonly slotsByPlanner?: true; // nobody asked for so many: the planner may choose others
  readonly replicas: number; // chains
  readonly handOffDtype: HandOffDtype;
  readonly placement: {
    readonly providersMin: number;
    readonly providersMaxSharePercent: number; // of the layers of one chain
    readonly providersAllow: readonly string[]; // empty: all
    readonly providersDeny: readonly string[];
    readonly tensorParallelMax: number;
    readonly tensorParallelAcrossProviders: boolean;
    readonly tensorParallelAlways?: true; // groups as large as may be, even where they are no quicker than nodes apart
    readonly nodeSelector: Readonly<Record<string, string>>;
    readonly tolerations?: readonly object[]; // as in a pod's spec; left out: none beyond our own
    readonly devices?: readonly string[]; // kinds that may hold a part; left out: all
    readonly regions?: readonly string[]; // values of NodeFacts.region that may hold a part; left out: all
    readonly edgeProviders?: readonly string[]; // embedding, first and last layers only here; left out: anywhere
    readonly surviveProviders?: number; // chains that are left after the loss of any one provider
    readonly pricePerHourMax?: bigint; // micro-credits, of all nodes of the plan together
    readonly replacement?: "AnyDevice" | "SameDevice"; // where the shard of a lost node may go; left out: AnyDevice
  };
  readonly objective?: Objective; // left out: throughput without a bound
  readonly idle?: { readonly afterSeconds: number; readonly wakeTimeoutSeconds: number }; // left out: never sleeps
  readonly spares?: number; // shards kept loaded for a quick replacement
  readonly planPolicy?: "Automatic" | "Manual";
  readonly gainMinPercent?: number; // that a better plan must gain to be moved to; left out: 50
  readonly pricePerMillionTokens: bigint; // micro-credits
  readonly epochSeconds: number;
  readonly maxQueue: number;
  readonly update: Limits; // how another revision is rolled out
  readonly revision?: string; // of a plan in force that this is the model of; left out: worked out from the above
  readonly imageTag?: string; // letters of the ranks' image, where that alone makes the revision another
};

/** What a plan is made best at, and the bound that it keeps. */
export type Objective =
  | { readonly kind: "Throughput"; readonly timePerTokenMsMax?: number }
  | { readonly kind: "Latency"; readonly pricePerHourMax?: bigint } // micro-credits
  | { readonly kind: "Price"; readonly tokensPerSecondMin: number };

/** What the checkpoint is, read from its manifest. */
export type ModelFacts = {
  readonly root: string; // sha256:…
  readonly config: ModelConfig;
  readonly held?: readonly HeldBytes[]; // left out: all matrices are packed anew
};

export type NodeFacts = {
  readonly name: string;
  readonly provider: string;
  readonly providerAdmitted: boolean;
  readonly ready: boolean;
  readonly leaving?: "Cordoned" | "Drained"; // Cordoned: nothing new. Drained: what it holds is to go elsewhere first
  readonly leavingWhy?: string; // in words
  readonly labels: Readonly<Record<string, string>>;
  readonly device: string; // cpu | webgpu | cuda | coreml | directml
  readonly gpuResource?: string; // extended resource that a rank requests, such as nvidia.com/gpu
  readonly deviceClass?: string; // DeviceClass of which a rank claims one device, such as gpu.nvidia.com
  readonly freeBytes: number; // for weights and KV, apart from what our own ranks hold
  readonly memoryBytesPerSecond: number; // measured bandwidth; 0: unknown
  readonly threadCount: number;
  readonly signer: string; // gRPC target of the node's signer
  readonly machine?: string; // name of the Kubernetes Node, where it is not the node's own
  readonly cachePath?: string; // folder on the machine that outlives ranks
  readonly cacheBytes?: number; // what packed shards and fetched pieces of models may take on its disk
  readonly region?: string; // topology.kubernetes.io/region of its machine; left out: not known
  readonly layerTimes?: LayerTimes; // left out: estimated from the memory's bandwidth
  readonly links?: readonly NodeLink[]; // to other nodes, as measured from here
  readonly measuredDaysAgo?: number; // whole days since then; left out: not known, or not measured
  readonly pricePerHour?: bigint; // micro-credits; left out: free
  readonly reliability?: number; // share of time it answered, (0, 1]
  readonly cached?: Readonly<Record<string, number>>; // bytes of a model in its cache, by the manifest's root
};

/** What one layer takes, measured with a model of known size: `bytes` are the layer's weights in the measured form. */
export type LayerTimes = {
  readonly bytes: number;
  readonly oneMicros: number; // a step of one row
  readonly manyMicros: number; // a step of `manyRows` rows
  readonly manyRows: number;
  readonly stepMicros?: number; // what a step takes apart from its layers: wire, batching, hashing; left out: assumed
};

/** One direction of a link. */
export type NodeLink = { readonly to: string; readonly roundTripMicros: number; readonly bytesPerSecond: number };

/** A rank as it is now: what it was told to hold, and how it is. */
export type RankState = {
  readonly name: string; // <model>-<chain>-<segment>-<rank>: the pod's name
  readonly assignment: Assignment;
  readonly revision: string; // what it was told to run, see revisionOf
  readonly phase: "Starting" | "Ready" | "Failed" | "Lost" | "Leaving"; // Lost: its node is gone
  readonly address?: string; // host:port of its gRPC door
  readonly neighbours?: readonly string[]; // whom it was told to let in; left out: not known
  readonly detail: string; // why it is not ready, in its own words
  readonly endedCount?: number; // how often its process has ended; left out: not known
  readonly progress?: ReadProgress; // of its part of the model, while it reads that
};

/** What a drained node holds and nobody else has the room for. `why`: with what would make it fit. */
export type Stuck = { readonly node: string; readonly ranks: readonly string[]; readonly why: string };

/** Which shard goes to which node. */
export type Assignment = {
  readonly chain: number;
  readonly segment: number;
  readonly rank: number; // within its segment
  readonly node: string;
  readonly provider: string;
  readonly layers: LayerRange;
  readonly sliceWeights: readonly number[]; // one per rank of the segment
  readonly weightBytes: number;
  readonly kvBytes: number;
};

/** `order`: all measurements of a model's chains are counted through, so it tells which came later. */
export type MeasuredPace = {
  readonly order: number;
  readonly tokenMs?: number; // time between two tokens; left out: too few came
};

/** What became of one token that was sent through a whole chain. */
export type Probe = {
  readonly chain: number;
  readonly passed: boolean;
  readonly detail: string;
  readonly paces?: readonly MeasuredPace[]; // the latest, oldest first
  readonly hearsay?: true; // an operator before this one said so: it stands until we have asked ourselves
};

export type World = {
  readonly model: ModelSpec;
  readonly facts: ModelFacts | { readonly code: string; readonly detail: string }; // the latter: unreadable, and why
  readonly nodes: readonly NodeFacts[];
  readonly ranks: readonly RankState[];
  readonly previous: StandingPlan | undefined; // the plan in force
  readonly proposed?: StandingPlan; // what waits for an approval
  readonly approved?: string; // the digest of the plan that a person let through; see approvalOf
  readonly held?: { readonly nodes: readonly string[]; readonly why: string }; // went away, and must be waited for; see brake.ts
  readonly probes: readonly Probe[]; // of the processes that run now; at most one for each chain
  readonly demand?: Demand; // left out: nobody is asked
  readonly rolls?: Rolls;
  readonly reservedChains?: readonly number[]; // numbers that ranks of another revision bear, or what leaves
  readonly draining?: readonly Draining[]; // chains of the previous plan that take no new session; left out: nobody would remember
  readonly unproven?: readonly number[]; // chains of the previous plan that no request has gone through: tried beside the others
  readonly leaving?: Standing; // what drains, once it is told apart from the previous plan; see leaving.ts
};

/** A chain that takes no new session. Quiet: every gateway says that nothing runs on it any more. */
export type Draining = { readonly chain: number; readonly seconds: number; readonly isQuiet: boolean };

/** What ranks of a revision are told of their model, and what they run. */
export type Form = Pick<
  ModelSpec,
  "source" | "quantization" | "kvDtype" | "contextLength" | "slotCount" | "handOffDtype"
> &
  Partial<Pick<ModelSpec, "manifestUrl" | "mirrors" | "hubTokenSecret">> & { readonly image?: string };

/** The chains of one revision. */
export type Side = {
  readonly form: Form;
  readonly facts: ModelFacts & { readonly configText: string };
  readonly plan: StandingPlan;
};

/** Where a rollout is; see rollout.ts. A world without one has ranks of another revision deleted and made anew. */
export type Rolls = {
  readonly limits: Limits;
  readonly image?: string; // that ranks are to run
  readonly configText: string; // of the model that is asked for
  readonly inForce?: Omit<Side, "plan">; // of the world's previous plan
  readonly outgoing: readonly Side[]; // of other revisions than that plan, chains of which still stand
  readonly unproven: readonly number[]; // chains that no probe has gone through since they were made
  readonly draining: readonly Draining[];
  readonly stalledSeconds?: number; // left out: nothing is rolled out
  readonly refused?: Refused;
};

/** A revision that was tried and taken back. */
export type Refused = {
  readonly wish: string; // digest of what was asked for: it is not tried again for as long as that is so
  readonly revision: string;
  readonly why: string;
  readonly reason?: UndoReason; // left out: taken back by an operator that did not say it in a word
};

/** Where a rollout is once this plan has been carried out. */
export type Rolled = {
  readonly form: Form; // of the plan's placement
  readonly facts: ModelFacts & { readonly configText: string };
  readonly outgoing: readonly Side[];
  readonly unproven: readonly number[];
  readonly draining: readonly number[];
  readonly isProgress: boolean; // a chain was made, proven or taken away
  readonly refused?: Refused;
  readonly status?: RollStatus; // left out: all is as asked for
};

export type RollStatus = {
  readonly phase: "RollingOut" | "RollingBack" | "RolledBack" | "Waits";
  readonly from: string;
  readonly to: string;
  readonly updatedCount: number; // chains of `to` that serve
};

/** A world whose model could be read. */
export type Known = World & { readonly facts: ModelFacts };

/** Why a model's ranks do not run: nobody asked for it, or its replicas are 0. */
export type Sleep = "Idle" | "TurnedOff";

/** What gateways say is asked of a model that may sleep. */
export type Demand = {
  readonly isAsked: boolean; // a request waits at a gateway
  readonly isIdle: boolean; // nothing was asked for as long as spec.idle says, by the word of every gateway
  readonly isLetGo: boolean; // every gateway knows that it sleeps, and no session runs
};

/**
 * A better plan than the one in force, as it was found last: being moved to, or why that is not done. `plan`: its name, see
 * approvalOf; what was tried and taken back is not tried again.
 */
export type Better = {
  readonly gainPercent?: number; // left out: it keeps a bound that the plan in force does not
  readonly plan?: string; // left out: nothing was tried
  readonly whyNot?: string; // left out: it is being moved to
};

/** A plan as it was written down. */
export type StandingPlan = {
  readonly revision: string;
  readonly assignments: readonly Assignment[];
  readonly routes?: readonly Route[]; // left out: every chain is its own segments
  readonly slotCount?: number; // sessions of a chain that it was made for
  readonly basis?: string; // see Placement
  readonly better?: Better; // left out: none was found
  readonly asleep?: Sleep; // why nothing of it runs; left out: it is to run
};

export type Action =
  | { readonly do: "create-rank"; readonly name: string; readonly assignment: Assignment; readonly revision?: string }
  | { readonly do: "delete-rank"; readonly name: string; readonly why: string }
  | { readonly do: "probe"; readonly chain: number; readonly isMeasure?: true };

/** A Kubernetes condition less its time, which the adapter adds only when the status turns. */
export type Condition = {
  readonly type: "Planned" | "WeightsReady" | "Ready" | "UpToDate";
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
};

/** A path of one session, by the segments' home chains: a chain may pass through a segment that another is at home in. */
export type Route = {
  readonly chain: number;
  readonly segments: readonly { readonly chain: number; readonly segment: number }[];
  readonly tokensPerSecond: number; // its share of what the plan expects
  readonly millisecondsPerToken: number; // one session alone
};

export type LeftOut = { readonly node: string; readonly code: string; readonly why: string };

export type Placement = {
  readonly assignments: readonly Assignment[];
  readonly leftOut: readonly LeftOut[];
  readonly routes?: readonly Route[]; // left out: every chain is its own segments
  readonly slotCount?: number; // that the planner chose where the spec leaves it to it
  readonly basis?: string; // digest of what it was chosen from: only where that changed is a better one looked for
  readonly better?: Better; // left out: none was found
  readonly estimate: {
    readonly millisecondsPerToken: number; // one session alone, of the slowest chain
    readonly bottleneck: string;
    readonly tokensPerSecond?: number; // of all chains together, at full batches
    readonly pricePerHour?: bigint; // micro-credits
    readonly isEstimated?: boolean; // some node or link was not measured
  };
};

export type Plan = {
  readonly revision: string;
  readonly placement: Placement | undefined; // undefined: nothing fits, the conditions say why
  readonly leaving?: Standing; // chains that the placement gives up and that drain beside it, with ranks that it has not
  readonly trial?: readonly Route[]; // that take the place of others once a request has gone through; over ranks of the placement
  readonly better?: Placement; // gains enough to be moved to, where that pauses nothing; see moving.ts
  readonly proposal?: { readonly revision: string; readonly placement: Placement; readonly approval: string }; // waits
  readonly asleep?: Sleep; // the plan in force stands, and nothing of it is to run
  readonly actions: readonly Action[];
  readonly conditions: readonly Condition[];
  readonly readyChainCount: number;
  readonly stuck?: readonly Stuck[]; // on nodes that are drained; left out: none
  readonly rolled?: Rolled;
};
