import { expect } from "chai";
import { digestOf } from "./digest.ts";
import { chainFaults } from "./receipt-chain.ts";
import { type SessionOptions, aSession } from "./session-fixture.ts";
import type { Receipt } from "./statement.ts";

const other = digestOf(new TextEncoder().encode("something else"));
const at = (wanted: number, change: (receipt: Receipt) => Receipt) => (receipt: Receipt, index: number) =>
  index === wanted ? change(receipt) : receipt;

/** Segment 1 has two followers of other providers, so that third parties can side with either. */
const segments = [
  { layers: [0, 4], ranks: [{ provider: "ann" }, { provider: "bea" }] },
  { layers: [4, 8], ranks: [{ provider: "cid" }, { provider: "dan" }] },
] as const;

/** code, whose blame, and the indexes that are not paid. */
function show(options: SessionOptions): readonly string[] {
  const { receipts, usage } = aSession({ segments, ...options });
  return chainFaults(receipts, usage).map(
    (fault) => `${fault.code} ${fault.blame.kind} ${fault.blame.names.join(",")} [${fault.suspects.join()}]`,
  );
}

const cases: readonly (readonly [string, SessionOptions, readonly string[]])[] = [
  ["an honest chain has no faults", {}, []],
  [
    "a leader that hands off something else than it and its follower computed is convicted by the follower",
    { alter: at(0, (r) => ({ ...r, handOffsOut: other })) },
    ["RanksDisagree unclear provider/ann,provider/bea [0,1]", "BrokenChain signer provider/ann [0]"],
  ],
  [
    "a leader that says it took something else is convicted by its own follower",
    { alter: at(2, (r) => ({ ...r, handOffsIn: other })) },
    ["RanksDisagree unclear provider/cid,provider/dan [2,3]", "BrokenChain signer provider/cid [2]"],
  ],
  [
    "where no third party saw the edge, either side may be the liar",
    {
      segments: [
        { layers: [0, 4], ranks: [{ provider: "ann" }] },
        { layers: [4, 8], ranks: [{ provider: "cid" }] },
      ],
      alter: at(0, (r) => ({ ...r, handOffsOut: other })),
    },
    ["BrokenChain unclear provider/ann,provider/cid [0,1]"],
  ],
  [
    "a second rank of the accuser's provider is no third party",
    {
      segments: [
        { layers: [0, 4], ranks: [{ provider: "ann" }] },
        { layers: [4, 8], ranks: [{ provider: "cid" }, { provider: "ann" }] },
      ],
      alter: at(1, (r) => ({ ...r, handOffsIn: other })),
    },
    ["RanksDisagree unclear provider/cid,provider/ann [1,2]", "BrokenChain unclear provider/ann,provider/cid [0,1]"],
  ],
  [
    "a follower against its leader stays unclear: it hashed what the leader gave it",
    { alter: at(3, (r) => ({ ...r, handOffsIn: other })) },
    ["RanksDisagree unclear provider/cid,provider/dan [2,3]"],
  ],
  [
    "what the gateway says it gave counts as one side",
    { alterUsage: (usage) => ({ ...usage, edges: { ...usage.edges, in: other } }) },
    ["BrokenChain unclear gateway/gateway-0,provider/ann [0]"],
  ],
  [
    "tokens that the gateway did not get",
    { alter: at(2, (r) => ({ ...r, handOffsOut: other })) },
    ["BrokenChain unclear provider/cid,gateway/gateway-0 [2]"],
  ],
  [
    "another nonce",
    { alter: at(1, (r) => ({ ...r, session: { ...r.session, nonce: "0".repeat(64) } })) },
    ["SessionMismatch unclear provider/bea,gateway/gateway-0 [1]"],
  ],
  [
    "another model root",
    { alter: at(1, (r) => ({ ...r, model: { ...r.model, root: other } })) },
    ["SessionMismatch unclear provider/bea,gateway/gateway-0 [1]"],
  ],
  [
    "another epoch",
    { alter: at(1, (r) => ({ ...r, epoch: 412 })) },
    ["SessionMismatch unclear provider/bea,gateway/gateway-0 [1]"],
  ],
  [
    "a gap in the layers",
    {
      segments: [
        { layers: [0, 4], ranks: [{ provider: "ann" }] },
        { layers: [5, 8], ranks: [{ provider: "cid" }] },
      ],
    },
    ["IncompleteChain nobody  []"],
  ],
  [
    "layers twice",
    {
      segments: [
        { layers: [0, 5], ranks: [{ provider: "ann" }] },
        { layers: [4, 8], ranks: [{ provider: "cid" }] },
      ],
    },
    ["IncompleteChain nobody  []"],
  ],
  [
    "a model with more layers",
    { alterUsage: (usage) => ({ ...usage, model: { ...usage.model, layerCount: 9 } }) },
    ["IncompleteChain nobody  []"],
  ],
  [
    "shares that sum to more than the whole",
    { alter: at(1, (r) => ({ ...r, shard: { ...r.shard, shareMillionths: 600_000n } })) },
    ["IncompleteChain nobody  []"],
  ],
  [
    "one rank at two places",
    { alter: at(1, (r) => ({ ...r, rank: "default/assistant-0-0-0" })) },
    ["IncompleteChain nobody  []"],
  ],
  [
    "a follower that counts sampled tokens",
    { alter: at(3, (r) => ({ ...r, tokens: { ...r.tokens, sampled: 3 } })) },
    ["MalformedReceipt signer provider/dan [3]"],
  ],
  [
    "a follower that signs tokens it cannot see",
    { alter: at(3, (r) => ({ ...r, handOffsOut: other })) },
    ["MalformedReceipt signer provider/dan [3]", "RanksDisagree unclear provider/cid,provider/dan [2,3]"],
  ],
  [
    "a last leader that hides how it sampled",
    { alter: at(2, (r) => ({ ...r, sampler: null })) },
    ["MalformedReceipt signer provider/cid [2]"],
  ],
  [
    "a rank that counts more positions than the gateway bills",
    { alter: at(1, (r) => ({ ...r, span: { start: 0, end: 9 }, tokens: { positions: 9, sampled: 0 } })) },
    ["CountMismatch unclear provider/bea,gateway/gateway-0 [1]"],
  ],
  [
    "a rank that counts one position more than its neighbours",
    { alter: at(1, (r) => ({ ...r, span: { start: 0, end: 6 }, tokens: { positions: 6, sampled: 0 } })) },
    ["CountMismatch unclear provider/bea,gateway/gateway-0 [1]"],
  ],
  [
    "a gateway that bills more than was sampled",
    { alterUsage: (usage) => ({ ...usage, tokens: { prompt: 3, generated: 4 } }) },
    [0, 1, 2, 2, 3].map(
      (index) => `CountMismatch unclear provider/${["ann", "bea", "cid", "dan"][index]},gateway/gateway-0 [${index}]`,
    ),
  ],
];

describe("a chain of receipts", () => {
  for (const [name, options, want] of cases) it(name, () => expect(show(options)).to.deep.equal(want));

  it("misses a receipt wherever it is taken out", () => {
    const { receipts, usage } = aSession({ segments });
    for (let index = 0; index < receipts.length; index += 1) {
      const faults = chainFaults(
        receipts.filter((_, other) => other !== index),
        usage,
      );
      expect(
        faults.map((fault) => fault.code),
        `without ${index}`,
      ).to.include("IncompleteChain");
    }
  });

  it("wants the receipts in the chain's order", () => {
    const { receipts, usage } = aSession({ segments });
    expect(chainFaults([...receipts].reverse(), usage).map((fault) => fault.code)).to.deep.equal(["IncompleteChain"]);
  });

  it("has a chain for a session that was closed before a token came", () =>
    expect(show({ generated: [] })).to.deep.equal([]));
});
