/**
 * Whether the receipts of one session fit together, and whose fault it is where they do not. Pure comparison of what
 * was signed: who calls this has checked the signatures. Used alike by whoever holds a saved answer and by the ledger.
 *
 * Both sides of every hand-off sign its root, so a lie shows at the edge where it was told. Where only two parties saw
 * an edge and say different things, the fault stays unclear between them: blaming one on the other's word alone would
 * make accusing a weapon. A third party's signature decides: a follower of either segment that sides with the other one.
 */
import type { Receipt, Usage } from "./statement.ts";
import { WHOLE_SHARE_MILLIONTHS } from "./statement.ts";

export type Blame = {
  /** `sender`: who handed the bytes over; `signer`: one party, proven by its own signature; `unclear`: one of several. */
  readonly kind: "sender" | "signer" | "unclear" | "nobody";
  readonly names: readonly string[]; // provider/<name>, gateway/<name>
};

export type ChainCode =
  | "SessionMismatch" // another session, nonce, model or epoch than the usage names
  | "IncompleteChain" // layers, ranks or shares missing, overlapping or twice
  | "MalformedReceipt" // a field that a rank at this place cannot truly sign
  | "RanksDisagree" // two ranks of one segment signed different roots of the same hand-offs
  | "BrokenChain" // two sides of an edge signed different roots
  | "CountMismatch"; // positions or tokens that are not those of the usage

export type Fault = {
  readonly code: ChainCode;
  readonly receipts: readonly number[]; // indexes that the fault is about, in order
  readonly suspects: readonly number[]; // those of them that are to blame, or may be: nobody pays for these
  readonly detail: string;
  readonly blame: Blame;
};

export const NOBODY: Blame = { kind: "nobody", names: [] };
export const SENDER: Blame = { kind: "sender", names: [] };

/** Every fault of the chain, in the order session, coverage, places, edges from first to last, counts. Empty: intact. */
export function chainFaults(receipts: readonly Receipt[], usage: Usage): readonly Fault[] {
  const sessions = sessionFaults(receipts, usage);
  const coverage = coverageFaults(receipts, usage);
  // Without a whole chain no edge has two sides, and every further complaint would only repeat the first.
  if (coverage.length > 0) return [...sessions, ...coverage];
  return [...sessions, ...placeFaults(receipts), ...edgeFaults(receipts, usage), ...countFaults(receipts, usage)];
}

const providerOf = (receipt: Receipt): string => `provider/${receipt.provider}`;
const gatewayOf = (usage: Usage): string => `gateway/${usage.gateway}`;
const signer = (name: string): Blame => ({ kind: "signer", names: [name] });
const oneOf = (...names: readonly string[]): Blame => {
  const distinct = [...new Set(names)];
  return { kind: distinct.length === 1 ? "signer" : "unclear", names: distinct };
};

/** `receipt 2 (provider campus, layers [4,8), rank 1 of 2)`. */
export function nameOfReceipt(receipt: Receipt, index: number): string {
  const { layers, rankIndex, rankCount } = receipt.shard;
  return `receipt ${index} (provider ${receipt.provider}, layers [${layers.start},${layers.end}), rank ${rankIndex} of ${rankCount})`;
}

function sessionFaults(receipts: readonly Receipt[], usage: Usage): readonly Fault[] {
  return receipts.flatMap((receipt, index) => {
    const pairs = [
      ["session", receipt.session.id, usage.session.id],
      ["nonce", receipt.session.nonce, usage.session.nonce],
      ["model name", receipt.model.name, usage.model.name],
      ["model root", receipt.model.root, usage.model.root],
      ["epoch", String(receipt.epoch), String(usage.epoch)],
    ] as const;
    return pairs
      .filter(([, signed, wanted]) => signed !== wanted)
      .map(
        ([what, signed, wanted]): Fault => ({
          code: "SessionMismatch",
          receipts: [index],
          suspects: [index],
          detail: `${nameOfReceipt(receipt, index)} is about ${what} ${signed}, and the usage about ${wanted}`,
          // The gateway told the rank all five, so either of them can be the one that says something else now.
          blame: oneOf(providerOf(receipt), gatewayOf(usage)),
        }),
      );
  });
}

function coverageFaults(receipts: readonly Receipt[], usage: Usage): readonly Fault[] {
  const all = receipts.map((_, index) => index);
  const fault = (detail: string): Fault => ({
    code: "IncompleteChain",
    receipts: all,
    suspects: [],
    detail,
    blame: NOBODY,
  });
  const first = receipts[0];
  if (first === undefined) return [fault("there are no receipts")];
  const faults: Fault[] = [];
  let layer = 0;
  let index = 0;
  for (let segment = 0; segment < first.segmentCount; segment += 1) {
    const leader = receipts[index];
    if (leader === undefined || leader.segmentIndex !== segment)
      return [...faults, fault(`the receipt of rank 0 of segment ${segment} is missing, or not at place ${index}`)];
    const { layers, rankCount } = leader.shard;
    if (layers.start !== layer)
      faults.push(fault(`segment ${segment} starts at layer ${layers.start}; layer ${layer} would be next`));
    layer = layers.end;
    let share = 0n;
    for (let rank = 0; rank < rankCount; rank += 1, index += 1) {
      const receipt = receipts[index];
      const fits =
        receipt !== undefined &&
        receipt.segmentIndex === segment &&
        receipt.segmentCount === first.segmentCount &&
        receipt.shard.rankIndex === rank &&
        receipt.shard.rankCount === rankCount &&
        receipt.shard.layers.start === layers.start &&
        receipt.shard.layers.end === layers.end;
      if (!fits)
        return [
          ...faults,
          fault(
            `the receipt of rank ${rank} of ${rankCount} of segment ${segment} is missing, or not at place ${index}`,
          ),
        ];
      share += receipt.shard.shareMillionths;
    }
    if (share !== WHOLE_SHARE_MILLIONTHS)
      faults.push(
        fault(`the slices of segment ${segment} sum to ${share} millionths, not to ${WHOLE_SHARE_MILLIONTHS}`),
      );
  }
  if (layer !== usage.model.layerCount)
    faults.push(fault(`the segments end at layer ${layer}; the model has ${usage.model.layerCount}`));
  if (index !== receipts.length)
    faults.push(fault(`${receipts.length - index} receipts more than the chain has ranks`));
  const names = new Set(receipts.map((receipt) => receipt.rank));
  if (names.size !== receipts.length) faults.push(fault("one rank signed for two places of the chain"));
  return faults;
}

/** What a rank cannot truly sign at its place: its own signature convicts it, whatever the others say. */
function placeFaults(receipts: readonly Receipt[]): readonly Fault[] {
  return receipts.flatMap((receipt, index) => {
    const lastSegment = receipt.segmentIndex === receipt.segmentCount - 1;
    const samples = lastSegment && receipt.shard.rankIndex === 0;
    const seesOut = !lastSegment || samples;
    const wrongs = [
      [receipt.span.start === 0 && receipt.previous === null, "must begin at position 0 with nothing before it"],
      [
        (receipt.handOffsOut !== "") === seesOut,
        seesOut ? "must sign what it handed off" : "signs tokens that only its leader can see",
      ],
      [samples || receipt.tokens.sampled === 0, "counts sampled tokens, and only the last segment's leader samples"],
      [
        (receipt.sampler !== null) === samples,
        samples ? "must say how it sampled" : "names a sampler, and only the last segment's leader samples",
      ],
    ] as const;
    return wrongs
      .filter(([holds]) => !holds)
      .map(
        ([, why]): Fault => ({
          code: "MalformedReceipt",
          receipts: [index],
          suspects: [index],
          detail: `${nameOfReceipt(receipt, index)} ${why}`,
          blame: signer(providerOf(receipt)),
        }),
      );
  });
}

/** What one party signed about an edge. `index` is undefined for the gateway. */
type Claim = {
  readonly index: number | undefined;
  readonly name: string;
  readonly label: string;
  readonly root: string;
};

function edgeFaults(receipts: readonly Receipt[], usage: Usage): readonly Fault[] {
  const segmentCount = receipts[0]?.segmentCount ?? 0;
  const claimsOf = (segment: number, rootOf: (receipt: Receipt) => string): readonly Claim[] =>
    receipts
      .map((receipt, index) => ({ receipt, index }))
      .filter(({ receipt }) => receipt.segmentIndex === segment && rootOf(receipt) !== "")
      .map(({ receipt, index }) => ({
        index,
        name: providerOf(receipt),
        label: nameOfReceipt(receipt, index),
        root: rootOf(receipt),
      }));
  const gateway = (root: string): readonly Claim[] => [
    { index: undefined, name: gatewayOf(usage), label: `the usage of gateway ${usage.gateway}`, root },
  ];
  const faults: Fault[] = [];
  for (let edge = 0; edge <= segmentCount; edge += 1) {
    const givers = edge === 0 ? gateway(usage.edges.in) : claimsOf(edge - 1, (receipt) => receipt.handOffsOut);
    const takers = edge === segmentCount ? gateway(usage.edges.out) : claimsOf(edge, (receipt) => receipt.handOffsIn);
    faults.push(...disagreements(givers, `gave at edge ${edge}`), ...disagreements(takers, `took at edge ${edge}`));
    faults.push(...acrossEdge(edge, givers, takers));
  }
  return faults;
}

/**
 * Ranks of one segment. Always unclear: a follower hashes what its leader gave it, and the all-reduced sums are made of
 * what each rank sent to each, so either could have shown the other something else.
 */
function disagreements(claims: readonly Claim[], did: string): readonly Fault[] {
  const [leader, ...followers] = claims;
  if (leader === undefined) return [];
  return followers
    .filter((follower) => follower.root !== leader.root)
    .map((follower) => ({
      code: "RanksDisagree",
      ...about([leader, follower], [leader, follower]),
      detail: `${leader.label} and ${follower.label} signed different hashes of what their segment ${did}`,
      blame: oneOf(leader.name, follower.name),
    }));
}

function acrossEdge(edge: number, givers: readonly Claim[], takers: readonly Claim[]): readonly Fault[] {
  const [giver, ...besideGiver] = givers;
  const [taker, ...besideTaker] = takers;
  if (giver === undefined || taker === undefined || giver.root === taker.root) return [];
  // Attacker: a follower of the accuser's own provider is no third party.
  const third = (claim: Claim) => claim.name !== giver.name && claim.name !== taker.name;
  const againstGiver = besideGiver.some((claim) => third(claim) && claim.root === taker.root);
  const againstTaker = besideTaker.some((claim) => third(claim) && claim.root === giver.root);
  const suspects = againstGiver === againstTaker ? [giver, taker] : againstGiver ? [giver] : [taker];
  return [
    {
      code: "BrokenChain",
      ...about([giver, taker], suspects),
      detail: `edge ${edge}: ${giver.label} gave ${shortOf(giver.root)}, ${taker.label} took ${shortOf(taker.root)}`,
      blame: oneOf(...suspects.map((suspect) => suspect.name)),
    },
  ];
}

const about = (claims: readonly Claim[], suspects: readonly Claim[]) => ({
  receipts: claims.flatMap((claim) => claim.index ?? []),
  suspects: suspects.flatMap((claim) => claim.index ?? []),
});

const shortOf = (digest: string): string => `${digest.slice(0, "sha256:".length + 12)}…`;

/** Never pay from a number that only the payee wrote: positions and tokens count only as the gateway countersigned them. */
function countFaults(receipts: readonly Receipt[], usage: Usage): readonly Fault[] {
  const { prompt, generated } = usage.tokens;
  const total = prompt + generated;
  // The token sampled last is fed back only if one more was wanted.
  const allowed = generated === 0 ? [prompt] : [total - 1, total];
  const faults: Fault[] = [];
  const reference = receipts.findIndex((receipt) => allowed.includes(receipt.tokens.positions));
  receipts.forEach((receipt, index) => {
    const label = nameOfReceipt(receipt, index);
    const wrong = (detail: string): Fault => ({
      code: "CountMismatch",
      receipts: [index],
      suspects: [index],
      detail,
      blame: oneOf(providerOf(receipt), gatewayOf(usage)),
    });
    const { positions, sampled } = receipt.tokens;
    if (!allowed.includes(positions))
      faults.push(
        wrong(
          `${label} counts ${positions} positions; the usage's ${prompt} prompt and ${generated} generated tokens need ${allowed.join(" or ")}`,
        ),
      );
    if (allowed.includes(positions) && positions !== receipts[reference]?.tokens.positions)
      faults.push(
        wrong(
          `${label} counts ${positions} positions; receipt ${reference} counts ${receipts[reference]?.tokens.positions}`,
        ),
      );
    const samples = receipt.sampler !== null;
    if (samples && sampled !== generated)
      faults.push(wrong(`${label} sampled ${sampled} tokens; the usage bills ${generated}`));
  });
  return faults;
}
